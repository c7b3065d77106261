"""Turn the errors of data set classes into those of rsft."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from rsft.data.datasets.archive_search import PublishedArchive, iter_paths
from rsft.data.datasets.published_archives import list_archives
from rsft.errors import DataError, RequestError
from rsft.utils.archive_members import describe_part

T = TypeVar("T")


@contextmanager
def translate_dataset_errors(title: str, path: Path, hint: str) -> Iterator[None]:
    """Translate the errors of a data set class within the block.

    Args:
        title: what the folder `path` should contain.
        path: folder of the data set.
        hint: how to give the data set.

    Raises:
        RequestError: the data set is not in the folder.
        DataError: a file of the data set cannot be read or used.
    """
    from torchgeo.datasets.errors import DatasetNotFoundError

    try:
        yield
    except DatasetNotFoundError as error:
        raise RequestError(
            f"the folder does not contain {title}", path, hint
        ) from error
    except OSError as error:
        raise DataError(
            f"{title} cannot be read: {error.strerror or error}",
            error.filename or path,
            "change its permissions, or copy it again",
        ) from error
    except (ValueError, RuntimeError) as error:
        raise DataError(str(error), path, hint) from error


@contextmanager
def explain_wrong_source(archive: PublishedArchive, folder: Path) -> Iterator[None]:
    """Add to a RequestError of the block what a folder contains instead of a data set.

    Args:
        archive: the data set that the block reads.
        folder: the folder, with its archives extracted.
    """
    try:
        yield
    except RequestError as error:
        notes = list(filter(None, map(describe_part, iter_paths(folder))))[:1]
        for other in list_archives():
            if other == archive or not other.is_in(folder):
                continue
            note = f"the folder contains {other.name}"
            if other.command == archive.command:
                note += f": exchange {archive.option} and {other.option}"
            else:
                note += f", which `rsft prepare {other.command}` reads"
            notes.append(note)
        error.hint = "; ".join([*notes, error.hint])
        raise


def open_source(
    archive: PublishedArchive, folder: Path, title: str, read: Callable[[Path], T]
) -> T:
    """Return what a data set class reads in the folder of a published data set.

    Args:
        archive: the data set.
        folder: the folder, with its archives extracted.
        title: what the folder should contain, for messages.
        read: reads the folder.

    Raises:
        RequestError: the data set is not in the folder.
        DataError: a file of the data set cannot be read or used.
    """
    hint = f"give the folder that contains {archive.content}"
    with (
        explain_wrong_source(archive, folder),
        translate_dataset_errors(title, folder, hint),
    ):
        return read(folder)
