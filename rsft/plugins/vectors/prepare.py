"""Build chip stores of vectors, which any encoder has computed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsft.data.prepare.registry import data_set
from rsft.data.prepare.store_build import StoreBuild, builds_store
from rsft.errors import RequestError
from rsft.utils.licenses import UNKNOWN

if TYPE_CHECKING:
    import pandas as pd

    from rsft.data.chips.record import ChipRecord
    from rsft.data.chips.store import ChipStore
    from rsft.plugins.vectors.vector_file import VectorFile
    from rsft.types import Progress


def training_command(store: ChipStore, arguments: Mapping[str, Any]) -> Iterable[str]:
    """Return the command that trains a classifier on the vectors."""
    from rsft.plugins.vectors.vector_image import image_side

    length = int(store.bands[0].rpartition("_")[2])
    command = f"rsft finetune vectors data.root={store.root}"
    return [f"next: {command} data.size={image_side(length)}"]


@data_set("vectors", notes=training_command, is_published=False)
@builds_store("vectors")
def prepare_vectors(
    build: StoreBuild,
    source: Path,
    root: Path,
    val: float = 0.2,
    license: str = UNKNOWN,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ChipStore:
    """Build a chip store of the vectors of any encoder, with one vector per chip.

    The columns `split` and `group_key` (such as a scene) are used if they exist. A
    group stays in one split.

    Args:
        source: Parquet with a column that names the chip (chip, name or path), the
            vector as a list or with one column for each dimension, and the class; such
            as `rsft embed` writes.
        val: Share of each class for validation, if SOURCE has no splits.
        license: License of the vectors: an SPDX identifier, or a text with
            restrictions.

    Raises:
        RequestError: a file cannot be read or lacks a column, or `root` is not empty.
        DataError: no vector can be used.
    """
    from rsft.data.chips.record import StoreDescription
    from rsft.data.datasets.formats.label_rows import sort_class_names
    from rsft.data.datasets.splits import check_val_share
    from rsft.inference.prediction_table import text_cells
    from rsft.plugins.vectors.vector_file import read_vector_file

    check_val_share(val)
    file = read_vector_file(source)
    table = file.table.reset_index(drop=True)
    table["class"] = text_cells(table, "class")
    table = table[table["class"] != ""].copy()
    if table.empty:
        raise RequestError("no vector has a class", source, "add a column `class`")
    without_class = len(file.names) - len(table)
    table["split"] = _choose_splits(table, val, seed)
    description = StoreDescription(
        root.resolve().name,
        sort_class_names(set(table["class"])),
        build.command,
        skipped={"vector without a class": without_class} if without_class else {},
        license=license,
    )
    return build.write(_list_records(file, table), description, len(table))


def _choose_splits(table: pd.DataFrame, val: float, seed: int) -> list[str]:
    """Return the split of each row: that of the file, or a share of each class.

    A row without a group is one of its own.
    """
    from rsft.data.chips.group_splits import split_groups
    from rsft.data.chips.manifest import SPLITS
    from rsft.inference.prediction_table import text_cells

    splits = text_cells(table, "split")
    if set(splits) <= set(SPLITS):
        return splits
    cells = enumerate(text_cells(table, "group_key"))
    groups = [group or f"row {number}" for number, group in cells]
    shares = {"train": 1 - val, "val": val}
    split_of = split_groups(table["class"].tolist(), groups, shares, seed)
    return [split_of[group] for group in groups]


def _list_records(file: VectorFile, table: pd.DataFrame) -> Iterator[ChipRecord]:
    """Yield the chip of each row, whose name begins with the number of the row."""
    import re
    from functools import partial

    from rsft.data.chips.record import ChipRecord
    from rsft.inference.prediction_table import text_cells

    groups = text_cells(table, "group_key")
    for row, group in zip(table.index, groups, strict=True):
        columns = {"source": file.names[row]}
        if group:
            columns["group_key"] = group
        stem = re.sub(r"[^\w-]+", "_", Path(file.names[row]).stem)
        yield ChipRecord(
            f"{row + 1:06}_{stem[:60]}",
            table["split"][row],
            table["class"][row],
            file.path,
            partial(file.image, row),
            int(row) + 1,
            (file.band,),
            columns,
        )
