"""Build chip stores of Places-LT and iNaturalist 2018, which are long-tailed as published."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rsft.data.chips.builder import ChipRecord, StoreDescription, build_store, find_finished_store
from rsft.data.chips.store import ChipStore
from rsft.data.datasets._list_files import INATURALIST_2018, PLACES_LT, ListFiles, PublishedLists
from rsft.data.prepare._command import format_prepare_command
from rsft.types import Progress
from rsft.utils.licenses import UNKNOWN

PUBLISHED_LISTS: dict[str, PublishedLists] = {"places-lt": PLACES_LT, "inat2018": INATURALIST_2018}
"""Lists by the name of their command."""

_LICENSES = {"inat2018": "non-commercial, research-only"}
"""Licenses of the images by the name of their command. None is known for those of Places."""


def prepare_list_files(
    name: str,
    src: Path,
    root: Path,
    *,
    lists: Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ChipStore:
    """Build a chip store of the images in the list files of a data set.

    rejected.csv contains the differences between the lists and the published ones.

    Args:
        name: a key of `PUBLISHED_LISTS`.
        src: the folder that the paths in the lists are relative to.
        root: folder of the chip store.
        lists: folder of the list files; by default `src`.
        overwrite: replace an existing chip store at `root`.
        progress: called after each chip.

    Returns:
        The chip store.

    Raises:
        RequestError: the lists are missing, none of their images is in `src`, or `root` is not empty.
        DataError: no image can be used.
    """
    command = format_prepare_command(name, src, root=root, lists=lists)
    if finished := find_finished_store(root, command, overwrite):
        return finished
    source = ListFiles(PUBLISHED_LISTS[name], src, lists)
    description = StoreDescription(
        name=source.published.title,
        classes=source.classes,
        command=command,
        rejected=[*((str(source.lists), 0, difference) for difference in source.differences), *source.rejected],
        license=_LICENSES.get(name, UNKNOWN),
    )
    return build_store(root, _RecordStream(source), description, overwrite=overwrite, progress=progress)


class _RecordStream:
    """The records of a data set, made one at a time, because half a million would fill the memory."""

    def __init__(self, source: ListFiles) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source.table)

    def __iter__(self) -> Iterator[ChipRecord]:
        columns = {"source": self.source.published.title}
        table = self.source.table
        for split, path, label in zip(table["split"], table["path"], table["class"], strict=True):
            name = path.replace("/", "__").replace(".", "_")
            yield ChipRecord(name, split, label, self.source.root / path, extra_columns=columns)
