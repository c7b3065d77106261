"""The lists of Places-LT."""

from __future__ import annotations

from pathlib import Path

from rsft.plugins.natural_images.list_files import PLACES_LT, ListFiles
from tests.fuzz.mutate import mutate_text
from tests.fuzz.target import Target
from tests.plugins.natural_images.cifar_data import write_folders


def _build(folder: Path) -> None:
    write_folders(folder, {"data/a": 2, "data/b": 1})
    rows = "data/a/0.png 0\ndata/a/1.png 0\ndata/b/0.png 1\n"
    (folder / "Places_LT_train.txt").write_text(rows)


def _read(folder: Path) -> None:
    ListFiles(PLACES_LT, folder)


TARGETS = [
    Target("places_lists", _build, {"Places_LT_train.txt": mutate_text}, _read),
]
