"""scenes.csv of an archive: one row per scene, appended as scenes finish.

The rows of earlier calls are the index of finished scenes. They stay while a call runs,
and the last row of a scene counts. At the end of the call, the table is written anew:
one row per scene, in the order of the inputs. Each row is written at once, so that a
killed process leaves whole rows; a torn last row is removed by the next call.
"""

import csv
import io
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from rsft.utils.atomic_files import atomic_file
from rsft.utils.tables import escape_cell, replace_controls, unescape_cell


class SceneResult(NamedTuple):
    """Result of one scene. The fields are the columns of scenes.csv, except `address`.

    Attributes:
        status: done, failed, skipped (finished by an earlier call) or pending.
        chips: number of classified chips.
        rejected: number of rejected chips.
        ood: number of classified chips that are unlike the training chips.
        class_sets: "withheld" if the scene has no class sets, because most of its chips
            are unlike the training chips.
        resumed: whether the job continued an interrupted one.
        job: hash of everything that determines the output; it is also in the metadata
            of the GeoPackage.
        modified: modification time of the output in ns, when `job` was read from it.
        address: name under which the scene is opened: `scene`, with the signature of a
            signed address.
    """

    scene: str
    status: str
    chips: int = 0
    rejected: int = 0
    ood: int = 0
    class_sets: str = ""
    seconds: float = 0.0
    resumed: bool = False
    output: str = ""
    job: str = ""
    modified: int = 0
    reason: str = ""
    address: str = ""


_PARSERS: dict[Any, Callable[[str], Any]] = {
    str: unescape_cell,
    int: int,
    float: float,
    bool: "True".__eq__,
}
_COLUMNS = SceneResult._fields[:-1]
_CELL_PARSERS = [_PARSERS[SceneResult.__annotations__[name]] for name in _COLUMNS]


def read_scenes(path: Path) -> Iterator[SceneResult]:
    """Yield the rows of a scenes.csv that this version of rsft wrote."""
    with path.open("rb") as file:
        for offset, cells in _read_rows(file):
            if offset:
                yield _parse(cells)


class SceneTable:
    """scenes.csv while an archive is classified.

    Args:
        path: the table. Rows of a table with other columns do not count.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        # without a buffer, each row is written at once
        self._writer = path.open("ab", buffering=0)
        self._start = self._index_rows()
        self._writer.truncate(self._start)
        if not self._start:
            self._start = self._writer.write(_to_line(_COLUMNS))
        self._reader = path.open("rb")

    def _index_rows(self) -> int:
        """Index the rows by hashes of scenes; return the end of the last whole row."""
        self._hashes = self._offsets = np.zeros(0, np.int64)  # frees an earlier index
        hashes = array("q")
        offsets = array("q")
        end = 0
        with self.path.open("rb") as file:
            for offset, cells in _read_rows(file):
                hashes.append(hash(unescape_cell(cells[0])))
                offsets.append(offset)
                end = file.tell()
        # a dictionary would need ten times the memory
        order = np.argsort(hashes, kind="stable")
        self._hashes = np.asarray(hashes)[order]
        del hashes
        self._offsets = np.asarray(offsets)[order]
        return end

    def close(self) -> None:
        """Close the file."""
        self._reader.close()
        self._writer.close()

    def find(self, scene: str) -> SceneResult | None:
        """Return the last row of a scene, of an earlier call."""
        line, _ = self._find_line(scene)
        with suppress(ValueError):  # it is empty, or a stranger changed a cell
            result = _parse(_split(line))
            return result if result.scene == _join_lines(scene) else None
        return None

    def _find_line(self, scene: str) -> tuple[bytes, int]:
        """Return the last row of a scene and its position in bytes."""
        key = hash(_join_lines(scene))
        index = int(np.searchsorted(self._hashes, key, "right")) - 1
        if index < 0 or self._hashes[index] != key:
            return b"", 0
        offset = int(self._offsets[index])
        self._reader.seek(offset)
        return self._reader.readline(), offset

    def add(self, result: SceneResult) -> None:
        """Append the row of a scene."""
        self._writer.write(_result_to_line(result))

    def finish(
        self, scenes: Iterable[str], make_pending: Callable[[int], SceneResult]
    ) -> None:
        """Write the table anew, in the order of the inputs, and close it.

        Args:
            scenes: all scenes of this call.
            make_pending: returns the row of the scene at a position, if it has none.
        """
        self._index_rows()
        with atomic_file(self.path) as temporary, temporary.open("wb") as file:
            file.write(_to_line(_COLUMNS))
            for position, scene in enumerate(scenes):
                line, offset = self._find_line(scene)
                if offset < self._start:
                    # an earlier row stays in the index of the next call
                    result = self.find(scene) or make_pending(position)
                    line = _result_to_line(result._replace(status="pending"))
                file.write(line)
            self.close()  # Windows cannot replace an open file


def _result_to_line(result: SceneResult) -> bytes:
    return _to_line(result[:-1])


def _to_line(cells: Iterable[Any]) -> bytes:
    """Return a row as CSV in one line."""
    text = io.StringIO()
    row = [
        escape_cell(_join_lines(cell)) if isinstance(cell, str) else cell
        for cell in cells
    ]
    csv.writer(text, lineterminator="\n").writerow(row)
    return text.getvalue().encode()


def _join_lines(cell: str) -> str:
    """Return a text as it is read from the table."""
    if cell.isprintable():
        return cell
    return " ".join(replace_controls(cell).splitlines())


def _split(line: bytes) -> list[str]:
    return next(csv.reader([line.decode(errors="replace")]), [])


def _parse(cells: list[str]) -> SceneResult:
    values = [parse(cell) for parse, cell in zip(_CELL_PARSERS, cells, strict=True)]
    return SceneResult(*values)


def _read_rows(file: BinaryIO) -> Iterator[tuple[int, list[str]]]:
    """Yield the position in bytes and the cells of each row, up to a damaged one.

    The first row has the names of the columns, at position 0.
    """
    offset = 0
    with suppress(csv.Error):
        for line in iter(file.readline, b""):
            cells = _split(line)
            is_whole = line.endswith(b"\n") and len(cells) == len(_COLUMNS)
            if not is_whole or not (offset or tuple(cells) == _COLUMNS):
                return
            yield offset, cells
            offset += len(line)
