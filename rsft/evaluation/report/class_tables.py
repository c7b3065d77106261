"""The classes one by one, and what they are mistaken for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rsft.evaluation.report.formatting import percent
from rsft.evaluation.report.schema import Evaluation
from rsft.types import GROUPS


@dataclass(frozen=True)
class ClassRow:
    """One class; recall and precision in %, None where not defined."""

    name: str
    group: str
    train: int
    test: int
    recall: str | None
    precision: str | None


def order_by_training(evaluation: Evaluation) -> list[int]:
    """Class indices group by group, in each by falling training count."""
    rank = {index: place for place, group in enumerate(GROUPS) for index in evaluation.groups.get(group, [])}
    counts = evaluation.train_counts
    return sorted(range(len(counts)), key=lambda index: (rank.get(index, len(GROUPS)), -counts[index]))


def group_of(evaluation: Evaluation, index: int) -> str:
    """The group of a class, "" without one."""
    return next((group for group in GROUPS if index in evaluation.groups.get(group, [])), "")


def class_rows(evaluation: Evaluation) -> list[ClassRow]:
    """Every class, from head to tail."""
    own = evaluation.summary
    return [
        ClassRow(
            name=evaluation.classes[index],
            group=group_of(evaluation, index),
            train=evaluation.train_counts[index],
            test=sum(evaluation.confusion[index]),
            recall=_percent(own.recall[index]),
            precision=_percent(own.precision[index]),
        )
        for index in order_by_training(evaluation)
    ]


def _percent(value: float | None) -> str | None:
    return None if value is None else percent(value)


@dataclass(frozen=True)
class Mistake:
    """Chips of one class that were taken for another, and their share of the class in %."""

    truth: str
    predicted: str
    count: int
    share: str


def frequent_mistakes(evaluation: Evaluation, most: int = 8) -> list[Mistake]:
    """The largest entries beside the diagonal."""
    matrix = np.array(evaluation.confusion)
    chips = matrix.sum(axis=1)
    np.fill_diagonal(matrix, 0)
    places = np.argsort(-matrix, axis=None, kind="stable")[:most]
    pairs = [(int(row), int(column)) for row, column in zip(*np.unravel_index(places, matrix.shape), strict=True)]
    names = evaluation.classes
    return [
        Mistake(names[row], names[column], int(matrix[row, column]), percent(matrix[row, column] / chips[row]))
        for row, column in pairs
        if matrix[row, column]
    ]
