"""Run the trials of one table of the paper, and read their results."""

from collections.abc import Callable, Sequence
from pathlib import Path

from rsft.plugins.sweeps.lines import TrialLines
from rsft.plugins.sweeps.paper.authors.runs import authors_folder, is_finished
from rsft.plugins.sweeps.paper.cells import (
    Column,
    PaperTable,
    TableSettings,
    cell_trials,
    table_cells,
)
from rsft.plugins.sweeps.paper.distances import class_distances
from rsft.plugins.sweeps.strategies import list_strategy
from rsft.plugins.sweeps.sweep import TrialRunner, drop_failed
from rsft.plugins.sweeps.trial_process import MODULES, TrialSettings
from rsft.study.outcomes import TRIALS, TrialOutcome, read_outcomes
from rsft.study.trials import Trial
from rsft.training.runs.reader import find_runs
from rsft.utils.executor import open_executor
from rsft.utils.untrusted.documents import load_json

Value = tuple[float, ...]
"""A value, and the limits of its 95 % interval if it has one."""


class TableRuns:
    """The trials of a table, in RESULTS/trials/ with the layout of `rsft sweep`.

    Args:
        table: a table of the paper.
        settings: how the runs differ from the paper's; a table of parameter counts
            ignores them.
        results: folder of the runs.

    Attributes:
        sets: the sets that are run; with another base recipe those of one data set.
        cells: trials, one per seed, by row and set.
        trials: trials by id; cells of the same experiment share them.
        names: names of the trials by id.
        unknown_recipes: names of recipes that rsft does not have.
        outcomes: outcomes by trial id.
    """

    def __init__(
        self, table: PaperTable, settings: TableSettings, results: Path
    ) -> None:
        if table.only_counts_parameters:
            settings = TableSettings()
        self.table = table
        self.settings = settings
        self.results = results
        self.sets = table.find_sets(settings.column, bool(settings.base_recipe))
        self.cells: dict[tuple[str, str], list[Trial]] = {}
        self.trials: dict[str, Trial] = {}
        self.names: dict[str, str] = {}
        self.unknown_recipes: list[str] = []
        for cell in table_cells(table, self.sets):
            trials = cell_trials(cell, settings)
            self.cells[cell.row, cell.set] = trials
            if not trials and cell.recipe not in self.unknown_recipes:
                self.unknown_recipes.append(cell.recipe)
            for trial in trials:
                seed = trial.recipe.seed
                self.trials[trial.id] = trial
                self.names[trial.id] = f"{cell.row}, {cell.set}, seed {seed}"
        self.outcomes: dict[str, TrialOutcome] = {}
        self.read_outcomes()

    def read_outcomes(self) -> None:
        """Read the outcomes of all trials."""
        self.outcomes = read_outcomes(self.results, self.trials.values())

    def run(self, threads: int, say: Callable[[str], None]) -> None:
        """Run the missing trials; failed ones are run again.

        Args:
            threads: CPU threads of one trial.
            say: called with one line per trial.

        Raises:
            Interrupted: SIGINT or SIGTERM; the trials have saved their state.
        """
        finished = drop_failed(self.outcomes)
        missing = [trial for id, trial in self.trials.items() if id not in finished]
        if not missing:
            return
        TrialRunner(
            self.results,
            list_strategy(missing),
            TrialSettings("avg", threads),
            open_executor(jobs=1, cpus=threads, modules=MODULES),
            TrialLines("avg", len(self.trials), len(finished), say, names=self.names),
        ).run()
        self.read_outcomes()

    def failures(self) -> list[str]:
        """Return one line per failed trial: its name and the reason."""
        lines = []
        for id, outcome in self.outcomes.items():
            if outcome.status == "failed":
                lines.append(f"{self.names[id]}: {outcome.reason}")
        return lines

    def values(self, row: str, column: Column, authors: bool = False) -> list[Value]:
        """Return a measure of the finished runs of a cell.

        Args:
            row: name of the row.
            column: set and measure.
            authors: whether the runs are those of the authors' code.

        Returns:
            One value per seed: accuracy in % with its interval over the test chips, a
            distance, or parameters in millions.
        """
        set_name, measure = column
        if measure.endswith("parameters"):
            if authors:
                return []
            classes = self.table.rows[row].classes
            counts = count_parameters(self.cells[row, set_name], classes)
            return [(counts[measure.startswith("head")] / 1e6,)]
        values: list[Value] = []
        for folder in self._run_folders(row, set_name, authors):
            if measure.startswith("distance"):
                distance = class_distances(folder)[measure.removeprefix("distance ")]
                values += [(distance,)] if distance is not None else []
                continue
            methods = load_json(folder / "evaluation/metrics.json")["methods"]
            interval = next(iter(methods.values())).get(measure)
            if interval:  # a group may have no test chips
                numbers = (interval["value"], interval["low"], interval["high"])
                values.append(tuple(100 * number for number in numbers))
        return values

    def _run_folders(self, row: str, set_name: str, authors: bool) -> list[Path]:
        """Return the folders of the finished runs of a cell."""
        folders = []
        for trial in self.cells[row, set_name]:
            outcome = self.outcomes.get(trial.id)
            folder = authors_folder(self.results, trial)
            if authors:
                if is_finished(folder, trial.recipe):
                    folders.append(folder)
            elif outcome is not None and outcome.status == "done":
                runs = find_runs(self.results / TRIALS / trial.id)
                folders += [run.folder for run in runs[-1:]]
        return folders


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
