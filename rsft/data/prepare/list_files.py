"""Places-LT and iNaturalist 2018 into chip stores; their long tails are their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rsft.data.chips.builder import Plan, Record, build_store, check_free
from rsft.data.chips.store import ChipStore
from rsft.data.datasets.list_files import INaturalist2018, ListedImages, PlacesLT
from rsft.data.prepare._command import prepare_command
from rsft.types import Progress

SOURCES: dict[str, type[ListedImages]] = {"places-lt": PlacesLT, "inat2018": INaturalist2018}
"""By the name of the command."""


def prepare_lists(
    name: str,
    src: Path,
    root: Path,
    *,
    lists: Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ChipStore:
    """Copy the images that the lists of the data set `name` name, relative to `src`, into the chip store `root`.

    Where the lists differ from what is published, a row of rejected.csv says so.

    Raises:
        RequestError: no such lists or none of their images, or `root` is taken.
        DataError: no image can be used.
    """
    check_free(root, overwrite)
    source = SOURCES[name](src, lists)
    plan = Plan(
        name=source.facts.title,
        classes=source.classes,
        command=prepare_command(name, src, root=root, lists=lists),
        rejected=[*((str(source.lists), 0, difference) for difference in source.differences), *source.rejected],
    )
    return build_store(root, _Records(source), plan, overwrite=overwrite, progress=progress)


class _Records:
    """A record at a time: half a million of them would fill the memory."""

    def __init__(self, source: ListedImages) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __iter__(self) -> Iterator[Record]:
        facts = {"source": self.source.facts.title}
        table = self.source.table
        for split, path, label in zip(table["split"], table["path"], table["class"], strict=True):
            name = path.replace("/", "__").replace(".", "_")
            yield Record(name, split, label, self.source.root / path, facts=facts)
