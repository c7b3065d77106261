"""List what a job rejected, and explain a table without rows."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

from rsft.errors import DataError
from rsft.inference.predict.chip_files import (
    PredictionPlan,
)
from rsft.scenes.query import Query
from rsft.types import Rejection
from rsft.utils.atomic_files import atomic_file
from rsft.utils.tables import escape_cell

if TYPE_CHECKING:
    pass


def describe_empty_result(
    plan: PredictionPlan,
    query: Query,
    rejected: list[Rejection],
    rejected_list: Path,
    may_be_outside: bool,
) -> str:
    """Return the note of a job without any row.

    This is a result, unless chips were rejected or positions lie outside.

    Args:
        plan: the chips.
        query: where chips were cut.
        rejected: everything that was rejected; the error quotes the first reason.
        rejected_list: path of the list of rejected chips.
        may_be_outside: whether all positions may lie outside of the scenes.

    Raises:
        DataError: all chips, or all positions of a file, were rejected, or lie outside
            of the scenes.
    """
    total = sum(len(source) for source in plan.sources)
    if rejected and (total or not any(item.outside for item in plan.positions)):
        file, line, reason = rejected[0]
        location = f"{file}:{line}" if line else file
        raise DataError(
            (
                f"none of the {max(total, len(rejected)):,} chips can be used; {location}:"
                f" {reason}"
            ),
            rejected_list,
            "the file lists the reason for each chip",
        )
    if query.at is not None:
        outside = max((len(item.outside) for item in plan.positions), default=0)
        if outside and not may_be_outside:
            if len(plan.scenes) == 1:
                scenes = plan.scenes[0].path.name
            else:
                scenes = f"the {len(plan.scenes):,} scenes"
            raise DataError(
                f"none of the {outside:,} positions lies in {scenes}",
                query.at,
                "; ".join(plan.positions[0].notes),
            )
        if outside:
            reason = "no position of {} lies in a scene"
        else:
            reason = "{} has no positions"
        return f"the table has no rows: {reason.format(query.at.name)}"
    return (
        "the table has no rows:"
        f" {'no object was detected' if query.detect else 'all tiles are without data'}"
    )


def write_rejected_list(output_path: Path, rejected: list[Rejection]) -> Path:
    """Write <output stem>.rejected.csv and return its path.

    If nothing was rejected, delete that of an earlier job.
    """
    rejected_list = output_path.with_suffix(".rejected.csv")
    if not rejected:
        rejected_list.unlink(missing_ok=True)
        return rejected_list
    with (
        atomic_file(rejected_list) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["file", "line", "reason"])
        writer.writerows([escape_cell(value) for value in row] for row in rejected)
    return rejected_list
