"""Show the choice of a recipe: a line for each run, or JSON lines."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from rsft.cli.display.console import (
    console,
    emit_json_event,
    print_lines,
    progress,
)
from rsft.study.choice import SearchListener
from rsft.study.choice_file import AutoPlan
from rsft.study.comparison import TriedCandidate, format_accuracy
from rsft.study.trials import Trial
from rsft.training.processes import is_rank_zero
from rsft.types import Progress


class SearchJson(SearchListener):
    """Prints a row of the table as the event candidate, whenever a run ends."""

    def on_row(self, row: TriedCandidate) -> None:
        emit_json_event("candidate", asdict(row))


class SearchLines(SearchListener):
    """Prints one line for each run, and reports the spent time.

    Args:
        report: shows the progress.
    """

    def __init__(self, report: Progress) -> None:
        self.report = report

    def on_trial(self, trial: Trial, spent_s: float, budget_s: float) -> None:
        text = (
            f"{trial.recipe.name}, fold {trial.keys['data.fold']},"
            f" {trial.keys['train.epochs']} epochs, CPU seconds so far"
        )
        self.report(round(spent_s), round(budget_s), text)

    def on_row(self, row: TriedCandidate) -> None:
        failed = f": failed, {row.fault}" if row.fault else ""
        cells = {
            "candidate": f"{row.candidate}{failed}",
            "folds": row.folds,
            "epochs": row.epochs,
            "macro": format_accuracy(row.macro, row.macro_spread),
            "tail": format_accuracy(row.tail, row.tail_spread),
            "CPU s": round(row.cpu_seconds),
        }
        line = "  ".join(f"{name} {cell}" for name, cell in cells.items())
        console.print(line)


def describe_plan(plan: AutoPlan) -> Iterator[str]:
    """Yield what is compared, unless nothing can be, and the notes on the data."""
    if not plan.obstacle:
        names = ", ".join(candidate.name for candidate in plan.methods())
        settings = plan.settings
        line = (
            f"comparing {names} for {settings.measure} in {settings.folds} folds, at"
            f" most {settings.budget} of CPU time"
        )
        pools = ", ".join(candidate.name for candidate in plan.pools())
        if pools:
            line += f"; then the best one with {pools}, in as much time again"
        yield line
    yield from plan.notes


@contextmanager
def choose_search_display(
    plan: AutoPlan, *, quiet: bool, as_json: bool
) -> Iterator[SearchListener]:
    """Yield the listener that shows a choice: lines, or JSON lines.

    Args:
        plan: the candidates and the notes.
        quiet: show nothing.
        as_json: print JSON lines.

    Yields:
        The listener; one that shows nothing in further processes.
    """
    if quiet or not is_rank_zero():
        yield SearchListener()
    elif as_json:
        yield SearchJson()
    else:
        print_lines(describe_plan(plan))
        with progress() as report:
            yield SearchLines(report)
