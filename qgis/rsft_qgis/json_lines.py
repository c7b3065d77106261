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
        if self.total > 0:
            return 100.0 * self.done / self.total
        return 0.0


@dataclass(frozen=True)
class Start:
    """A run begins.

    Attributes:
        epochs: number of epochs of the run.
    """

    epochs: int


@dataclass(frozen=True)
class Epoch:
    """An epoch ended.

    Attributes:
        number: number of the epoch, from 1.
        loss: mean loss of the training chips, if it is finite.
        val_macro: mean of the recalls of the classes on validation chips, from 0 to 1;
            None if it was not measured.
    """

    number: int
    loss: float | None = None
    val_macro: float | None = None

    def describe(self, epochs: int) -> str:
        """Return the epoch in one line.

        Args:
            epochs: number of epochs of the run; 0 if unknown.
        """
        parts = [] if self.loss is None else [f"loss {self.loss:.2f}"]
        parts += (
            []
            if self.val_macro is None
            else [f"val macro {100 * self.val_macro:.0f} %"]
        )
        return (
            f"epoch {self.number}{f' of {epochs}' * (epochs > 0)}:"
            f" {', '.join(parts) or 'done'}"
        )


@dataclass(frozen=True)
class OtherEvent:
    """An event that needs no reaction."""


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
        lines = [
            self.message,
            self.location and f"where: {self.location}",
            self.hint and f"hint: {self.hint}",
        ]
        return "\n".join(line for line in lines if line)


@dataclass(frozen=True)
class Result:
    """The result of a job.

    Attributes:
        fields: table, number of chips, counts by class, notes and other keys of the
            last line.
    """

    fields: dict[str, Any] = field(default_factory=dict)

    def count(self, key: str) -> int:
        """Return a number of chips, such as "rejected"; 0 if the line does not contain it."""
        value = self.fields.get(key, 0)
        if isinstance(value, int):
            return value
        return 0

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
        return any(
            check.get("class_sets") == "withheld" or check.get("shifted")
            for check in checks
        )


# Python 3.9 evaluates this line
Event = Union[Progress, Start, Epoch, OtherEvent, Failure, Result]


def parse_line(line: str) -> Event | None:
    """Return the event that a line contains; None for any other text.

    Args:
        line: one line that rsft printed.
    """
    try:
        fields = json.loads(line)
    except ValueError:
        return None
    if not isinstance(fields, dict) or "event" not in fields:
        return None
    event = fields.pop("event")
    if event == "progress":
        return Progress(
            str(fields.get("task", "")),
            _integer(fields.get("done")),
            _integer(fields.get("total")),
        )
    if event == "step":
        return Progress(
            "training", _integer(fields.get("done")), _integer(fields.get("total"))
        )
    if event == "started":
        return Start(_epochs(fields))
    if event == "epoch":
        return Epoch(
            _integer(fields.get("epoch")) + 1,
            _decimal(fields.get("train_loss")),
            _decimal(fields.get("val_macro")),
        )
    if event == "error":
        return _failure(fields)
    if event == "done":
        return Result(fields)
    return OtherEvent()


def _failure(fields: dict[str, Any]) -> Failure:
    what = str(fields.get("message") or "")
    where = str(fields.get("location") or "")
    fix = str(fields.get("hint") or "")
    # of a recipe
    faults = [fault for fault in fields.get("faults") or [] if isinstance(fault, dict)]
    lines = [
        f"{fault.get('key')}: found {fault.get('found')}; {fault.get('allowed')}"
        for fault in faults
    ]
    return Failure("\n".join([what or "rsft stopped", *lines]), where, fix)


def _epochs(fields: dict[str, Any]) -> int:
    value: Any = fields
    for key in ("recipe", "train", "epochs"):
        value = value.get(key) if isinstance(value, dict) else None
    return _integer(value)


def _decimal(value: object) -> float | None:
    if isinstance(value, (int, float)):
        return float(value)
    return None


def _integer(value: object) -> int:
    if isinstance(value, (int, float)):
        return int(value)
    return 0
