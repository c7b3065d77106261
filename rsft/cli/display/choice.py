"""Show the choice of a recipe: a line for each run, or JSON lines."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import Self

from rich.console import Console

from rsft.cli.display.console import emit_json_event, progress
from rsft.study.choice import SearchListener
from rsft.study.choice_file import AutoPlan
from rsft.study.comparison import TriedCandidate, format_accuracy
from rsft.study.trials import Trial
from rsft.training.processes import is_rank_zero


class SearchDisplay(SearchListener):
    """Receives the events of a choice within a `with` block.

    The base class shows nothing.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class SearchJson(SearchDisplay):
    """Prints a row of the table as the event candidate, whenever a run ends."""

    def on_table(self, rows: Sequence[TriedCandidate], changed: int) -> None:
        emit_json_event("candidate", asdict(rows[changed]))


class SearchLines(SearchDisplay):
    """Prints the notes on the data, and one line for each run.

    Args:
        plan: the candidates and the notes.
        console: where to print.
    """

    def __init__(self, plan: AutoPlan, console: Console) -> None:
        self.plan = plan
        self.console = console
        self.stack = ExitStack()

    def __enter__(self) -> Self:
        names = ", ".join(candidate.name for candidate in self.plan.methods())
        settings = self.plan.settings
        line = (
            f"comparing {names} for {settings.measure} in {settings.folds} folds, at"
            f" most {settings.budget} of CPU time"
        )
        pools = ", ".join(candidate.name for candidate in self.plan.pools())
        if pools:
            line += f"; then the best one with {pools}, in as much time again"
        texts = self.plan.notes if self.plan.obstacle else (line, *self.plan.notes)
        for text in texts:
            self.console.print(text, soft_wrap=True)
        self.report = self.stack.enter_context(progress())
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def on_trial(self, trial: Trial, spent_s: float, budget_s: float) -> None:
        text = (
            f"{trial.recipe.name}, fold {trial.keys['data.fold']},"
            f" {trial.keys['train.epochs']} epochs, CPU seconds so far"
        )
        self.report(round(spent_s), round(budget_s), text)

    def on_table(self, rows: Sequence[TriedCandidate], changed: int) -> None:
        row = rows[changed]
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
        self.console.print(line, soft_wrap=True)


def choose_search_display(
    plan: AutoPlan, console: Console, *, quiet: bool, as_json: bool
) -> SearchDisplay:
    """Return the display for a choice: lines, or JSON lines.

    Args:
        plan: the candidates and the notes.
        console: where to print.
        quiet: show nothing.
        as_json: print JSON lines.
    """
    if quiet or not is_rank_zero():
        return SearchDisplay()
    if as_json:
        return SearchJson()
    return SearchLines(plan, console)
