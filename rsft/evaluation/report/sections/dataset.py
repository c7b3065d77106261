"""What the chip store says about the data of a run: counts, audit, and pictures of chips."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from rsft.data.audit.findings import AUDIT_FILE, AuditResult
from rsft.data.chips.store import DATASET, MANIFEST, SPLITS, ChipStore
from rsft.data.loading.datamodule import ChipImages
from rsft.errors import RequestError
from rsft.evaluation.report.run_files import RunFiles, read_json_list
from rsft.models.bundle.bundle import Bundle
from rsft.types import GROUPS, Progress
from rsft.utils.atomic_files import sha256

WEBP_QUALITY = 72
MAX_CLASSES = 24
"""With more classes, chips are counted by group."""

RGB_PLANES = (("R", "G", "B"), ("red", "green", "blue"), ("B04", "B03", "B02"), ("B4", "B3", "B2"))
"""Names of the planes that are shown as red, green and blue; the last two are those of Sentinel-2."""


@dataclass(frozen=True)
class DatasetSummary:
    """The chip store in numbers.

    Attributes:
        name, root: of the chip store.
        splits: the splits that have chips.
        row_kind: what a row is: "class" or "group".
        rows: name, and number of chips by split.
        skipped: number of inputs by the reason for which they were left out on purpose.
        rejected: number of inputs that could not be used.
        command: the command that made the store; "" if unknown.
        altered: whether the manifest differs from the one that the run was trained on; None if unknown.
        audit: None if the store was not audited.
    """

    name: str
    root: str
    splits: list[str]
    row_kind: str
    rows: list[tuple[str, list[int]]]
    skipped: dict[str, int]
    rejected: int
    command: str
    altered: bool | None
    audit: AuditResult | None


def open_chip_store(run: RunFiles, root: Path | None) -> ChipStore:
    """Open the chip store of a run.

    Args:
        run: its files.
        root: where the chip store is now; None for where it was when the run was evaluated or trained.

    Returns:
        The chip store.

    Raises:
        RequestError: no chip store is there.
        DataError: it is damaged.
    """
    trained_on = Path(run.metadata.data.get("root", run.recipe.data.root))
    candidates = [root] if root else [Path(run.data), trained_on]
    return ChipStore.open(next((path for path in candidates if (path / MANIFEST).is_file()), candidates[0]))


def summarize_store(run: RunFiles, store: ChipStore) -> DatasetSummary:
    """Count the chips of a store and read its audit.

    Args:
        run: whose metadata has the hash of the manifest that it was trained on.
        store: the chip store.

    Returns:
        The numbers for the page.

    Raises:
        DataError: a file of the store is damaged.
    """
    splits = [name for name in SPLITS if not store.split(name).empty]
    column = "class" if len(store.classes) <= MAX_CLASSES else "group"
    names = store.classes if column == "class" else GROUPS
    counts = [store.split(split)[column].value_counts() for split in splits]
    trained_hash = run.metadata.data.get("manifest_sha256")
    audit_path = store.root / AUDIT_FILE
    audits = read_json_list(audit_path, AuditResult) if audit_path.is_file() else []
    return DatasetSummary(
        name=store.name,
        root=str(store.root),
        splits=splits,
        row_kind=column,
        rows=[(name, [int(count.get(name, 0)) for count in counts]) for name in names],
        skipped=store.skipped,
        rejected=store.rejected,
        command=str(json.loads((store.root / DATASET).read_text("utf-8")).get("command", "")),
        altered=None if trained_hash is None else trained_hash != sha256(store.root / MANIFEST),
        audit=audits[0] if audits else None,
    )


class ChipPictures:
    """Evaluated chips as the network sees them: cropped, resized and stretched according to the run's contract.

    Args:
        run: its files.
        store: the chip store.
        progress: called while chips are read.

    Attributes:
        plane_names: the planes that are shown, in words.

    Raises:
        RsftError: the bundle or a chip cannot be read, or a class or the split is not in the store.
    """

    def __init__(self, run: RunFiles, store: ChipStore, progress: Progress | None = None) -> None:
        bundle = Bundle.load(run.folder / "bundle")
        table = store.split(run.evaluation.split if run.evaluation else "val")
        if table.empty or set(table["class"]) - set(bundle.classes):
            raise RequestError("the chips are not those of the run", store.root, "give their folder with --data")
        self.images = ChipImages(store.root, table, bundle.classes, bundle.contract, progress).images
        self.rows = {path: row for row, path in enumerate(table["path"])}
        self.planes = _shown_planes(bundle.contract.planes)
        self.plane_names = ", ".join(dict.fromkeys(bundle.contract.planes[plane] for plane in self.planes))

    def has(self, path: str) -> bool:
        """Return whether a chip has this path."""
        return path in self.rows

    def picture(self, path: str, side: int) -> str:
        """Return one chip as a data URI.

        Args:
            path: of the chip.
            side: largest side in pixels.
        """
        return _data_uri(self._image(path, side))

    def sheet(self, paths: Sequence[str], side: int, columns: int) -> str:
        """Return many chips in one picture as a data URI; it is black where no chip has the path.

        Args:
            paths: of the chips, row by row.
            side: of a chip in pixels.
            columns: chips per row.
        """
        rows = -(-len(paths) // columns)
        sheet = np.zeros((rows * side, columns * side, 3), np.uint8)
        for number, path in enumerate(paths):
            top, left = (side * index for index in divmod(number, columns))
            if self.has(path):
                sheet[top : top + side, left : left + side] = self._image(path, side, exact=True)
        return _data_uri(sheet)

    def _image(self, path: str, side: int, exact: bool = False) -> NDArray[np.uint8]:
        """Return (side, side, 3) in the order blue, green, red. A smaller chip keeps its size unless `exact`."""
        image = np.ascontiguousarray(self.images[self.rows[path]][:, :, self.planes[::-1]])
        if exact or image.shape[0] > side:
            image = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
        return image


def _shown_planes(planes: Sequence[str]) -> list[int]:
    """Return three indices of planes for red, green and blue; three times the first plane if none have such names."""
    for names in RGB_PLANES:
        if set(names) <= set(planes):
            return [planes.index(name) for name in names]
    return [0, 0, 0]


def _data_uri(image: NDArray[np.uint8]) -> str:
    data = cv2.imencode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, WEBP_QUALITY])[1].tobytes()
    return f"data:image/webp;base64,{base64.b64encode(data).decode()}"
