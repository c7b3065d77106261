"""Find the images and label files of DOTA in three layouts.

The layouts are the folder tree of TorchGeo, the published archives, and images/ beside labelTxt/.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from rsft.data.datasets._text import read_numbered_lines
from rsft.data.imagery.reader import IMAGE_SUFFIXES
from rsft.errors import DataError
from rsft.types import Rejection

_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_VERSION = re.compile(r"(?:version|v)[-_ ]?(\d\.\d)", re.IGNORECASE)
_HORIZONTAL = re.compile(r"hbb|reclabel", re.IGNORECASE)  # folders with horizontal boxes of the same objects
_LABEL_FOLDER = re.compile(r"label|annotation", re.IGNORECASE)
_LABEL_LINE = re.compile(r"(imagesource|gsd)\b|([-+.\de]+\s+){8}\S", re.IGNORECASE)  # a header, or a box and a class

Key = tuple[str, str]
"""Split and file stem."""


class DOTATree:
    """The pairs of image and label file below a folder.

    An image and its label file have the same split and stem; their folders do not matter. The split is that of the
    nearest parent folder called train, val or test, or "" if no parent has such a name. Label files of other versions
    or with horizontal boxes are skipped. Other text files are skipped if they have no image of the same name, are in no
    label folder, and do not begin like a label file.

    Args:
        root: the folder.
        version: version of the label files.

    Attributes:
        pairs: image and label file by split and stem, sorted.
        skipped: number of skipped text files and of images without a label file, by reason.
        rejected: label files without an image, and files that repeat a split and stem.
    """

    def __init__(self, root: Path, version: str) -> None:
        self.root, self.version = root, version
        self.skipped: Counter[str] = Counter()
        self.rejected: list[Rejection] = []
        files = sorted(path for path in root.rglob("*") if path.is_file()) if root.is_dir() else []
        images = self._by_key([path for path in files if path.suffix.lower() in IMAGE_SUFFIXES])
        labels = self._by_key(
            [path for path in files if path.suffix.lower() == ".txt" and self._is_label_file(path, images)]
        )
        self.pairs = {key: (images[key], labels[key]) for key in sorted(images.keys() & labels.keys())}
        for key in sorted(labels.keys() - images.keys()):
            self.rejected.append((str(labels[key]), 0, f"image {labels[key].stem} is missing"))
        unlabeled = len(images.keys() - labels.keys())
        if unlabeled:
            self.skipped["image without a label file"] = unlabeled

    def _is_label_file(self, path: Path, images: Mapping[Key, Path]) -> bool:
        folders = "/".join(path.relative_to(self.root).parts[:-1])
        versions = _VERSION.findall(folders)
        if not (self._key(path) in images or _LABEL_FOLDER.search(folders) or _begins_like_labels(path)):
            self.skipped["text file that is not a label file"] += 1
        elif versions and versions[-1] != self.version:
            self.skipped[f"label file of v{versions[-1]}"] += 1
        elif _HORIZONTAL.search(folders):
            self.skipped["label file of horizontal boxes"] += 1
        else:
            return True
        return False

    def _key(self, path: Path) -> Key:
        nearest_first = path.relative_to(self.root).parts[-2::-1]
        split = next((_SPLITS[name.lower()] for name in nearest_first if name.lower() in _SPLITS), "")
        return split, path.stem

    def _by_key(self, paths: list[Path]) -> dict[Key, Path]:
        path_by_key: dict[Key, Path] = {}
        for path in paths:
            first = path_by_key.setdefault(self._key(path), path)
            if first != path:
                self.rejected.append((str(path), 0, f"{path.stem} exists already: {first}"))
        return path_by_key


def _begins_like_labels(path: Path) -> bool:
    try:
        return any(_LABEL_LINE.match(line) for _, line in read_numbered_lines(path)[:1])
    except DataError:  # not a text file
        return False
