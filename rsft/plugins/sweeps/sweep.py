"""Run the trials of a study, and write the table and heat maps of a sweep."""

import signal
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from pathlib import Path

from rsft.data.chips.store import ChipStore
from rsft.errors import Interrupted
from rsft.plugins.sweeps.figures import draw_figures
from rsft.plugins.sweeps.halving import Halving
from rsft.plugins.sweeps.lines import TrialLines
from rsft.plugins.sweeps.strategies import (
    Strategy,
    TpeSearch,
    list_proposals,
    list_strategy,
)
from rsft.plugins.sweeps.sweep_file import Sweep
from rsft.plugins.sweeps.tables import results_table, write_results
from rsft.plugins.sweeps.trial_list import make_trial
from rsft.plugins.sweeps.trial_process import (
    ERRORS,
    MODULES,
    TrialSettings,
    read_last_line,
    train_trial,
)
from rsft.recipe.load import dump_recipe
from rsft.study.outcomes import (
    OUTCOME,
    RECIPE,
    TRIALS,
    TrialOutcome,
    read_outcomes,
    read_run_outcome,
)
from rsft.study.trials import Trial
from rsft.utils.atomic_files import write_text
from rsft.utils.executor import (
    Executor,
    TaskLostError,
    TaskStoppedError,
    open_executor,
)


@dataclass(frozen=True)
class SweepResults:
    """Results of a sweep so far; `remaining` counts the trials without an outcome."""

    best: TrialOutcome | None
    remaining: int
    paths: dict[str, Path]


@dataclass(frozen=True)
class SweepFolder:
    """Folder RUNS/sweeps/<name>/: one folder per trial, named by its id, and results.

    `trials` are those that are known in advance, from `list_trials`.
    """

    path: Path
    sweep: Sweep
    trials: list[Trial]

    @property
    def planned(self) -> int:
        """Total number of trials."""
        if self.sweep.method == "tpe":
            return self.sweep.trials or 0
        return len(self.trials)

    def outcomes(self) -> dict[str, TrialOutcome]:
        """Return the outcomes of this sweep on the present data, by trial id."""
        trials = self.trials
        if self.sweep.method == "tpe":
            trials = list_proposals(self.sweep, self.path / TRIALS)
        return read_outcomes(self.path, trials)

    def finished(self) -> dict[str, TrialOutcome]:
        """Return the outcomes of the trials that are not run again, by trial id."""
        return drop_failed(self.outcomes())

    def report(self) -> SweepResults:
        """Write table and figures from the current outcomes, and return the results."""
        sweep = self.sweep
        outcomes = self.outcomes()
        table = results_table(sweep, outcomes)
        measures = [x for x in sweep.measures or [sweep.metric] if x in table]
        paths = write_results(self.path, sweep, table, measures)
        paths |= draw_figures(self.path, sweep, table, measures)
        done = [x for x in outcomes.values() if x.status == "done"]
        choose = max if sweep.mode == "max" else min
        best = choose(done, key=lambda x: x.metrics[sweep.metric], default=None)
        return SweepResults(best, self.planned - len(outcomes), paths)


def drop_failed(outcomes: Mapping[str, TrialOutcome]) -> dict[str, TrialOutcome]:
    """Return the outcomes by trial id without failed trials, which are run again."""
    return {id: x for id, x in outcomes.items() if x.status != "failed"}


def run_sweep(
    folder: SweepFolder,
    watcher: TrialLines,
    *,
    address: str | None = None,
    jobs: int | None = None,
) -> None:
    """Run the unfinished trials.

    Args:
        folder: folder of the sweep.
        watcher: called when trials start, finish an epoch and end.
        address: address of a Ray cluster; None for the address in the sweep file.
        jobs: maximum number of parallel trials.

    Raises:
        RequestError: Ray or Optuna is not installed, or a chip store is missing.
        Interrupted: SIGINT or SIGTERM; the trials have saved their state.
    """
    sweep = folder.sweep
    finished = folder.finished()
    if len(finished) >= folder.planned:
        return
    trials = [trial for trial in folder.trials if trial.id not in finished]
    strategy = list_strategy(trials)
    if sweep.method == "tpe":
        strategy = TpeSearch(sweep, folder.path, finished)
        trials = [make_trial(sweep, {})]
    for root in {trial.recipe.data.root for trial in trials}:
        ChipStore.open(Path(root))
    halving = None
    if sweep.scheduler is not None:
        epochs = max(trial.recipe.train.epochs for trial in trials)
        halving = Halving(sweep.metric, sweep.mode, sweep.grace_period, epochs)
    settings = TrialSettings(sweep.metric, sweep.cpus, halving)
    executor = open_executor(
        address or sweep.address,
        jobs,
        modules=MODULES,
        cpus=sweep.cpus,
        gpus=sweep.gpus,
    )
    TrialRunner(folder.path, strategy, settings, executor, watcher).run()


@dataclass
class TrialRunner:
    """Runs all trials of a strategy.

    Attributes:
        folder: folder of the study.
        strategy: chooses the trials.
        settings: settings of all trials.
        executor: runs them; it is closed at the end.
        watcher: called when trials start, finish an epoch and end.
    """

    folder: Path
    strategy: Strategy
    settings: TrialSettings
    executor: Executor
    watcher: TrialLines
    _running: dict[Future[TrialOutcome], Trial] = field(default_factory=dict)

    def run(self) -> None:
        """Run the trials until none is left.

        Raises:
            Interrupted: SIGINT or SIGTERM; the trials have saved their state.
        """
        try:
            with self.executor:
                self._start()
                while self._running:
                    done, _ = wait(self._running, return_when=FIRST_COMPLETED)
                    for future in done:
                        trial = self._running.pop(future)
                        self.watcher.on_end(trial.id, self._outcome(future, trial))
                    self._start()
        except (KeyboardInterrupt, SystemExit) as error:
            is_sigint = isinstance(error, KeyboardInterrupt)
            raise Interrupted(
                signal.SIGINT if is_sigint else signal.SIGTERM,
                self.folder.absolute(),
                "run the same command to continue",
            ) from error

    def _start(self) -> None:
        """Start trials until the executor is busy or no trial is left."""
        while len(self._running) < self.executor.jobs:
            trial = self.strategy()
            if trial is None:
                return
            path = self.folder.absolute() / TRIALS / trial.id
            (path / OUTCOME).unlink(missing_ok=True)
            write_text(path / RECIPE, dump_recipe(trial.recipe))
            self.watcher.on_start(trial.id, trial.keys)
            future = self.executor.submit(train_trial, path, trial.keys, self.settings)
            self._running[future] = trial

    def _outcome(
        self, future: Future[TrialOutcome], trial: Trial
    ) -> TrialOutcome | None:
        """Return the outcome of a trial; that of a crashed process is written here."""
        try:
            return future.result()
        except TaskStoppedError:
            return None
        except TaskLostError as error:
            path = self.folder / TRIALS / trial.id
            reason = str(error)
            if error.has_raised:
                reason = read_last_line(path / ERRORS) or reason
            outcome = read_run_outcome(path, trial.keys, "failed", reason)
            outcome.save(path)
            return outcome
