"""Find the images and label files of DOTA: through TorchGeo's DOTA, or in a plain folder tree."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torchgeo.datasets import DOTA

from rsft.data.datasets._text import read_numbered_lines
from rsft.data.imagery.reader import IMAGE_SUFFIXES
from rsft.errors import DataError
from rsft.types import Rejection

_TORCHGEO_SPLITS: tuple[Literal["train"], Literal["val"]] = ("train", "val")
_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_VERSION = re.compile(r"(?:version|v)[-_ ]?(\d\.\d)", re.IGNORECASE)
_HORIZONTAL = re.compile(r"hbb|reclabel", re.IGNORECASE)  # folders with horizontal boxes of the same objects
_LABEL_FOLDER = re.compile(r"label|annotation", re.IGNORECASE)
_LABEL_LINE = re.compile(r"(imagesource|gsd)\b|([-+.\de]+\s+){8}\S", re.IGNORECASE)  # a header, or a box and a class

DOTASplit = Literal["train", "val", "test", "all"]
DOTAVersion = Literal["1.0", "1.5", "2.0"]

Key = tuple[str, str]
"""Split and file stem."""


@dataclass
class DOTAPairs:
    """The images of DOTA with their label files.

    Attributes:
        pairs: image and label file by split and stem, sorted. The split is "" if no folder gives it.
        skipped: number of files left out on purpose, by reason.
        rejected: label files without an image, and files that repeat a split and stem.
    """

    pairs: dict[Key, tuple[Path, Path]] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)
    rejected: list[Rejection] = field(default_factory=list)


def find_torchgeo_pairs(
    root: Path, split: DOTASplit, version: DOTAVersion, download: bool, checksum: bool
) -> DOTAPairs:
    """Return the files that `torchgeo.datasets.DOTA` names.

    Args:
        root: the folder.
        split: train, val or test; "all" for all splits.
        version: version of the label files.
        download: let TorchGeo download and extract the files, if they are not in `root`.
        checksum: let TorchGeo check the downloaded files.

    Returns:
        The files of the splits that are in `root` as TorchGeo extracts them; empty if none is.
    """
    result = DOTAPairs()
    for name in _TORCHGEO_SPLITS:
        if split in (name, "all") and (download or _is_extracted(root, name, version)):
            dataset: Any = DOTA(root, name, version, download=download, checksum=checksum)
            for image, labels in zip(
                dataset.sample_df["image_path"], dataset.sample_df["annotation_path"], strict=True
            ):
                result.pairs[name, Path(image).stem] = root / image, root / labels
    return result


def _is_extracted(root: Path, split: str, version: str) -> bool:
    """Return whether TorchGeo finds the files; otherwise it would extract archives into `root`."""
    folders = root / split / "images", root / split / "annotations" / f"version{version}"
    return (root / DOTA.sample_df_path).is_file() and all(folder.is_dir() for folder in folders)


def find_tree_pairs(root: Path, split: DOTASplit, version: str) -> DOTAPairs:
    """Return the pairs of image and label file below a folder.

    An image and its label file have the same split and stem; their folders do not matter. The split is that of the
    nearest parent folder called train, val or test. Label files of other versions or with horizontal boxes are skipped.
    Other text files are skipped if they have no image of the same name, are in no label folder, and do not begin like a
    label file. Of the copies of a file in folders of several versions, one is taken: that of TorchGeo.

    Args:
        root: the folder.
        split: train, val or test; "all" for all images.
        version: version of the label files.

    Returns:
        The pairs.
    """
    return _Tree(root, split, version).result


class _Tree:
    """The search of `find_tree_pairs`."""

    def __init__(self, root: Path, split: DOTASplit, version: str) -> None:
        self.root, self.version, self.result = root, version, DOTAPairs()
        files = sorted(path for path in root.rglob("*") if path.is_file()) if root.is_dir() else []
        files = [path for path in files if split in (self._key(path)[0], "all")]
        images = self._by_key(
            [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES], _image_preference(version)
        )
        labels = self._by_key(
            [path for path in files if path.suffix.lower() == ".txt" and self._is_label_file(path, images)],
            _label_preference(version),
        )
        self.result.pairs = {key: (images[key], labels[key]) for key in sorted(images.keys() & labels.keys())}
        for key in sorted(labels.keys() - images.keys()):
            self.result.rejected.append((str(labels[key]), 0, f"image {labels[key].stem} is missing"))
        unlabeled = len(images.keys() - labels.keys())
        if unlabeled:
            self.result.skipped["image without a label file"] = unlabeled

    def _is_label_file(self, path: Path, images: Mapping[Key, Path]) -> bool:
        folders, versions = "/".join(path.relative_to(self.root).parts[:-1]), self._versions(path)
        skipped = self.result.skipped
        if not (self._key(path) in images or _LABEL_FOLDER.search(folders) or _begins_like_labels(path)):
            skipped["text file that is not a label file"] += 1
        elif versions and versions[-1] != self.version:
            skipped[f"label file of v{versions[-1]}"] += 1
        elif _HORIZONTAL.search(folders):
            skipped["label file of horizontal boxes"] += 1
        else:
            return True
        return False

    def _versions(self, path: Path) -> list[str]:
        """Return the versions in the names of the folders; the archive of a version has one too."""
        return _VERSION.findall("/".join(path.relative_to(self.root).parts[:-1]))

    def _key(self, path: Path) -> Key:
        nearest_first = path.relative_to(self.root).parts[-2::-1]
        split = next((_SPLITS[name.lower()] for name in nearest_first if name.lower() in _SPLITS), "")
        return split, path.stem

    def _by_key(self, paths: list[Path], preference: Callable[[list[str]], Any]) -> dict[Key, Path]:
        """Return one path per key: the first one with the lowest preference."""
        candidates = defaultdict[Key, list[Path]](list)
        for path in paths:
            candidates[self._key(path)].append(path)
        best = {}
        for key, group in candidates.items():
            best[key], *others = sorted(group, key=lambda path: preference(self._versions(path)))
            for path in others:
                if self._versions(path) != self._versions(best[key]):
                    self.result.skipped["file that the folder of another version repeats"] += 1
                else:
                    self.result.rejected.append((str(path), 0, f"{path.stem} exists already: {best[key]}"))
        return best


def _image_preference(version: str) -> Callable[[list[str]], tuple[bool, bool, list[str]]]:
    """Prefer images in no folder of a version, then the lowest version: v1.5 has the images of v1.0, v2.0 adds some."""
    return lambda versions: (bool(versions), versions[-1:] > [version], versions)


def _label_preference(version: str) -> Callable[[list[str]], tuple[bool, int]]:
    """Prefer label files in the archive of their version: the archives of TorchGeo may repeat older versions."""
    return lambda versions: (versions[:1] != [version], len(versions))


def _begins_like_labels(path: Path) -> bool:
    try:
        return any(_LABEL_LINE.match(line) for _, line in read_numbered_lines(path)[:1])
    except DataError:  # not a text file
        return False
