"""Show the choice of a recipe: a table that grows, and one line of progress."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Self

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from rsft.cli.display.console import (
    LiveArea,
    can_redraw,
    emit_json_event,
    error_console,
    make_table,
)
from rsft.cli.display.waiting import WaitingLines
from rsft.study.choice import SearchListener
from rsft.study.choice_file import AutoPlan
from rsft.study.comparison import TriedCandidate, format_accuracy
from rsft.study.trials import Trial
from rsft.training.listeners import StepReport
from rsft.training.processes import is_rank_zero

COLUMNS = ("candidate", "folds", "epochs", "macro", "tail", "CPU s")


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
        self.waiting = WaitingLines(partial(error_console.print, soft_wrap=True))

    def __enter__(self) -> Self:
        self.print_plan()
        self.waiting.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.waiting.__exit__()

    def print_plan(self) -> None:
        """Print the candidates and the notes."""
        names = ", ".join(candidate.name for candidate in self.plan.candidates)
        settings = self.plan.settings
        line = (
            f"comparing {names} for {settings.measure} in {settings.folds} folds, at"
            f" most {settings.budget} of CPU time"
        )
        for text in (line, *self.plan.notes):
            self.console.print(text, soft_wrap=True)

    def on_trial(self, trial: Trial, spent_s: float, budget_s: float) -> None:
        self.waiting.report(
            round(spent_s),
            round(budget_s),
            f"{describe_trial(trial)}, CPU seconds so far",
        )

    def on_table(self, rows: Sequence[TriedCandidate], changed: int) -> None:
        cells = zip(COLUMNS, row_cells(rows[changed]), strict=True)
        self.console.print(
            "  ".join(f"{name} {cell}" for name, cell in cells), soft_wrap=True
        )


class LiveSearch(SearchLines):
    """Redraws the table in place in a terminal; below it is one line of progress."""

    def __init__(self, plan: AutoPlan, console: Console) -> None:
        super().__init__(plan, console)
        self.rows: Sequence[TriedCandidate] = ()
        self.trial = self.step = ""
        self.live = LiveArea(
            get_renderable=self._render, console=console, refresh_per_second=2
        )

    def __enter__(self) -> Self:
        self.print_plan()
        self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.trial = self.step = ""
        self.live.stop()

    def on_trial(self, trial: Trial, spent_s: float, budget_s: float) -> None:
        self.trial = (
            f"{describe_trial(trial)}, {spent_s:.0f} of {budget_s:.0f} CPU seconds"
        )
        self.step = ""

    def on_progress(self, done: int, total: int, item: str) -> None:
        self.step = f"{item} {done:,}/{total:,}" if total else item

    def on_step(self, step: StepReport) -> None:
        self.step = f"step {step.done:,}/{step.total:,}"

    def on_table(self, rows: Sequence[TriedCandidate], changed: int) -> None:
        self.rows = rows

    def _render(self) -> Group:
        return Group(
            search_table(self.rows),
            Text("  ".join(filter(None, (self.trial, self.step)))),
        )


def choose_search_display(
    plan: AutoPlan, console: Console, *, quiet: bool, as_json: bool
) -> SearchDisplay:
    """Return the display for a choice: live, lines of a log, or JSON lines.

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
    if can_redraw(console):
        return LiveSearch(plan, console)
    return SearchLines(plan, console)


def describe_trial(trial: Trial) -> str:
    """Return the recipe, the fold and the epochs of a run of the choice."""
    return (
        f"{trial.recipe.name}, fold {trial.keys['data.fold']},"
        f" {trial.keys['train.epochs']} epochs"
    )


def search_table(rows: Sequence[TriedCandidate]) -> Table:
    """Return the table of what was tried: means and deviations over folds in %."""
    return make_table(
        "recall in % of held-out training chips, mean ± deviation over folds",
        COLUMNS,
        map(row_cells, rows),
    )


def row_cells(row: TriedCandidate) -> tuple[str, ...]:
    """Return the cells of a row of the table."""
    accuracies = (
        format_accuracy(row.macro, row.macro_spread),
        format_accuracy(row.tail, row.tail_spread),
    )
    failed = f": failed, {row.fault}" if row.fault else ""
    return (
        f"{row.candidate}{failed}",
        f"{row.folds}",
        f"{row.epochs}",
        *accuracies,
        f"{row.cpu_seconds:.0f}",
    )
