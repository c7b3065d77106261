"""The job of `rsft sweep`: trials that are not done yet, then their table and its heat maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rsft.data.chips.store import MANIFEST, ChipStore
from rsft.recipe.load import dump_recipe
from rsft.sweep.figures import draw_figures
from rsft.sweep.outcome import OUTCOME, RECIPE, Outcome, read_outcome
from rsft.sweep.proposals import Listed, Proposals
from rsft.sweep.results import results_table, write_results
from rsft.sweep.schema import Sweep
from rsft.sweep.trials import Keys, Trial, make_trial, within
from rsft.utils.atomic_files import sha256, write_text
from rsft.utils.ray_cluster import require

if TYPE_CHECKING:
    from rsft.sweep.search import Watcher

TRIALS, TUNE = "trials", "tune"


@dataclass(frozen=True)
class Results:
    """What a sweep has so far.

    Attributes:
        best: of the trials that are done; None where none is.
        failed: those that are marked so.
        left: how many have no outcome.
        paths: what was written, by name.
    """

    best: Outcome | None
    failed: list[Outcome]
    left: int
    paths: dict[str, Path]


class SweepFolder:
    """RUNS/sweeps/<name>/: a folder a trial, called by the hash of what it runs, and the results.

    Args:
        path: of the folder.
        sweep: what is asked for.
        trials: those that are known beforehand.
    """

    def __init__(self, path: Path, sweep: Sweep, trials: list[Trial]) -> None:
        self.path, self.sweep = path, sweep
        self.trials = {trial.id: trial for trial in trials}
        self._manifests: dict[Path, str] = {}

    @property
    def planned(self) -> int:
        """How many trials there are to be."""
        return len(self.trials) if self.sweep.method == "random" else self.sweep.trials or 0

    def outcomes(self) -> dict[str, Outcome]:
        """Of the trials of this sweep that are over, in its order; what was trained on other data does not count."""
        known = self.trials if self.sweep.method == "random" else self._proposed()
        found = ((id, read_outcome(self.path / TRIALS / id)) for id in known)
        return {id: outcome for id, outcome in found if outcome and self._is_current(known[id], outcome)}

    def finished(self, retry: bool = False) -> dict[str, Outcome]:
        """Those that are not run again: done, or failed in training. What failed before it is; with `retry` all that
        failed.
        """
        return {
            id: outcome
            for id, outcome in self.outcomes().items()
            if outcome.status == "done" or (outcome.data and not retry)
        }

    def prepare(self, keys: Keys) -> Path:
        """The folder of the trial with `keys`, where its recipe lies."""
        trial = make_trial(self.sweep, keys)
        folder = self.path / TRIALS / trial.id
        (folder / OUTCOME).unlink(missing_ok=True)
        write_text(folder / RECIPE, dump_recipe(trial.recipe))
        return folder.resolve()

    def report(self) -> Results:
        """Write table and figures anew from the outcomes."""
        outcomes = self.outcomes()
        table = results_table(self.sweep, outcomes)
        measures = [measure for measure in self.sweep.measures or [self.sweep.metric] if measure in table]
        paths = write_results(self.path, self.sweep, table, measures) | draw_figures(
            self.path, self.sweep, table, measures
        )
        ranked = sorted(
            (outcome for outcome in outcomes.values() if outcome.status == "done"),
            key=lambda outcome: outcome.metrics[self.sweep.metric],
            reverse=self.sweep.mode == "max",
        )
        failed = [outcome for outcome in outcomes.values() if outcome.status == "failed"]
        return Results(ranked[0] if ranked else None, failed, self.planned - len(outcomes), paths)

    def _proposed(self) -> dict[str, Trial]:
        """Those that TPE proposed for this sweep, in the order in which they ended."""
        files = sorted((self.path / TRIALS).glob(f"*/{OUTCOME}"), key=lambda path: path.stat().st_mtime_ns)
        outcomes = [outcome for file in files if (outcome := read_outcome(file.parent))]
        trials = [make_trial(self.sweep, outcome.keys) for outcome in outcomes if self._could_draw(outcome.keys)]
        folders = {file.parent.name for file in files}
        return {trial.id: trial for trial in trials if trial.id in folders}  # not: those of what the recipe was before

    def _could_draw(self, keys: Keys) -> bool:
        spaces = self.sweep.search
        return set(keys) == set(spaces) and all(within(space, keys[key]) for key, space in spaces.items())

    def _is_current(self, trial: Trial, outcome: Outcome) -> bool:
        """Whether it was trained on the data that lies there now; without any there is no doubt."""
        manifest = Path(trial.recipe.data.root) / MANIFEST
        if not outcome.data or not manifest.is_file():
            return True
        if manifest not in self._manifests:
            self._manifests[manifest] = sha256(manifest)
        return outcome.data == self._manifests[manifest]


def run_sweep(
    folder: SweepFolder, watcher: Watcher, *, address: str | None = None, jobs: int | None = None, retry: bool = False
) -> None:
    """Run the trials that are left.

    Args:
        address: of a Ray cluster, in place of the sweep's.
        jobs: trials at once, at most.
        retry: those that failed too.

    Raises:
        RequestError: no Ray, no data.
    """
    sweep = folder.sweep
    require("sweep", *(("ray", "optuna") if sweep.method == "tpe" else ("ray",)))
    finished = folder.finished(retry)
    left = [trial for id, trial in folder.trials.items() if id not in finished]
    for root in _roots(sweep, left):
        ChipStore.open(root)

    from rsft.sweep.search import search

    proposals: Proposals = Listed(trial.keys for trial in left)
    if sweep.method == "tpe":
        from rsft.sweep.estimator import Estimator

        proposals = Estimator(sweep, finished.values())
    if proposals.left:
        search(
            sweep, proposals, folder.prepare, watcher, folder.path / TUNE, address=address or sweep.address, jobs=jobs
        )


def _roots(sweep: Sweep, trials: Sequence[Trial]) -> list[Path]:
    """The prepared data of all trials."""
    recipes = [trial.recipe for trial in trials] or [make_trial(sweep, {}).recipe]
    return [Path(root) for root in dict.fromkeys(recipe.data.root for recipe in recipes)]
