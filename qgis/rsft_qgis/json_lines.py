"""Read what rsft prints. This module does not import QGIS."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Union


@dataclass(frozen=True)
class Progress:
    """Progress of a task.

    Attributes:
        task: what rsft does, such as "classifying".
        done: number of finished items.
        total: number of all items.
    """

    task: str
    done: int
    total: int

    @property
    def percent(self) -> float:
        """Progress in percent."""
        return 100.0 * self.done / self.total if self.total > 0 else 0.0


@dataclass(frozen=True)
class Failure:
    """An error that rsft explains.

    Attributes:
        message: what is wrong.
        location: file or option at fault.
        hint: how to fix it.
    """

    message: str
    location: str = ""
    hint: str = ""

    def __str__(self) -> str:
        """Return message, location and hint in lines."""
        lines = [self.message, self.location and f"where: {self.location}", self.hint and f"hint: {self.hint}"]
        return "\n".join(line for line in lines if line)


@dataclass(frozen=True)
class Result:
    """The result of a job.

    Attributes:
        fields: table, number of chips, counts by class, notes and other keys of the last line.
    """

    fields: dict[str, Any] = field(default_factory=dict)

    def count(self, key: str) -> int:
        """Return a number of chips, such as "rejected"; 0 if the line does not contain it."""
        value = self.fields.get(key, 0)
        return value if isinstance(value, int) else 0

    @property
    def notes(self) -> list[str]:
        """Remarks for the reader."""
        return [str(note) for note in self.fields.get("notes") or []]

    @property
    def class_counts(self) -> dict[str, int]:
        """Number of chips by class."""
        return dict(self.fields.get("classes") or {})

    @property
    def is_foreign(self) -> bool:
        """Whether a scene differs from the training data: its class sets are withheld, or a test failed."""
        checks = self.fields.get("checks") or []
        return any(check.get("sets") == "withheld" or check.get("shifted") for check in checks)


Event = Union[Progress, Failure, Result]  # Python 3.9 evaluates this line


def parse_line(line: str) -> Event | None:
    """Return the event that a line contains; None for any other text, and for events that need no reaction.

    Args:
        line: one line that rsft printed.
    """
    try:
        fields = json.loads(line)
    except ValueError:
        return None
    if not isinstance(fields, dict):
        return None
    event = fields.pop("event", None)
    if event == "progress":
        return Progress(str(fields.get("task", "")), _integer(fields.get("done")), _integer(fields.get("total")))
    if event == "step":
        return Progress("training", _integer(fields.get("done")), _integer(fields.get("total")))
    if event == "error":
        what, where, fix = (str(fields.get(key) or "") for key in ("what", "where", "fix"))
        return Failure(what or "rsft stopped", where, fix)
    return Result(fields) if event == "done" else None


def _integer(value: object) -> int:
    return int(value) if isinstance(value, (int, float)) else 0
