"""List what a job rejected, and explain a table without rows."""

from __future__ import annotations

from pathlib import Path

from rsft.data.chips.store import write_rejected
from rsft.errors import DataError
from rsft.inference.predict.chip_files import PredictionPlan
from rsft.scenes.query import Query
from rsft.types import Rejection
from rsft.utils.atomic_files import atomic_file


def describe_empty_result(
    plan: PredictionPlan,
    query: Query,
    rejected: list[Rejection],
    rejected_list: Path | None,
    may_be_outside: bool,
) -> str:
    """Return the note of a job without any row.

    This is a result, unless chips were rejected or positions lie outside.

    Args:
        plan: the chips.
        query: where chips were cut.
        rejected: everything that was rejected; the error quotes the first reason.
        rejected_list: path of the list of rejected chips; None if none was written.
        may_be_outside: whether all positions may lie outside of the scenes.

    Raises:
        DataError: all chips, or all positions of a file, were rejected, or lie outside
            of the scenes.
    """
    total = sum(len(source) for source in plan.sources)
    outside = max((len(item.outside) for item in plan.positions), default=0)
    if rejected and (total or not outside):
        path, reason = locate_rejection(rejected[0])
        count = max(total, len(rejected))
        raise DataError(
            f"none of the {count:,} chips can be used; {path}: {reason}",
            rejected_list or "",
            "the file lists the reason for each chip" if rejected_list else "",
        )
    if outside and query.at and not may_be_outside:
        raise DataError(
            f"none of the {outside:,} positions lies in the scenes",
            query.at,
            "; ".join(plan.positions[0].notes),
        )
    return "the table has no rows: the scenes have no chip to classify"


def locate_rejection(rejection: Rejection) -> tuple[Path, str]:
    """Return the file with the line, if there is one, and the reason of a rejection."""
    file, line, reason = rejection
    return Path(f"{file}:{line}" if line else file), reason


def write_rejected_list(path: Path, rejected: list[Rejection]) -> None:
    """Write the list of rejected chips; without any, delete that of an earlier job."""
    if not rejected:
        path.unlink(missing_ok=True)
        return
    with atomic_file(path) as temporary:
        write_rejected(temporary, rejected)
