"""Tasks of the program and the rows of its report. It imports no PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from math import isfinite
from typing import Any, Literal, NamedTuple

Status = Literal["ok", "failed", "not run", "left out"]
"""ok and failed ran; not run is impossible on this machine; left out had no time."""

TOLERANCE = "tolerance"
"""Peer of a check: the largest difference that passes."""


class NotRunError(Exception):
    """A task cannot run on this machine; the message says why."""


class Figure(NamedTuple):
    """A number that a task measured.

    Attributes:
        value: the number.
        unit: its unit.
        name: what the number is, if the task has several of one unit.
        limit: largest value that passes; None for a measurement.
    """

    value: float
    unit: str
    name: str = ""
    limit: float | None = None


class Task(NamedTuple):
    """What makes some rows of the report.

    Attributes:
        section: section of the report.
        name: name of the rows.
        run: returns the figures.
        peer: name of an earlier task of the section, with whose figures they are
            compared; "" for none.
    """

    section: str
    name: str
    run: Callable[[], Sequence[Figure]]
    peer: str = ""


class Title(NamedTuple):
    """Section, name and peer of a task."""

    section: str
    name: str
    peer: str = ""


class Outcome(NamedTuple):
    """What came of a task.

    Attributes:
        status: see `Status`.
        figures: what it measured.
        reason: why it failed or did not run.
    """

    status: Status
    figures: Sequence[Figure] = ()
    reason: str = ""


@dataclass(frozen=True)
class Row:
    """A row of the report.

    Attributes:
        section: section of the report.
        name: what was checked or measured.
        value: the number; None if the task failed before it, or did not run.
        unit: its unit.
        peer: what it is compared with; "" for nothing.
        peer_value: the number of the peer; None if there is none.
        ratio: the number divided by that of the peer.
        status: see `Status`.
        reason: why it failed or did not run.
    """

    section: str
    name: str
    value: float | None = None
    unit: str = ""
    peer: str = ""
    peer_value: float | None = None
    ratio: float | None = None
    status: Status = "ok"
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the row of the JSON file."""
        return asdict(self)

    def __str__(self) -> str:
        """Return the row as a line of text."""
        parts = [f"{self.status:8} {self.section}: {self.name}"]
        if self.value is not None:
            parts.append(f"{self.value:,.4g} {self.unit}")
        if self.ratio is not None:
            parts.append(f"{self.ratio:.3g} of {self.peer}")
        return "; ".join(filter(None, [*parts, self.reason]))


def make_rows(title: Title, outcome: Outcome, earlier: Sequence[Row]) -> list[Row]:
    """Return the rows of a task, with the figures of its peer beside them.

    Args:
        title: the task.
        outcome: what came of it.
        earlier: rows of the tasks before it.

    Returns:
        One row per figure; one without a number if there is none.
    """
    if not outcome.figures:
        reason = outcome.reason
        return [Row(*title[:2], peer=title.peer, status=outcome.status, reason=reason)]
    peers = {
        row.unit: row.value
        for row in earlier
        if (row.section, row.name) == (title.section, title.peer)
    }
    rows = []
    for figure in outcome.figures:
        peer = title.peer
        peer_value = peers.get(figure.unit)
        if figure.limit is not None:
            peer = TOLERANCE
            peer_value = figure.limit
        ratio = figure.value / peer_value if peer_value else None
        row = Row(
            title.section,
            ", ".join(filter(None, [figure.name, title.name])),
            figure.value,
            figure.unit,
            peer if peer_value is not None else "",
            peer_value,
            ratio,
        )
        if not isfinite(figure.value):  # JSON has no such numbers
            reason = f"the value is {figure.value}"
            row = replace(row, value=None, ratio=None, status="failed", reason=reason)
        elif figure.limit is not None and figure.value > figure.limit:
            reason = f"more than {figure.limit:g}"
            row = replace(row, status="failed", reason=reason)
        rows.append(row)
    return rows


def first_line(error: BaseException) -> str:
    """Return the kind and the first line of the message of an error."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__} {lines[0][:160]}".strip()
