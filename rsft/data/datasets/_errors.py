"""Translation of the errors of data set classes, which follow TorchGeo, into those of rsft."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torchgeo.datasets.errors import DatasetNotFoundError

from rsft.errors import DataError, RequestError


@contextmanager
def translate_dataset_errors(title: str, path: Path, hint: str) -> Iterator[None]:
    """Translate the errors of a data set class within the block.

    Args:
        title: name of the data set.
        path: folder of the data set.
        hint: how to give the data set.

    Raises:
        RequestError: the data set is not in the folder.
        DataError: a file of the data set cannot be read or used.
    """
    try:
        yield
    except DatasetNotFoundError as error:
        raise RequestError(f"the folder does not contain {title}", path, hint) from error
    except OSError as error:
        message = f"{title} cannot be read: {error.strerror or error}"
        raise DataError(message, error.filename or path, "change its permissions, or copy it again") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{title} is not UTF-8 text", path, "save it as UTF-8") from error
    except (ValueError, RuntimeError) as error:
        raise DataError(str(error), path, hint) from error
