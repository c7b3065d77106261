"""Ray Tune gives trials to cores, GPUs and machines. What is finished is in files of our own, so nothing of Tune's is
kept: a sweep goes on by running what has no outcome yet.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, Self

from ray import tune
from ray.tune.search import Searcher

from rsft.sweep.outcome import Outcome, read_outcome
from rsft.sweep.process import Stopped, run_trial
from rsft.sweep.proposals import Proposals
from rsft.sweep.schema import Sweep
from rsft.sweep.trials import Keys
from rsft.utils.ray_cluster import started


class Watcher(Protocol):
    """Whoever wants to show a sweep while it goes."""

    def began(self, id: str, keys: Mapping[str, Any]) -> None:
        """A trial runs."""

    def told(self, id: str, epoch: Mapping[str, Any]) -> None:
        """A trial has finished an epoch."""

    def ended(self, id: str, outcome: Outcome | None) -> None:
        """A trial is over; None where it was stopped."""


Prepare = Callable[[Keys], Path]
"""Makes the folder of a trial, with its recipe; its name is the trial's id."""


def search(
    sweep: Sweep,
    proposals: Proposals,
    prepare: Prepare,
    watcher: Watcher,
    scratch: Path,
    *,
    address: str | None = None,
    jobs: int | None = None,
) -> None:
    """Run all that is proposed; how each ended stands in its folder.

    Args:
        scratch: a folder for Tune, gone afterwards; on a cluster all machines see it.
        address: of a Ray cluster; None is this machine.
        jobs: trials at once, at most; None is as many as there are cores and GPUs for.
    """
    queue = _Queue(proposals, prepare)
    resources = {"cpu": sweep.cpus, "gpu": sweep.gpus}
    settings = {"metric": sweep.metric, "threads": sweep.cpus, "place": str(Path.cwd())}
    with started(address), _emptied(scratch):
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
    """A trial, on whichever machine: `config` has its folder and keys."""
    place = Path(settings["place"])

    def report(event: Mapping[str, Any]) -> None:
        if event["event"] == "epoch":
            tune.report({"row": dict(event)})

    folder = Path(config["folder"])
    run_trial(folder, config["keys"], report, metric=settings["metric"], threads=settings["threads"], place=place)
    tune.report({"row": {}})  # Tune wants a result of every trial


class _Unsaved:
    """Tune saves all of itself, for a restore of its own that is never asked for: nothing of this one."""

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __deepcopy__(self, memo: Any) -> Self:
        return self


class _Queue(_Unsaved, Searcher):
    """Our proposals, as Tune asks for them."""

    def __init__(self, proposals: Proposals, prepare: Prepare) -> None:
        super().__init__()
        self.proposals, self.prepare = proposals, prepare
        self.running: dict[str, tuple[Path, Keys]] = {}

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


class _Callback(_Unsaved, tune.Callback):
    """Tells the watcher, and notes what Ray itself lost."""

    def __init__(self, queue: _Queue, watcher: Watcher) -> None:
        self.queue, self.watcher = queue, watcher

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        folder, keys = self.queue.running[trial.trial_id]
        self.watcher.began(folder.name, keys)

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Any, **_: Any) -> None:
        if result.get("row"):
            self.watcher.told(self.queue.running[trial.trial_id][0].name, result["row"])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self._end(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        folder, keys = self.queue.running[trial.trial_id]
        error = str(trial.get_error())
        if read_outcome(folder) is None and Stopped.__name__ not in error:
            Outcome(keys, "failed", f"Ray lost it: {error.strip().splitlines()[-1]}").save(folder)
        self._end(trial)

    def _end(self, trial: Any) -> None:
        folder, _ = self.queue.running[trial.trial_id]
        self.watcher.ended(folder.name, read_outcome(folder))


@contextmanager
def _emptied(folder: Path) -> Iterator[None]:
    """A folder that begins empty, whatever a killed process left in it, and goes with the block."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
