"""The runs of a table of the paper: what is done, what is missing, and what they measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from rsft.recipe.load import dump_recipe
from rsft.recipe.schema import Recipe
from rsft.sweep.job import TRIALS, SweepFolder
from rsft.sweep.outcome import OUTCOME, RECIPE, Outcome
from rsft.sweep.process import run_trial
from rsft.sweep.schema import Sweep
from rsft.sweep.trials import Trial
from rsft.utils.atomic_files import write_text
from tools.reproduction.paper_cells import Asked, Cell, PaperTable, cells_of, trials_of

DISTANCES = "distances.json"


class TableRuns:
    """The trials of a table, in RESULTS/trials/ as `rsft sweep` leaves them.

    Attributes:
        table: as asked: with another recipe under it, the columns of one set alone.
        cells: each with its trials, one a seed; none where its recipe does not exist.
        outcomes: of the trials that are over, by id.
    """

    def __init__(self, table: PaperTable, asked: Asked, results: Path) -> None:
        self.asked, self.results = Asked() if table.is_counted else asked, results
        self.table = table.scaled_down() if self.asked.on else table
        self.cells = [(cell, trials_of(cell, self.asked)) for cell in cells_of(self.table)]
        trials = [trial for _, each in self.cells for trial in each]
        self.folder = SweepFolder(results, Sweep(recipe=[cell.recipe for cell, _ in self.cells]), trials)
        self.outcomes = {} if table.is_counted else self.folder.outcomes()

    @property
    def done(self) -> int:
        """Trials with numbers."""
        return sum(outcome.status == "done" for outcome in self.outcomes.values())

    @property
    def planned(self) -> int:
        """Trials in all; cells that are the same experiment share one."""
        return 0 if self.table.is_counted else self.folder.planned

    def run(self, retry: bool, threads: int) -> None:
        """Run what is missing, the first seed of every cell first, and tell of each."""
        finished = self.folder.finished(retry)
        rows = [[(cell, trial) for trial in trials] for cell, trials in self.cells]
        turns = {trial.id: (cell, trial) for turn in zip_longest(*rows) for cell, trial in filter(None, turn)}
        for number, (id, (cell, trial)) in enumerate(turns.items(), 1):
            if id not in finished:
                outcome = self._run(trial, threads)
                told = f"avg {100 * outcome.metrics['avg']:.1f}" if outcome.status == "done" else outcome.reason
                name = f"{cell.row}, {cell.set}, seed {trial.recipe.seed}"
                print(f"{number} of {len(turns)}: {name}: {told} ({outcome.seconds:.0f} s)", flush=True)
        self.outcomes = self.folder.outcomes()

    def _run(self, trial: Trial, threads: int) -> Outcome:
        folder = self.results / TRIALS / trial.id
        (folder / OUTCOME).unlink(missing_ok=True)
        write_text(folder / RECIPE, dump_recipe(trial.recipe))
        place = Path.cwd()
        return run_trial(folder.resolve(), trial.keys, lambda event: None, metric="avg", threads=threads, place=place)

    def failures(self) -> list[str]:
        """Cells whose runs failed, each with the reason."""
        names = {trial.id: cell for cell, trials in self.cells for trial in trials}
        failed = {id: outcome for id, outcome in self.outcomes.items() if outcome.status == "failed"}
        return [f"{names[id].row}, {names[id].set}: {outcome.reason}" for id, outcome in failed.items()]

    def values(self, row: str, name: str, measure: str) -> list[float]:
        """Of the runs of a cell that are done, one a seed: accuracy in %, distances, parameters in millions."""
        cell, trials = next((cell, trials) for cell, trials in self.cells if cell[:2] == (row, name))
        if measure.endswith("parameters"):
            return [count(cell, trials, self.table.rows[row].classes)[measure.startswith("head")] / 1e6]
        done = [self.outcomes[trial.id] for trial in trials if trial.id in self.outcomes]
        done = [outcome for outcome in done if outcome.status == "done"]
        if measure.startswith("distance"):
            found = [distances(Path(outcome.run)).get(measure.removeprefix("distance ")) for outcome in done]
            return [value for value in found if value is not None]
        return [100 * outcome.metrics[measure] for outcome in done if measure in outcome.metrics]


def count(cell: Cell, trials: Sequence[Trial], classes: int) -> tuple[int, int]:
    """Trained parameters of the modules and of the head, on a network without weights."""
    import torch

    from rsft.backbones.registry import find_card
    from rsft.peft import attach

    (trial,) = trials
    recipe: Recipe = trial.recipe
    with torch.device("meta"):
        vit = find_card(recipe.backbone.name).build(recipe.data.size)
    adapted = attach(vit, recipe.peft.build())
    return sum(part.numel() for part in adapted.theta), classes * vit.num_features


def distances(run: Path) -> dict[str, float | None]:
    """Inter-class cosine distance of a run's adapted features by group, on its evaluated split; kept in its folder."""
    if (run / DISTANCES).is_file():
        return dict(json.loads((run / DISTANCES).read_text("utf-8")))
    from rsft.data.chips.store import ChipStore
    from rsft.data.loading.datamodule import ChipImages
    from rsft.metrics.separation import class_mean_distances, distance_by_group
    from rsft.models.bundle.bundle import Bundle
    from rsft.models.factory import load_classifier
    from rsft.models.outputs import collect_outputs

    bundle = Bundle.load(run / "bundle")
    split = json.loads((run / "evaluation" / "metrics.json").read_text("utf-8"))["split"]
    store = ChipStore.open(Path(bundle.recipe.data.root))
    chips = ChipImages(store.root, store.split(split), store.classes, bundle.contract)
    features = collect_outputs(load_classifier(bundle), chips.batches(bundle.recipe.evaluate.batch_size)).features
    found = distance_by_group(class_mean_distances(features, chips.labels, len(store.classes)), bundle.group_indices)
    write_text(run / DISTANCES, json.dumps(found))
    return found
