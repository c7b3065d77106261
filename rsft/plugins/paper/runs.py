"""Run the trials of one table of the paper, and read their results."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from rsft.plugins.paper.authors.runs import authors_folder, is_finished
from rsft.plugins.paper.cells import (
    Cell,
    PaperTable,
    TableSettings,
    cell_trials,
    table_cells,
)
from rsft.recipe.schema import Recipe
from rsft.study.outcomes import TrialOutcome, read_outcomes
from rsft.study.runs import MODULES, TrialSettings
from rsft.study.strategies import ListedTrials
from rsft.study.sweep import TrialRunner, drop_failed
from rsft.study.trials import Trial
from rsft.utils.atomic_files import write_text
from rsft.utils.executor import open_executor
from rsft.utils.untrusted.documents import load_json

DISTANCES = "distances.json"


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
            self.settings = TableSettings()
        else:
            self.settings = settings
        self.results = results
        is_small = bool(self.settings.base_recipe or self.settings.column)
        if is_small:
            self.table = table.for_one_dataset(self.settings.column)
        else:
            self.table = table
        root = Path(self.settings.root) if self.settings.root else None
        self.cells = [
            (cell, cell_trials(cell, self.settings))
            for cell in table_cells(self.table, root)
        ]
        self.outcomes: dict[str, TrialOutcome] = {}
        if not table.only_counts_parameters:
            self._read_outcomes()

    def _read_outcomes(self) -> None:
        trials = [trial for _, trials in self.cells for trial in trials]
        self.outcomes = read_outcomes(self.results, trials)

    @property
    def finished_count(self) -> int:
        """Number of trials that finished."""
        return sum(outcome.status == "done" for outcome in self.outcomes.values())

    @property
    def planned_count(self) -> int:
        """Total number of trials; cells of the same experiment share one."""
        if self.table.only_counts_parameters:
            return 0
        return len({trial.id for _, trials in self.cells for trial in trials})

    def run(self, retry: bool, threads: int, say: Callable[[str], None]) -> None:
        """Run the missing trials, the first seed of every cell first.

        Args:
            retry: run trials that failed in training again.
            threads: CPU threads of one trial.
            say: called with one line per trial.

        Raises:
            Interrupted: SIGINT or SIGTERM; the trials have saved their state.
        """
        rows = [[(cell, trial) for trial in trials] for cell, trials in self.cells]
        named = {}
        for pairs in zip_longest(*rows):
            for cell, trial in filter(None, pairs):
                named[trial.id] = (f"{cell.row}, {cell.set}", trial)
        finished = drop_failed(self.outcomes, retry)
        missing = [trial for id, (_, trial) in named.items() if id not in finished]
        if missing:
            names = {
                id: f"{name}, seed {trial.recipe.seed}"
                for id, (name, trial) in named.items()
            }
            settings = TrialSettings("avg", threads)
            executor = open_executor(jobs=1, cpus=threads, modules=MODULES)
            watcher = _Narrator(names, say)
            strategy = ListedTrials(missing)
            TrialRunner(self.results, strategy, settings, executor, watcher).run()
        self._read_outcomes()

    def failures(self) -> list[str]:
        """Return the failed trials.

        Returns:
            One line per trial: its cell and the reason.
        """
        cells = {trial.id: cell for cell, trials in self.cells for trial in trials}
        failed = {
            id: outcome
            for id, outcome in self.outcomes.items()
            if outcome.status == "failed"
        }
        return [
            f"{cells[id].row}, {cells[id].set}: {outcome.reason}"
            for id, outcome in failed.items()
        ]

    def intervals(
        self, row: str, set_name: str, measure: str, authors: bool = False
    ) -> list[tuple[float, ...]]:
        """Return an accuracy of the finished runs of a cell, with its interval over the test chips.

        Args:
            row: name of the row.
            set_name: name of the set.
            measure: head, medium, tail or avg.
            authors: whether the runs are those of the authors' code.

        Returns:
            Value, lower and upper bound of the 95 % interval in % for each seed.
        """
        _, trials = next(
            (cell, trials) for cell, trials in self.cells if cell[:2] == (row, set_name)
        )
        if authors:
            folders = [authors_folder(self.results, trial) for trial in trials]
            folders = [
                x
                for x, trial in zip(folders, trials, strict=True)
                if is_finished(x, trial.recipe)
            ]
        else:
            outcomes = [
                self.outcomes[trial.id] for trial in trials if trial.id in self.outcomes
            ]
            folders = [
                Path(outcome.run) for outcome in outcomes if outcome.status == "done"
            ]
        intervals = []
        for folder in folders:
            methods = load_json(folder / "evaluation/metrics.json")["methods"]
            interval = next(iter(methods.values())).get(measure)
            if interval:
                intervals.append(
                    tuple(100 * interval[key] for key in ("value", "low", "high"))
                )
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
        cell, trials = next(
            (cell, trials) for cell, trials in self.cells if cell[:2] == (row, set_name)
        )
        if measure.endswith("parameters"):
            counts = count_parameters(cell, trials, self.table.rows[row].classes)
            return [counts[measure.startswith("head")] / 1e6]
        outcomes = [
            self.outcomes[trial.id] for trial in trials if trial.id in self.outcomes
        ]
        outcomes = [outcome for outcome in outcomes if outcome.status == "done"]
        if measure.startswith("distance"):
            group = measure.removeprefix("distance ")
            values = [
                class_distances(Path(outcome.run)).get(group) for outcome in outcomes
            ]
            return [value for value in values if value is not None]
        return [
            100 * outcome.metrics[measure]
            for outcome in outcomes
            if measure in outcome.metrics
        ]


class _Narrator:
    """Shows one line per trial that ends.

    Args:
        names: names of all trials by id.
        say: shows a line.
    """

    def __init__(self, names: dict[str, str], say: Callable[[str], None]) -> None:
        self.names = names
        self.say = say

    def on_start(self, id: str, keys: Mapping[str, Any]) -> None:
        """Show nothing."""

    def on_epoch(self, id: str, row: Mapping[str, Any]) -> None:
        """Show nothing."""

    def on_end(self, id: str, outcome: TrialOutcome | None) -> None:
        """Show the accuracy of a trial, or why it failed."""
        if outcome is None:
            return
        result = outcome.reason
        if outcome.status == "done":
            result = f"avg {100 * outcome.metrics['avg']:.1f}"
        number = list(self.names).index(id) + 1
        self.say(
            f"{number} of {len(self.names)}: {self.names[id]}: {result}"
            f" ({outcome.seconds:.0f} s)"
        )


def count_parameters(
    cell: Cell, trials: Sequence[Trial], classes: int
) -> tuple[int, int]:
    """Count trained parameters, on a network without weights.

    Args:
        cell: a cell of a table.
        trials: its only trial.
        classes: number of classes of the head.

    Returns:
        Parameters of the PEFT modules, and weights of the head.
    """
    import torch

    from rsft.backbones.loading import find_card
    from rsft.peft import attach

    (trial,) = trials
    recipe: Recipe = trial.recipe
    with torch.device("meta"):
        vit = find_card(recipe.backbone.name).build(recipe.data.size)
    adapted = attach(vit, recipe.peft.build())
    return (
        sum(parameter.numel() for parameter in adapted.theta),
        classes * vit.num_features,
    )


def class_distances(run: Path) -> dict[str, float | None]:
    """Return inter-class cosine distances of a run's adapted features on its evaluated split.

    Args:
        run: the run folder, where distances.json stores the result.

    Returns:
        Mean distance by group of classes; None for a group without classes.
    """
    if (run / DISTANCES).is_file():
        return dict(json.loads((run / DISTANCES).read_text("utf-8")))
    from rsft.data.chips.store import ChipStore
    from rsft.data.loading.batches import ChipImages
    from rsft.metrics import class_mean_distances, distance_by_group
    from rsft.models.bundle.bundle import Bundle
    from rsft.models.classifier import collect_outputs, load_classifier

    bundle = Bundle.load(run / "bundle")
    split = json.loads((run / "evaluation" / "metrics.json").read_text("utf-8"))[
        "split"
    ]
    store = ChipStore.open(Path(bundle.recipe.data.root))
    chips = ChipImages(store.root, store.split(split), store.classes, bundle.contract)
    features = collect_outputs(
        load_classifier(bundle), chips.batches(bundle.recipe.evaluate.batch_size)
    ).features
    distances = class_mean_distances(features, chips.labels, len(store.classes))
    by_group = distance_by_group(distances, bundle.group_indices)
    write_text(run / DISTANCES, json.dumps(by_group))
    return by_group
