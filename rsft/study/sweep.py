"""Run the unfinished trials of a sweep, then write its table and heat maps."""

from __future__ import annotations

import signal
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from rsft.errors import Interrupted
from rsft.study import outcomes as results
from rsft.study.outcomes import LOCK, OUTCOME, TRIALS, TrialOutcome, read_outcome
from rsft.study.sweep_file import Sweep, Trial, is_in_search_space, make_trial
from rsft.training.runs.reader import hash_data
from rsft.utils.dependencies import check_installed

if TYPE_CHECKING:
    from rsft.study.strategies import SweepWatcher

SAVE_TIMEOUT_S = 60.0
"""Seconds in which stopped trials must save their state."""


@dataclass(frozen=True)
class SweepResults:
    """Results of a sweep so far; `remaining` is the number of trials without an outcome."""

    best: TrialOutcome | None
    failed: list[TrialOutcome]
    remaining: int
    paths: dict[str, Path]


class SweepFolder:
    """Folder RUNS/sweeps/<name>/: one folder per trial, named by the id of the trial, and the results.

    `trials` are those that are known in advance, from `list_trials`.
    """

    def __init__(self, path: Path, sweep: Sweep, trials: list[Trial]) -> None:
        self.path = path
        self.sweep = sweep
        self.trials = trials

    @property
    def planned(self) -> int:
        """Total number of trials."""
        if self.sweep.method == "random":
            return len(self.trials)
        return self.sweep.trials or 0

    def known_trials(self) -> list[Trial]:
        """Return the trials that are known in advance, or those that TPE proposed, in the order in which they ended."""
        if self.sweep.method == "random":
            return self.trials
        trials = []
        for file in sorted(
            (self.path / TRIALS).glob(f"*/{OUTCOME}"),
            key=lambda path: path.stat().st_mtime_ns,
        ):
            outcome = read_outcome(file.parent)
            if outcome is not None and is_in_search_space(self.sweep, outcome.keys):
                trial = make_trial(self.sweep, outcome.keys)
                trials += (
                    [trial] if trial.id == file.parent.name else []
                )  # of the present recipe
        return trials

    def outcomes(self) -> dict[str, TrialOutcome]:
        """Return the outcomes of this sweep by trial id, without those of other data than the present data."""
        trials = self.known_trials()
        chips = {
            (trial.recipe.data.root, trial.recipe.data.unlabeled): trial.recipe.data
            for trial in trials
        }
        hashes = {key: hash_data(data) for key, data in chips.items()}
        outcomes = {}
        for trial in trials:
            outcome = read_outcome(self.path / TRIALS / trial.id)
            data = hashes[trial.recipe.data.root, trial.recipe.data.unlabeled]
            if outcome is not None and (
                outcome.data == data or not outcome.data or not data
            ):
                outcomes[trial.id] = outcome
        return outcomes

    def finished(self, retry: bool = False) -> dict[str, TrialOutcome]:
        """Return the outcomes of the trials that are not run again, by trial id.

        These are finished trials and, unless `retry`, trials that failed during
        training. A trial that failed before training is always run again.
        """
        outcomes = self.outcomes().items()
        return {
            id: x
            for id, x in outcomes
            if x.status != "failed" or (x.data and not retry)
        }

    def report(self) -> SweepResults:
        """Write table and figures from the current outcomes, and return the results."""
        sweep = self.sweep
        outcomes = self.outcomes()
        table = results.results_table(sweep, outcomes)
        measures = [
            measure for measure in sweep.measures or [sweep.metric] if measure in table
        ]
        paths = results.write_results(self.path, sweep, table, measures)
        paths |= results.draw_figures(self.path, sweep, table, measures)
        done = [outcome for outcome in outcomes.values() if outcome.status == "done"]
        choose = max if sweep.mode == "max" else min
        best = choose(
            done, key=lambda outcome: outcome.metrics[sweep.metric], default=None
        )
        failed = [
            outcome for outcome in outcomes.values() if outcome.status == "failed"
        ]
        return SweepResults(best, failed, self.planned - len(outcomes), paths)


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
        Interrupted: SIGINT or SIGTERM; the trials have saved their state.
    """
    sweep = folder.sweep
    check_installed(
        "sweep", *(("ray", "optuna") if sweep.method == "tpe" else ("ray",))
    )

    finished = folder.finished(retry)
    unfinished = [trial for trial in folder.known_trials() if trial.id not in finished]
    if len(finished) >= folder.planned:
        return
    from rsft.data.chips.store import ChipStore
    from rsft.study.training import trial_server

    address = address or sweep.address
    for root in {
        trial.recipe.data.root for trial in unfinished or [make_trial(sweep, {})]
    }:
        ChipStore.open(Path(root))
    for trial in unfinished:
        (folder.path / TRIALS / trial.id / OUTCOME).unlink(missing_ok=True)
    try:
        with trial_server(sweep.cpus) if address is None else nullcontext() as server:
            from rsft.study.strategies import tune_trials
            from rsft.utils.ray_cluster.session import ray_session

            with ray_session(address):
                continues = True
                trials = folder.path / TRIALS
                while continues and len(finished) < folder.planned:
                    continues = tune_trials(
                        sweep,
                        trials,
                        unfinished,
                        list(finished.values()),
                        watcher,
                        jobs,
                        server,
                    )
                    finished = folder.outcomes()
                    unfinished = [
                        trial for trial in unfinished if trial.id not in finished
                    ]
    except (
        KeyboardInterrupt,
        SystemExit,
    ) as error:  # Ray turns SIGTERM into SystemExit
        for lock in folder.path.glob(
            f"{TRIALS}/*/{LOCK}"
        ):  # the process of a trial holds it until its state is saved
            with (
                suppress(Timeout, NotImplementedError),
                FileLock(lock, timeout=SAVE_TIMEOUT_S),
            ):
                pass
        if isinstance(error, KeyboardInterrupt):
            number = signal.SIGINT
        else:
            number = signal.SIGTERM
        raise Interrupted(
            number, folder.path, "run the same command to continue"
        ) from error
