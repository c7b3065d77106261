"""What is known of the data set: its counts, its audit, and pictures of its chips, where it still lies."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from rsft.data.chips.store import DATASET, MANIFEST, SPLITS, ChipStore
from rsft.data.loading.datamodule import ChipImages
from rsft.errors import RequestError
from rsft.evaluation.report.run_files import RunFiles, read_models
from rsft.evaluation.report.schema import Audit
from rsft.models.bundle.bundle import Bundle
from rsft.types import GROUPS, Progress
from rsft.utils.atomic_files import sha256

AUDIT = "audit.json"
QUALITY = 72  # of WebP, 0-100
MOST_CLASSES = 24  # beyond, chips are counted by group


@dataclass(frozen=True)
class DataSet:
    """What the chip store says.

    Attributes:
        splits: those that have chips.
        kind: what a row is, "class" or "group".
        rows: its name, then chips by split.
        command: that makes the store again; "" where it does not say.
        altered: whether its manifest is not the one that the run was trained on; None where that is not known.
        audit: None where none was made.
    """

    name: str
    root: str
    splits: list[str]
    kind: str
    rows: list[tuple[str, list[int]]]
    skipped: dict[str, int]
    rejected: int
    command: str
    altered: bool | None
    audit: Audit | None


def open_store(run: RunFiles, root: Path | None) -> ChipStore:
    """The chip store of a run: at `root`, else where it was evaluated or trained.

    Raises:
        RequestError: there is none.
        DataError: it is damaged.
    """
    places = [root] if root else [Path(run.data), Path(run.facts.data.get("root", run.recipe.data.root))]
    place = next((place for place in places if (place / MANIFEST).is_file()), places[0])
    return ChipStore.open(place)


def describe_store(run: RunFiles, store: ChipStore) -> DataSet:
    """The store in numbers.

    Raises:
        DataError: a file of it is damaged.
    """
    splits = [name for name in SPLITS if not store.split(name).empty]
    column = "class" if len(store.classes) <= MOST_CLASSES else "group"
    names = store.classes if column == "class" else GROUPS
    counts = [store.split(split)[column].value_counts() for split in splits]
    known = run.facts.data.get("manifest_sha256")
    audits = read_models(store.root / AUDIT, Audit) if (store.root / AUDIT).is_file() else []
    return DataSet(
        name=store.name,
        root=str(store.root),
        splits=splits,
        kind=column,
        rows=[(name, [int(count.get(name, 0)) for count in counts]) for name in names],
        skipped=store.skipped,
        rejected=store.rejected,
        command=str(json.loads((store.root / DATASET).read_text("utf-8")).get("command", "")),
        altered=None if known is None else known != sha256(store.root / MANIFEST),
        audit=audits[0] if audits else None,
    )


class Pictures:
    """Evaluated chips as the network sees them: cropped, resized and stretched by the run's contract.

    Raises:
        RsftError: the bundle or a chip cannot be read, or a class or the split is not in the store.
    """

    def __init__(self, run: RunFiles, store: ChipStore, progress: Progress | None = None) -> None:
        bundle = Bundle.load(run.folder / "bundle")
        table = store.split(run.evaluation.split if run.evaluation else "val")
        if table.empty or set(table["class"]) - set(bundle.classes):
            raise RequestError("the chips are not those of the run", store.root, "say where they are with --data")
        self.images = ChipImages(store.root, table, bundle.classes, bundle.contract, progress).images
        self.places = {path: index for index, path in enumerate(table["path"])}
        self.planes = _shown(bundle.contract.planes)
        names = [bundle.contract.planes[plane] for plane in self.planes]
        self.words = ", ".join(dict.fromkeys(names))

    def has(self, path: str) -> bool:
        """Whether there is a chip of that path."""
        return path in self.places

    def picture(self, path: str, side: int) -> str:
        """One chip, at most `side` pixels wide, as a data URI."""
        return _encode(self._image(path, side))

    def sheet(self, paths: Sequence[str], side: int, columns: int) -> str:
        """Chips of `side` pixels in rows of `columns`, as one data URI; black where there is no chip of a path."""
        rows = -(-len(paths) // columns)
        sheet = np.zeros((rows * side, columns * side, 3), np.uint8)
        for place, path in enumerate(paths):
            top, left = (side * index for index in divmod(place, columns))
            if self.has(path):
                sheet[top : top + side, left : left + side] = self._image(path, side, exact=True)
        return _encode(sheet)

    def _image(self, path: str, side: int, exact: bool = False) -> NDArray[np.uint8]:
        """(side, side, 3), B, G, R; a smaller chip as it is, unless `exact`."""
        image = np.ascontiguousarray(self.images[self.places[path]][:, :, self.planes[::-1]])
        if exact or image.shape[0] > side:
            image = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
        return image


def _shown(planes: Sequence[str]) -> list[int]:
    """Three planes that stand for red, green and blue: those so called, Sentinel-2's, or the first one three times."""
    for names in (("R", "G", "B"), ("red", "green", "blue"), ("B04", "B03", "B02"), ("B4", "B3", "B2")):
        if set(names) <= set(planes):
            return [planes.index(name) for name in names]
    return [0, 0, 0]


def _encode(image: NDArray[np.uint8]) -> str:
    data = cv2.imencode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, QUALITY])[1].tobytes()
    return f"data:image/webp;base64,{base64.b64encode(data).decode()}"
