"""Where the images and label files of DOTA lie: TorchGeo's tree, the archives as published, or a plain one."""

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
_HORIZONTAL = re.compile(r"hbb|reclabel", re.IGNORECASE)  # folders with the same objects in horizontal boxes
_LABEL_FOLDER = re.compile(r"label|annotation", re.IGNORECASE)
_LABEL_LINE = re.compile(r"(imagesource|gsd)\b|([-+.\de]+\s+){8}\S", re.IGNORECASE)  # a header, or a box and a class

Key = tuple[str, str]  # split, stem


class DOTATree:
    """The files under `root`; an image and its label file share split and stem, wherever they lie.

    The split is that of the nearest folder called train, val or test, "" where there is none. Label files in folders of
    another version than `version`, or of horizontal boxes, are left out, and so are text files of another kind: without
    an image, in no folder of labels, and not beginning like a label file.

    Attributes:
        pairs: image and label file, by split and stem, sorted.
        skipped: text files left out and images without a label file, by reason.
        rejected: label files without an image, and second files of one split and stem.
    """

    def __init__(self, root: Path, version: str) -> None:
        self.root, self.version = root, version
        self.skipped: Counter[str] = Counter()
        self.rejected: list[Rejection] = []
        files = sorted(path for path in root.rglob("*") if path.is_file()) if root.is_dir() else []
        images = self._by_key([path for path in files if path.suffix.lower() in IMAGE_SUFFIXES])
        labels = self._by_key([path for path in files if path.suffix.lower() == ".txt" and self._wanted(path, images)])
        self.pairs = {key: (images[key], labels[key]) for key in sorted(images.keys() & labels.keys())}
        for key in sorted(labels.keys() - images.keys()):
            self.rejected.append((str(labels[key]), 0, f"there is no image {labels[key].stem}"))
        bare = len(images.keys() - labels.keys())
        if bare:
            self.skipped["image without a label file"] = bare

    def _wanted(self, path: Path, images: Mapping[Key, Path]) -> bool:
        folders = "/".join(path.relative_to(self.root).parts[:-1])
        versions = _VERSION.findall(folders)
        if not (self._key(path) in images or _LABEL_FOLDER.search(folders) or _begins_like_labels(path)):
            self.skipped["text file that is no label file"] += 1
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
        found: dict[Key, Path] = {}
        for path in paths:
            first = found.setdefault(self._key(path), path)
            if first != path:
                self.rejected.append((str(path), 0, f"there is a second {path.stem}: {first}"))
        return found


def _begins_like_labels(path: Path) -> bool:
    try:
        return any(_LABEL_LINE.match(line) for _, line in read_numbered_lines(path)[:1])
    except DataError:  # no text
        return False
