"""Run the trials of one table of the paper, and read their results."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np

from rsft.plugins.sweeps.paper.authors.runs import authors_folder, is_finished
from rsft.plugins.sweeps.paper.cells import (
    PaperTable,
    TableSettings,
    cell_trials,
    table_cells,
)
from rsft.plugins.sweeps.paper.distances import class_distances
from rsft.plugins.sweeps.strategies import list_strategy
from rsft.plugins.sweeps.sweep import SweepWatcher, TrialRunner, drop_failed
from rsft.plugins.sweeps.trial_process import MODULES, TrialSettings
from rsft.study.outcomes import TrialOutcome, read_outcomes
from rsft.study.trials import Trial
from rsft.utils.executor import open_executor
from rsft.utils.untrusted.documents import load_json


class TableRuns:
    """The trials of a table, in RESULTS/trials/ with the layout of `rsft sweep`.

    Args:
        table: a table of the paper.
        settings: how the runs differ from the paper's; a table of parameter counts
            ignores them.
        results: folder of the runs.

    Attributes:
        table: the table; with another base recipe only the columns of one data set.
        cells: each cell with its trials, one per seed; none if rsft has no such recipe.
        outcomes: outcomes by trial id.
    """

    def __init__(
        self, table: PaperTable, settings: TableSettings, results: Path
    ) -> None:
        if table.only_counts_parameters:
            settings = TableSettings()
        if settings.base_recipe or settings.column:
            table = table.for_one_dataset(settings.column)
        self.table = table
        self.settings = settings
        self.results = results
        root = Path(settings.root) if settings.root else None
        self.cells = []
        for cell in table_cells(table, root):
            self.cells.append((cell, cell_trials(cell, settings)))
        self.outcomes: dict[str, TrialOutcome] = {}
        if not table.only_counts_parameters:
            self.read_outcomes()

    @property
    def trials(self) -> list[Trial]:
        """The trials of all cells; cells of the same experiment share them."""
        return [*chain.from_iterable(trials for _, trials in self.cells)]

    def read_outcomes(self) -> None:
        """Read the outcomes of all trials."""
        self.outcomes = read_outcomes(self.results, self.trials)

    def _done(self, row: str, set_name: str) -> list[TrialOutcome]:
        """Return the outcomes of the trials of a cell that finished."""
        trials = self._trials(row, set_name)
        outcomes = [self.outcomes.get(trial.id) for trial in trials]
        return [x for x in outcomes if x is not None and x.status == "done"]

    def _trials(self, row: str, set_name: str) -> list[Trial]:
        """Return the trials of a cell."""
        cells = {(cell.row, cell.set): trials for cell, trials in self.cells}
        return cells[row, set_name]

    @property
    def finished_count(self) -> int:
        """Number of trials that finished."""
        return sum(outcome.status == "done" for outcome in self.outcomes.values())

    @property
    def planned_count(self) -> int:
        """Total number of trials; cells of the same experiment share one."""
        if self.table.only_counts_parameters:
            return 0
        return len({trial.id for trial in self.trials})

    def named_trials(self) -> dict[str, tuple[str, Trial]]:
        """Return name and trial by id, the first seed of every cell first."""
        named = {}
        for seed in zip_longest(*(trials for _, trials in self.cells)):
            for (cell, _), trial in zip(self.cells, seed, strict=True):
                if trial is not None:
                    name = f"{cell.row}, {cell.set}, seed {trial.recipe.seed}"
                    named[trial.id] = (name, trial)
        return named

    def run(self, threads: int, say: Callable[[str], None]) -> None:
        """Run the missing trials; failed ones are run again.

        Args:
            threads: CPU threads of one trial.
            say: called with one line per trial.

        Raises:
            Interrupted: SIGINT or SIGTERM; the trials have saved their state.
        """
        finished = drop_failed(self.outcomes)
        named = self.named_trials()
        missing = [trial for id, (_, trial) in named.items() if id not in finished]
        if not missing:
            return
        names = {id: name for id, (name, _) in named.items()}
        executor = open_executor(jobs=1, cpus=threads, modules=MODULES)
        TrialRunner(
            self.results,
            list_strategy(missing),
            TrialSettings("avg", threads),
            executor,
            _Narrator(names, say),
        ).run()
        self.read_outcomes()

    def failures(self) -> list[str]:
        """Return one line per failed trial: its cell and the reason."""
        cells = {x.id: cell for cell, trials in self.cells for x in trials}
        lines = []
        for id, outcome in self.outcomes.items():
            if outcome.status == "failed":
                lines.append(f"{cells[id].row}, {cells[id].set}: {outcome.reason}")
        return lines

    def intervals(
        self, row: str, set_name: str, measure: str, authors: bool = False
    ) -> list[tuple[float, ...]]:
        """Return an accuracy of the finished runs of a cell, with its interval.

        Args:
            row: name of the row.
            set_name: name of the set.
            measure: head, medium, tail or avg.
            authors: whether the runs are those of the authors' code.

        Returns:
            Value, lower and upper bound of the 95 % interval over the test chips in %
                for each seed.
        """
        folders = [Path(outcome.run) for outcome in self._done(row, set_name)]
        if authors:
            folders = []
            for trial in self._trials(row, set_name):
                folder = authors_folder(self.results, trial)
                if is_finished(folder, trial.recipe):
                    folders.append(folder)
        intervals = []
        for folder in folders:
            methods = load_json(folder / "evaluation/metrics.json")["methods"]
            interval = next(iter(methods.values())).get(measure)
            if interval:
                numbers = (interval["value"], interval["low"], interval["high"])
                intervals.append(tuple(100 * number for number in numbers))
        return intervals

    def measured_values(self, row: str, set_name: str, measure: str) -> list[float]:
        """Return a measure of the finished runs of a cell.

        Args:
            row: name of the row.
            set_name: name of the set.
            measure: one of the set's measures.

        Returns:
            One value per seed: accuracy in %, a distance, or parameters in millions.
        """
        if measure.endswith("parameters"):
            counts = count_parameters(
                self._trials(row, set_name), self.table.rows[row].classes
            )
            return [counts[measure.startswith("head")] / 1e6]
        values = []
        for outcome in self._done(row, set_name):
            if measure.startswith("distance"):
                value = class_distances(Path(outcome.run)).get(
                    measure.removeprefix("distance ")
                )
            else:
                value = 100 * outcome.metrics.get(measure, np.nan)
            if value is not None and np.isfinite(value):
                values.append(value)
        return values


@dataclass
class _Narrator(SweepWatcher):
    """Shows one line per trial that ends.

    Attributes:
        names: names of all trials by id.
        say: shows a line.
    """

    names: dict[str, str]
    say: Callable[[str], None]

    def on_end(self, id: str, outcome: TrialOutcome | None) -> None:
        if outcome is None:
            return
        result = outcome.reason
        if outcome.status == "done":
            result = f"avg {100 * outcome.metrics['avg']:.1f}"
        number = list(self.names).index(id) + 1
        trial = f"{number} of {len(self.names)}: {self.names[id]}"
        self.say(f"{trial}: {result} ({outcome.seconds:.0f} s)")


def count_parameters(trials: Sequence[Trial], classes: int) -> tuple[int, int]:
    """Count trained parameters, on a network without weights.

    Args:
        trials: the only trial of a cell.
        classes: number of classes of the head.

    Returns:
        Parameters of the PEFT modules, and weights of the head.
    """
    import torch

    from rsft.backbones.loading import find_card
    from rsft.peft import attach

    (trial,) = trials
    recipe = trial.recipe
    with torch.device("meta"):
        vit = find_card(recipe.backbone.name).build(recipe.data.size)
    adapted = attach(vit, recipe.peft.build())
    count = sum(parameter.numel() for parameter in adapted.theta)
    return count, classes * vit.num_features
