"""Formats of predictions tables, by the suffix of the file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rsft.errors import RequestError
from rsft.utils.atomic_files import atomic_file
from rsft.utils.registry import Registry

if TYPE_CHECKING:
    from rsft.inference.writers.layer import PredictionLayer


class TableFormat(ABC):
    """A format in which predictions are written.

    Attributes:
        name: suffix of its files without the first dot.
        sidecar: suffix of a file beside the table, in which QGIS finds its style or the
            types of its columns; "" for none.
        has_boxes: whether it has the boxes of chips in pixels of their scenes.
    """

    name: ClassVar[str]
    sidecar: ClassVar[str] = ""
    has_boxes: ClassVar[bool] = False

    @abstractmethod
    def write(self, layer: PredictionLayer, path: Path) -> None:
        """Write a table, whole or not at all.

        Raises:
            RequestError: the table does not fit.
        """

    def check(self, path: Path, columns: Iterable[str]) -> None:  # noqa: B027
        """Check that the format supports columns, and is installed.

        Raises:
            RequestError: it is not.
        """

    def find_corrections(self, path: Path) -> list[Any]:
        """Return the values of the column `corrected` of an existing file.

        Errors of a file that cannot be read are those of its library.
        """
        return []


TABLE_FORMATS: Registry[type[TableFormat]] = Registry(
    "table format", "rsft.table_formats", "rsft.inference.writers"
)
"""All formats by the suffix of their files, without the first dot."""


def table_suffix(path: Path) -> str:
    """Return the suffix of a table in lower case, which selects its format.

    That of `out.coco.json` is `.coco.json`.
    """
    name = path.name.lower()
    for suffix in TABLE_FORMATS:
        if name.endswith(f".{suffix}"):
            return f".{suffix}"
    return path.suffix.lower()


def find_table_format(path: Path) -> TableFormat:
    """Return the format of a table.

    Raises:
        RequestError: no format has its suffix.
    """
    suffix = table_suffix(path)
    if suffix == ".shp":
        raise RequestError(
            "a Shapefile cuts column names at 10 characters, has no NULL and ends at"
            " 2 GB",
            path,
            "use .gpkg, which has none of these limits",
        )
    if suffix[1:] not in TABLE_FORMATS:
        known = ", ".join(f".{name}" for name in TABLE_FORMATS)
        raise RequestError(
            f"unknown format: {suffix or 'no suffix'}", path, f"use {known}"
        )
    return TABLE_FORMATS[suffix[1:]]()


@contextmanager
def table_and_sidecar(path: Path, suffix: str, text: str | None) -> Iterator[Path]:
    """Yield a temporary path of a table.

    Table and sidecar get their names together, if the block succeeds.

    Args:
        path: path of the table.
        suffix: suffix of its sidecar.
        text: content of the sidecar; None removes one of an earlier table.
    """
    sidecar = path.with_suffix(suffix)
    if text is None:
        with atomic_file(path) as temporary:
            yield temporary
        sidecar.unlink(missing_ok=True)
        return
    with atomic_file(sidecar) as temporary_sidecar:
        temporary_sidecar.write_text(text, encoding="utf-8")
        with atomic_file(path) as temporary:
            yield temporary
