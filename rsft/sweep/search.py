"""Run trials with Ray Tune, which assigns them to cores, GPUs and machines.

Each finished trial writes its outcome to a file, so the state of Tune is not kept: a resumed sweep runs all trials
without an outcome.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, Self

from ray import tune
from ray.tune.search import Searcher

from rsft.sweep.outcome import TrialOutcome, read_outcome
from rsft.sweep.process import TrialStopped, run_trial
from rsft.sweep.proposals import Proposals
from rsft.sweep.schema import Sweep
from rsft.sweep.trials import KeyValues
from rsft.utils.ray_cluster import ray_session


class SweepWatcher(Protocol):
    """Callbacks that show the progress of a sweep."""

    def on_start(self, id: str, keys: Mapping[str, Any]) -> None:
        """Show that a trial starts.

        Args:
            id: id of the trial.
            keys: recipe keys that the sweep set.
        """

    def on_epoch(self, id: str, epoch: Mapping[str, Any]) -> None:
        """Show that a trial has finished an epoch.

        Args:
            id: id of the trial.
            epoch: the event "epoch" of the run.
        """

    def on_end(self, id: str, outcome: TrialOutcome | None) -> None:
        """Show that a trial ends.

        Args:
            id: id of the trial.
            outcome: its outcome; None if it was stopped.
        """


Prepare = Callable[[KeyValues], Path]
"""Makes the folder of a trial with its recipe; the name of the folder is the id of the trial."""


def search(
    sweep: Sweep,
    proposals: Proposals,
    prepare: Prepare,
    watcher: SweepWatcher,
    scratch: Path,
    *,
    address: str | None = None,
    jobs: int | None = None,
) -> None:
    """Run all proposed trials; each writes its outcome to its folder.

    Args:
        sweep: the sweep.
        proposals: proposes the keys of the trials.
        prepare: makes the folder of a trial.
        watcher: called when trials start, finish an epoch and end.
        scratch: folder for Tune, which is removed at the end; all machines of a cluster must share it.
        address: address of a Ray cluster; None for this machine.
        jobs: maximum number of parallel trials; None for as many as cores and GPUs allow.
    """
    queue = _Queue(proposals, prepare)
    resources = {"cpu": sweep.cpus, "gpu": sweep.gpus}
    settings = {"metric": sweep.metric, "threads": sweep.cpus, "working_dir": str(Path.cwd())}
    with ray_session(address), _scratch_folder(scratch):
        tune.Tuner(
            tune.with_resources(tune.with_parameters(_run, settings=settings), resources),
            tune_config=tune.TuneConfig(search_alg=queue, num_samples=-1, max_concurrent_trials=jobs),
            run_config=tune.RunConfig(
                storage_path=str(scratch.resolve()),
                verbose=0,
                callbacks=[_Callback(queue, watcher)],
                log_to_file=False,
            ),
        ).fit()


def _run(config: dict[str, Any], settings: dict[str, Any]) -> None:
    """Run one trial on any machine; `config` contains its folder and keys."""
    working_dir = Path(settings["working_dir"])

    def report(event: Mapping[str, Any]) -> None:
        if event["event"] == "epoch":
            tune.report({"row": dict(event)})

    folder = Path(config["folder"])
    run_trial(
        folder, config["keys"], report, metric=settings["metric"], threads=settings["threads"], working_dir=working_dir
    )
    tune.report({"row": {}})  # Tune requires a result of every trial


class _NotSaved:
    """Excludes an object from the state that Tune saves, because a sweep never restores it."""

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __deepcopy__(self, memo: Any) -> Self:
        return self


class _Queue(_NotSaved, Searcher):
    """Adapter of `Proposals` to the search interface of Tune."""

    def __init__(self, proposals: Proposals, prepare: Prepare) -> None:
        super().__init__()
        self.proposals, self.prepare = proposals, prepare
        self.running: dict[str, tuple[Path, KeyValues]] = {}

    def suggest(self, trial_id: str) -> Any:
        keys = self.proposals.ask()
        if keys is None:
            return Searcher.FINISHED
        folder = self.prepare(keys)
        self.running[trial_id] = folder, keys
        return {"folder": str(folder), "keys": keys}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        folder, keys = self.running[trial_id]
        self.proposals.tell(keys, read_outcome(folder))

    def save(self, checkpoint_path: str) -> None:
        pass

    def restore(self, checkpoint_path: str) -> None:
        pass


class _Callback(_NotSaved, tune.Callback):
    """Calls the watcher, and saves an outcome for trials whose process Ray lost."""

    def __init__(self, queue: _Queue, watcher: SweepWatcher) -> None:
        self.queue, self.watcher = queue, watcher

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        folder, keys = self.queue.running[trial.trial_id]
        self.watcher.on_start(folder.name, keys)

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Any, **_: Any) -> None:
        if result.get("row"):
            self.watcher.on_epoch(self.queue.running[trial.trial_id][0].name, result["row"])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self._end(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        folder, keys = self.queue.running[trial.trial_id]
        error = str(trial.get_error())
        if read_outcome(folder) is None and TrialStopped.__name__ not in error:
            TrialOutcome(keys, "failed", f"Ray lost the trial: {error.strip().splitlines()[-1]}").save(folder)
        self._end(trial)

    def _end(self, trial: Any) -> None:
        folder, _ = self.queue.running[trial.trial_id]
        self.watcher.on_end(folder.name, read_outcome(folder))


@contextmanager
def _scratch_folder(folder: Path) -> Iterator[None]:
    """Make an empty folder, and remove it when the block ends."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
