"""The JSON files that a report is made from; what older runs did not write may be absent."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, Field, model_validator


class Interval(BaseModel):
    """A value with its 95 % interval, in 0-1 (nats for `log_loss`)."""

    value: float
    low: float
    high: float


class Worst(BaseModel):
    """The class of lowest recall."""

    name: str = Field(alias="class")
    value: float


class Summary(BaseModel):
    """One method's numbers (`rsft.metrics.accuracy.Summary`), in 0-1; lists by class."""

    micro: Interval
    macro: Interval
    macro_f1: Interval
    avg: Interval | None
    head: Interval | None
    medium: Interval | None
    tail: Interval | None
    worst: Worst
    harmonic: float
    ece: float | None
    top2: Interval | None = None
    log_loss: Interval | None = None
    recall: list[float | None]
    precision: list[float | None]


class Coverage(Interval):
    """How many chips have their class in their set, how many classes a set holds, and the share that hold one."""

    size: float
    single: float
    chips: int


class Sets(BaseModel):
    """What was found where `asked` of the chips should have their class in their set."""

    asked: float
    groups: dict[str, Coverage | None]
    by_class: list[float | None]
    scarce: list[int]


class Trust(BaseModel):
    """What the confidence is worth (`rsft.evaluation.calibration_report.examine`)."""

    temperature: float
    ece_uncalibrated: float
    fitted_here: bool
    coverage: list[Sets]
    flagged: float
    strange: dict[str, float | None]


class Evaluation(BaseModel):
    """evaluation/metrics.json: the run's method first, then the baselines."""

    data: str
    split: str
    count: int
    classes: list[str]
    train_counts: list[int]
    groups: dict[str, list[int]]
    methods: dict[str, Summary] = Field(min_length=1)
    confusion: list[list[int]]
    confidence: Trust | None = None
    distances: dict[str, dict[str, float | None]] = {}
    notes: list[str] = []

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        lengths = {len(self.train_counts), len(self.confusion), *map(len, self.confusion)}
        lengths |= {len(values) for own in self.methods.values() for values in (own.recall, own.precision)}
        lengths |= {len(found.by_class) for found in (self.confidence.coverage if self.confidence else ())}
        if lengths != {len(self.classes)}:
            raise ValueError("a list does not have one entry a class")
        return self

    @property
    def method(self) -> str:
        """The name of the run's own method."""
        return next(iter(self.methods))

    @property
    def summary(self) -> Summary:
        """The run's own numbers."""
        return self.methods[self.method]

    @property
    def baselines(self) -> dict[str, Summary]:
        """The numbers it is shown beside."""
        return {name: summary for name, summary in self.methods.items() if name != self.method}


class Facts(BaseModel):
    """run.json; a run that was cut short, and one of an older version, lacks some keys."""

    status: str
    started: datetime
    seconds: float | None = None
    device: str | None = None
    machine: str | None = None
    hardware: dict[str, Any] = {}
    git: dict[str, Any] | None = None
    data: dict[str, str] = {}
    trained_parameters: int | None = None
    modulator_parameters: int | None = None
    total_parameters: int | None = None
    train_chips: int | None = None
    val_chips: int | None = None
    backbone_sha256: str | None = None
    bundle_sha256: str | None = None
    versions: dict[str, str] = {}


class Finding(BaseModel):
    """One kind of fault of a data set: how often it was met, among how many."""

    what: str
    count: int
    of: int | None = None
    examples: list[str] = []


class Audit(BaseModel):
    """An entry of audit.json."""

    clean: bool
    facts: dict[str, int | str]
    findings: list[Finding]
