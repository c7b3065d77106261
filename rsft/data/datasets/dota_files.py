"""Find the images of DOTA and their label files."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from rsft.data.datasets.formats.box_labels import has_box
from rsft.data.datasets.formats.text_files import SourceReport, find_split
from rsft.data.imagery.reader import IMAGE_SUFFIXES
from rsft.utils.operating_system import walk_files

DOTAVersion = Literal["1.0", "1.5", "2.0"]

Key = tuple[str, str]
"""Split and file stem. The split is "" if no folder gives it."""

_VERSION = re.compile(r"(?:version|v)[-_ ]?(\d\.\d)", re.IGNORECASE)
_HORIZONTAL = re.compile(r"hbb|reclabel", re.IGNORECASE)
"""Folders with horizontal boxes of the same objects."""
_LABEL_FOLDER = re.compile(r"label|annotation", re.IGNORECASE)


class DOTATree(SourceReport):
    """The pairs of image and label file below a folder.

    An image and its label file have the same split and stem; their folders do not
    matter. The split is that of the nearest parent folder called train, val or test.
    Label files of other versions or with horizontal boxes are skipped. Other text files
    are skipped if they have no image of the same name, are in no label folder, and
    have no box. Of the copies of a file in folders of several versions,
    one is taken: that of TorchGeo.

    Attributes:
        pairs: image and label file by key, sorted.
        skipped: number of files left out on purpose, by reason.
        rejected: label files without an image, and files that repeat a key.
    """

    def __init__(self, root: Path, version: DOTAVersion) -> None:
        super().__init__()
        self.root = root
        self.version = version
        image_paths = []
        texts = []
        for path in filter(Path.is_file, sorted(map(Path, walk_files(root)))):
            if path.suffix.lower() in IMAGE_SUFFIXES:
                image_paths.append(path)
            elif path.suffix.lower() == ".txt":
                texts.append(path)
        # v1.5 has the images of v1.0 and v2.0 adds some: prefer images in no folder of
        # a version, then the lowest one
        images = self._choose_files(
            image_paths,
            lambda versions: (bool(versions), versions[-1:] > [version], versions),
        )
        # the archives of TorchGeo may repeat older versions: prefer label files in the
        # archive of their version
        labels = self._choose_files(
            [path for path in texts if self._is_label_file(path, images)],
            lambda versions: (versions[:1] != [version], len(versions)),
        )
        self.pairs: dict[Key, tuple[Path, Path]] = {}
        for key, label_file in sorted(labels.items()):
            if key in images:
                self.pairs[key] = (images[key], label_file)
            else:
                self.reject(label_file, f"image {label_file.stem} is missing")
        self.skipped["image without a label file"] = len(images) - len(self.pairs)
        self.skipped = +self.skipped

    def _is_label_file(self, path: Path, images: Mapping[Key, Path]) -> bool:
        folders = self._folders(path)
        versions = _VERSION.findall(folders)
        has_place = self._key(path) in images or _LABEL_FOLDER.search(folders)
        if not has_place and not has_box(path):
            self.skipped["text file that is not a label file"] += 1
        elif versions and versions[-1] != self.version:
            self.skipped[f"label file of v{versions[-1]}"] += 1
        elif _HORIZONTAL.search(folders):
            self.skipped["label file of horizontal boxes"] += 1
        else:
            return True
        return False

    def _folders(self, path: Path) -> str:
        return path.relative_to(self.root).parent.as_posix()

    def _key(self, path: Path) -> Key:
        return find_split(path, self.root), path.stem

    def _choose_files(
        self, paths: list[Path], preference: Callable[[list[str]], Any]
    ) -> dict[Key, Path]:
        """Return one path per key: the first one with the lowest preference.

        Args:
            paths: the files.
            preference: preference by the versions in the names of the folders; the
                archive of a version has one too.
        """
        versions = {path: _VERSION.findall(self._folders(path)) for path in paths}
        chosen: dict[Key, Path] = {}
        for path in sorted(paths, key=lambda path: (preference(versions[path]), path)):
            first = chosen.setdefault(self._key(path), path)
            if versions[path] != versions[first]:
                self.skipped["file that the folder of another version repeats"] += 1
            elif path != first:
                self.reject(path, f"{path.stem} exists already: {first}")
        return chosen
