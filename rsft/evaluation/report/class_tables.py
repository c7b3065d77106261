"""Make the table of classes and the table of the most frequent mistakes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rsft.evaluation.report.formatting import format_percent
from rsft.evaluation.schema import Evaluation
from rsft.types import GROUPS


@dataclass(frozen=True)
class ClassRow:
    """Numbers of one class.

    Attributes:
        name: name of the class.
        group: head, medium or tail; "" for a class without a group.
        train: number of training chips.
        test: number of evaluated chips.
        recall: recall in percent; None if not defined.
        precision: precision in percent; None if not defined.
    """

    name: str
    group: str
    train: int
    test: int
    recall: str | None
    precision: str | None


def order_by_training(evaluation: Evaluation) -> list[int]:
    """Order the classes from head to tail, and within a group by falling number of training chips.

    Args:
        evaluation: evaluation of the run.

    Returns:
        Class indices (C,); classes without a group come last.
    """
    rank = {index: number for number, group in enumerate(GROUPS) for index in evaluation.groups.get(group, [])}
    counts = evaluation.train_counts
    return sorted(range(len(counts)), key=lambda index: (rank.get(index, len(GROUPS)), -counts[index]))


def group_of_class(evaluation: Evaluation, index: int) -> str:
    """Return the group of a class, or "" for a class without one.

    Args:
        evaluation: evaluation of the run.
        index: index of the class.
    """
    return next((group for group in GROUPS if index in evaluation.groups.get(group, [])), "")


def class_rows(evaluation: Evaluation) -> list[ClassRow]:
    """Return the table of classes.

    Args:
        evaluation: evaluation of the run.

    Returns:
        One row per class, from head to tail.
    """
    summary = evaluation.summary
    return [
        ClassRow(
            name=evaluation.classes[index],
            group=group_of_class(evaluation, index),
            train=evaluation.train_counts[index],
            test=sum(evaluation.confusion[index]),
            recall=_optional_percent(summary.recall[index]),
            precision=_optional_percent(summary.precision[index]),
        )
        for index in order_by_training(evaluation)
    ]


def _optional_percent(value: float | None) -> str | None:
    return None if value is None else format_percent(value)


@dataclass(frozen=True)
class Mistake:
    """Chips of one class that were predicted as another class.

    Attributes:
        truth: name of the true class.
        predicted: name of the predicted class.
        count: number of chips.
        share: share of the chips of the true class, in percent.
    """

    truth: str
    predicted: str
    count: int
    share: str


def frequent_mistakes(evaluation: Evaluation, limit: int = 8) -> list[Mistake]:
    """Return the largest entries of the confusion matrix outside of its diagonal.

    Args:
        evaluation: evaluation of the run.
        limit: largest number of entries.

    Returns:
        The entries by falling number of chips.
    """
    matrix = np.array(evaluation.confusion)
    chips = matrix.sum(axis=1)
    np.fill_diagonal(matrix, 0)
    largest = np.argsort(-matrix, axis=None, kind="stable")[:limit]
    cells = [(int(row), int(column)) for row, column in zip(*np.unravel_index(largest, matrix.shape), strict=True)]
    names = evaluation.classes
    return [
        Mistake(names[row], names[column], int(matrix[row, column]), format_percent(matrix[row, column] / chips[row]))
        for row, column in cells
        if matrix[row, column]
    ]
