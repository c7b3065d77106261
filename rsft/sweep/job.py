"""Run the unfinished trials of a sweep, then write its table and heat maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rsft.data.chips.store import MANIFEST, ChipStore
from rsft.recipe.load import dump_recipe
from rsft.sweep.figures import draw_figures
from rsft.sweep.outcome import OUTCOME, RECIPE, TrialOutcome, read_outcome
from rsft.sweep.proposals import ListProposals, Proposals
from rsft.sweep.results import results_table, write_results
from rsft.sweep.schema import Sweep
from rsft.sweep.trials import KeyValues, Trial, is_in_space, make_trial
from rsft.utils.atomic_files import sha256, write_text
from rsft.utils.optional_dependencies import check_installed

if TYPE_CHECKING:
    from rsft.sweep.search import SweepWatcher

TRIALS, TUNE = "trials", "tune"


@dataclass(frozen=True)
class SweepResults:
    """Results of a sweep so far.

    Attributes:
        best: outcome of the best finished trial; None if no trial finished.
        failed: outcomes of the failed trials.
        remaining: number of trials without an outcome.
        paths: written files by name.
    """

    best: TrialOutcome | None
    failed: list[TrialOutcome]
    remaining: int
    paths: dict[str, Path]


class SweepFolder:
    """Folder RUNS/sweeps/<name>/: one folder per trial, named by the hash of its recipe, and the results.

    Args:
        path: the folder.
        sweep: the sweep.
        trials: the trials that are known in advance, from `list_trials`.
    """

    def __init__(self, path: Path, sweep: Sweep, trials: list[Trial]) -> None:
        self.path, self.sweep = path, sweep
        self.trials = {trial.id: trial for trial in trials}
        self._manifests: dict[Path, str] = {}

    @property
    def planned(self) -> int:
        """Total number of trials."""
        return len(self.trials) if self.sweep.method == "random" else self.sweep.trials or 0

    def outcomes(self) -> dict[str, TrialOutcome]:
        """Return the outcomes of this sweep by trial id, in the order of the trials, without trials on other data."""
        trials = self.trials if self.sweep.method == "random" else self._proposed()
        outcomes = ((id, read_outcome(self.path / TRIALS / id)) for id in trials)
        return {id: outcome for id, outcome in outcomes if outcome and self._is_current(trials[id], outcome)}

    def finished(self, retry: bool = False) -> dict[str, TrialOutcome]:
        """Return the outcomes of the trials that are not run again, by trial id.

        These are finished trials and trials that failed during training. A trial that failed before training is always
        run again.

        Args:
            retry: run all failed trials again.

        Returns:
            Outcomes by trial id.
        """
        return {
            id: outcome
            for id, outcome in self.outcomes().items()
            if outcome.status == "done" or (outcome.data and not retry)
        }

    def prepare(self, keys: KeyValues) -> Path:
        """Make the folder of a trial, with its recipe.

        Args:
            keys: keys of the trial.

        Returns:
            Absolute path of the folder.
        """
        trial = make_trial(self.sweep, keys)
        folder = self.path / TRIALS / trial.id
        (folder / OUTCOME).unlink(missing_ok=True)
        write_text(folder / RECIPE, dump_recipe(trial.recipe))
        return folder.resolve()

    def report(self) -> SweepResults:
        """Write table and figures from the current outcomes, and return the results."""
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
        return SweepResults(ranked[0] if ranked else None, failed, self.planned - len(outcomes), paths)

    def _proposed(self) -> dict[str, Trial]:
        """Return the trials that TPE proposed for this sweep, in the order in which they ended."""
        files = sorted((self.path / TRIALS).glob(f"*/{OUTCOME}"), key=lambda path: path.stat().st_mtime_ns)
        outcomes = [outcome for file in files if (outcome := read_outcome(file.parent))]
        trials = [
            make_trial(self.sweep, outcome.keys) for outcome in outcomes if self._is_in_search_space(outcome.keys)
        ]
        folders = {file.parent.name for file in files}
        return {trial.id: trial for trial in trials if trial.id in folders}  # without trials of an earlier recipe

    def _is_in_search_space(self, keys: KeyValues) -> bool:
        spaces = self.sweep.search
        return set(keys) == set(spaces) and all(is_in_space(space, keys[key]) for key, space in spaces.items())

    def _is_current(self, trial: Trial, outcome: TrialOutcome) -> bool:
        """Return True if a trial was trained on the current data, or if one of the manifests is missing."""
        manifest = Path(trial.recipe.data.root) / MANIFEST
        if not outcome.data or not manifest.is_file():
            return True
        if manifest not in self._manifests:
            self._manifests[manifest] = sha256(manifest)
        return outcome.data == self._manifests[manifest]


def run_sweep(
    folder: SweepFolder,
    watcher: SweepWatcher,
    *,
    address: str | None = None,
    jobs: int | None = None,
    retry: bool = False,
) -> None:
    """Run the unfinished trials.

    Args:
        folder: folder of the sweep.
        watcher: called when trials start, finish an epoch and end.
        address: address of a Ray cluster; None for the address in the sweep file.
        jobs: maximum number of parallel trials.
        retry: run all failed trials again.

    Raises:
        RequestError: Ray is not installed, or a chip store is missing.
    """
    sweep = folder.sweep
    check_installed("sweep", *(("ray", "optuna") if sweep.method == "tpe" else ("ray",)))
    finished = folder.finished(retry)
    unfinished = [trial for id, trial in folder.trials.items() if id not in finished]
    for root in _roots(sweep, unfinished):
        ChipStore.open(root)

    from rsft.sweep.search import search

    proposals: Proposals = ListProposals(trial.keys for trial in unfinished)
    if sweep.method == "tpe":
        from rsft.sweep.estimator import TPEProposals

        proposals = TPEProposals(sweep, finished.values())
    if proposals.remaining:
        search(
            sweep, proposals, folder.prepare, watcher, folder.path / TUNE, address=address or sweep.address, jobs=jobs
        )


def _roots(sweep: Sweep, trials: Sequence[Trial]) -> list[Path]:
    """Return the chip stores of all trials."""
    recipes = [trial.recipe for trial in trials] or [make_trial(sweep, {}).recipe]
    return [Path(root) for root in dict.fromkeys(recipe.data.root for recipe in recipes)]
