"""Rows of the tables: checks of equality, and measurements that may be impossible on a machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf


class NotRunError(Exception):
    """A check or a measurement cannot run on this machine; the message says why."""


@dataclass(frozen=True)
class EqualityRow:
    """The difference between two computations of the same values.

    Attributes:
        name: what is compared.
        tolerance: largest difference that passes.
        difference: norm of the difference divided by the norm of the reference; None if
            the check did not run.
        note: why the check did not run, or the error that ended it.
    """

    name: str
    tolerance: float
    difference: float | None
    note: str = ""

    @property
    def failed(self) -> bool:
        """Whether the check ran, and the difference is not within the tolerance."""
        return self.difference is not None and not self.difference <= self.tolerance

    def cells(self) -> tuple[str, ...]:
        """Return the cells of the row in the table."""
        if self.difference is None:
            return self.name, f"{self.tolerance:g}", "", f"not run: {self.note}"
        result = "FAIL" if self.failed else "pass"
        return (
            self.name,
            f"{self.tolerance:g}",
            f"{self.difference:.1e}",
            f"{result}: {self.note}" if self.note else result,
        )


EQUALITY_COLUMNS = ("check", "tolerance", "difference", "result")


def run_check(name: str, tolerance: float, check: Callable[[], float]) -> EqualityRow:
    """Run a check; an error makes it fail and does not end the program.

    Args:
        name: what is compared.
        tolerance: largest difference that passes.
        check: computes the difference.

    Returns:
        The row of the check.
    """
    try:
        return EqualityRow(name, tolerance, check())
    except NotRunError as reason:
        return EqualityRow(name, tolerance, None, str(reason))
    except Exception as error:
        return EqualityRow(name, tolerance, inf, first_line(error))


def run_measurement(
    name: str, columns: int, measure: Callable[[], Sequence[str]]
) -> tuple[str, ...]:
    """Run a measurement; an error becomes the note of its row.

    Args:
        name: the first cell of the row.
        columns: number of cells after the first one.
        measure: returns these cells.

    Returns:
        The cells of the row.
    """
    try:
        return (name, *measure())
    except NotRunError as reason:
        note = str(reason)
    except Exception as error:  # such as too little memory: the other rows still run
        note = first_line(error)
    return (name, f"not run: {note}", *[""] * (columns - 1))


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table.

    Args:
        columns: the header.
        rows: the cells of each row.
    """
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def first_line(error: Exception) -> str:
    """Return the kind and the first line of the message of an error, without the separator of table cells.

    Args:
        error: any error.
    """
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__} {lines[0][:160]}".strip().replace("|", "/")
