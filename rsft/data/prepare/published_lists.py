"""Build chip stores of Places-LT and iNaturalist 2018, which are long-tailed as published."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rsft.data.prepare.registry import PAPER, data_set, format_prepare_command

if TYPE_CHECKING:
    from rsft.data.chips.record import ChipRecord
    from rsft.data.chips.store import ChipStore
    from rsft.data.datasets._label_files import ListFiles, PublishedLists
    from rsft.types import Progress


@data_set("places-lt", PAPER)
def prepare_places_lt(
    source: Path, root: Path, lists: Path | None = None, overwrite: bool = False, progress: Progress | None = None
) -> ChipStore:
    """Build a chip store of Places-LT from the lists Places_LT_train.txt, Places_LT_val.txt and Places_LT_test.txt.

    rejected.csv contains the differences between the lists and the published ones. The license of the images is
    unknown.

    Args:
        source: Folder of Places365 that the paths in the lists are relative to.
        lists: Folder of the list files (default: SOURCE).

    Raises:
        RequestError: the lists are missing, none of their images is in `source`, or `root` is not empty.
        DataError: no image can be used.
    """
    from rsft.data.datasets._label_files import PLACES_LT
    from rsft.utils.licenses import UNKNOWN

    command = format_prepare_command("places-lt", source, root=root, lists=lists)
    return build_list_store(command, PLACES_LT, UNKNOWN, source, root, lists, overwrite, progress)


@data_set("inat2018", PAPER)
def prepare_inat2018(
    source: Path, root: Path, lists: Path | None = None, overwrite: bool = False, progress: Progress | None = None
) -> ChipStore:
    """Build a chip store of iNaturalist 2018 from the lists iNaturalist18_train.txt and iNaturalist18_val.txt.

    rejected.csv contains the differences between the lists and the published ones.

    Args:
        source: Folder that contains train_val2018/.
        lists: Folder of the list files (default: SOURCE).

    Raises:
        RequestError: the lists are missing, none of their images is in `source`, or `root` is not empty.
        DataError: no image can be used.
    """
    from rsft.data.datasets._label_files import INATURALIST_2018

    command = format_prepare_command("inat2018", source, root=root, lists=lists)
    license_text = "non-commercial, research-only"
    return build_list_store(command, INATURALIST_2018, license_text, source, root, lists, overwrite, progress)


def build_list_store(
    command: str,
    published: PublishedLists,
    license_text: str,
    source: Path,
    root: Path,
    lists: Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ChipStore:
    """Build a chip store of the images in the list files of a data set.

    Args:
        command: the command that builds the store.
        published: what is known of the published lists.
        license_text: license of the images.
        source: folder that the paths in the lists are relative to.
        root: folder of the chip store.
        lists: folder of the list files; by default `source`.
        overwrite: replace an existing chip store at `root`.
        progress: called after each chip.
    """
    from rsft.data.chips.builder import build_store, find_finished_store
    from rsft.data.chips.record import StoreDescription
    from rsft.data.datasets._label_files import ListFiles

    if finished := find_finished_store(root, command, overwrite):
        return finished
    files = ListFiles(published, source, lists)
    description = StoreDescription(
        name=published.title,
        classes=files.classes,
        command=command,
        rejected=[*((str(files.lists), 0, difference) for difference in files.differences), *files.rejected],
        license=license_text,
    )
    return build_store(root, _RecordStream(files), description, overwrite=overwrite, progress=progress)


class _RecordStream:
    """The records of a data set, made one at a time, because half a million would fill the memory."""

    def __init__(self, source: ListFiles) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source.table)

    def __iter__(self) -> Iterator[ChipRecord]:
        from rsft.data.chips.record import ChipRecord

        columns = {"source": self.source.published.title}
        table = self.source.table
        for split, path, label in zip(table["split"], table["path"], table["class"], strict=True):
            name = path.replace("/", "__").replace(".", "_")
            yield ChipRecord(name, split, label, self.source.root / path, extra_columns=columns)
