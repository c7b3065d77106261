"""Run trials with Ray Tune, which proposes, schedules and distributes them to cores, GPUs and machines.

The outcomes in the folders of the trials decide which trials have ended. The state of
Tune only makes a resumed search continue with its proposals. It is a pickle, so it is
in the user's cache folder and not in the folder of the sweep.
"""

import hashlib
import json
import logging
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from platformdirs import user_cache_path
from ray import tune
from ray.tune.schedulers import ASHAScheduler

from rsft.errors import RsftError
from rsft.recipe.load import dump_recipe
from rsft.recipe.text import parse_value, to_yaml
from rsft.study.outcomes import RECIPE, TrialOutcome, read_outcome
from rsft.study.sweep_file import (
    KeyValues,
    Space,
    Sweep,
    Trial,
    make_trial,
    round_to_four_digits,
)
from rsft.study.training import (
    ServerAddress,
    TrialStopped,
    read_run_outcome,
    request_trial,
    run_trial,
)
from rsft.utils.atomic_files import write_text

_log = logging.getLogger(__name__)


class SweepWatcher(Protocol):
    """Callbacks that show the progress of a sweep."""

    def on_start(self, id: str, keys: Mapping[str, Any]) -> None:
        """Show that a trial starts."""

    def on_epoch(self, id: str, row: Mapping[str, Any]) -> None:
        """Show that a trial has finished an epoch, with its row of metrics.csv."""

    def on_end(self, id: str, outcome: TrialOutcome | None) -> None:
        """Show that a trial ends, with its outcome; None if a signal stopped it."""


def tune_trials(
    sweep: Sweep,
    folder: Path,
    trials: Sequence[Trial],
    finished: Sequence[TrialOutcome],
    watcher: SweepWatcher,
    jobs: int | None = None,
    server: ServerAddress | None = None,
) -> bool:
    """Run trials with Ray Tune, within a session of Ray.

    Each trial writes its outcome to its folder.

    Args:
        sweep: the sweep.
        folder: folder of all trials; all machines of a cluster must share it.
        trials: the trials to run; TPE proposes its trials itself.
        finished: outcomes of trials that count among the trials of TPE.
        watcher: called when trials start, finish an epoch and end.
        jobs: maximum number of parallel trials; None for as many as cores and GPUs
            allow.
        server: trains the trials; None trains them on the machines of the workers.

    Returns:
        Whether Tune continued from its state, which may lack trials that have to be run
        again.
    """
    folder = folder.resolve()
    trainable = tune.with_resources(
        tune.with_parameters(
            run_in_worker,
            sweep=sweep,
            folder=folder,
            working_dir=Path.cwd(),
            server=server,
        ),
        {"cpu": sweep.cpus, "gpu": sweep.gpus},
    )
    versions = [metadata.version(package) for package in ("ray", "rsft")]
    content = json.dumps(
        [sweep.model_dump(exclude={"x", "y", "measures"}), jobs, versions]
    )
    names = (
        hashlib.sha256(text.encode()).hexdigest()[:16]
        for text in (str(folder), content)
    )
    state = user_cache_path("rsft").joinpath("sweeps", *names)
    _Events.watcher = watcher
    logging.getLogger("ray.tune").setLevel(
        logging.CRITICAL
    )  # the watcher shows failed trials
    restored = _restore(state, trainable)
    if restored is not None:
        restored.fit()
    else:
        is_tpe = sweep.method == "tpe"
        scheduler = None
        if sweep.scheduler:
            epochs = max(
                trial.recipe.train.epochs for trial in [*trials, make_trial(sweep, {})]
            )
            scheduler = ASHAScheduler(
                time_attr="epoch",
                max_t=epochs,
                grace_period=min(sweep.grace_period, epochs),
                stop_last_trials=False,
            )
        tune_config = tune.TuneConfig(
            metric=sweep.metric,
            mode=sweep.mode,
            search_alg=_tpe_search(sweep, finished) if is_tpe else None,
            scheduler=scheduler,
            num_samples=(sweep.trials or 0) - len(finished) if is_tpe else 1,
            max_concurrent_trials=jobs,
            reuse_actors=True,
            trial_dirname_creator=str,
        )
        callback = _Events(sweep, folder)
        storage = str(state.parent)
        run_config = tune.RunConfig(
            state.name, storage, callbacks=[callback], verbose=0, log_to_file=False
        )
        space = {key: _domain(values) for key, values in sweep.search.items()}
        if not is_tpe:
            space = {"keys": tune.grid_search([trial.keys for trial in trials])}
        tune.Tuner(
            trainable, param_space=space, tune_config=tune_config, run_config=run_config
        ).fit()
    shutil.rmtree(state.parent, ignore_errors=True)
    return restored is not None


def _restore(state: Path, trainable: Any) -> tune.Tuner | None:
    """Continue the session of Tune in a folder; discard all sessions that cannot be continued."""
    if tune.Tuner.can_restore(str(state)):
        try:
            tuner = tune.Tuner.restore(str(state), trainable, resume_unfinished=True)
            tuner.get_results()
            return tuner
        # Tune raises what its parts raise if a kill left one of them incomplete
        except Exception as error:
            _log.warning(
                "the state of Ray Tune is incomplete and is discarded: %s", error
            )
    elif state.parent.exists():
        _log.warning(
            "the sweep has changed, so the state of Ray Tune is discarded; finished"
            " trials are kept"
        )
    shutil.rmtree(state.parent, ignore_errors=True)
    return None


def _domain(space: Space) -> Any:
    (kind, values), *_ = space.items()
    if kind == "choice":
        return tune.choice(
            [to_yaml(value) for value in values]
        )  # Optuna keeps simple values only
    if kind == "integer":
        return tune.randint(values[0], values[1] + 1)
    if kind == "log":
        return tune.loguniform(*values)
    return tune.uniform(*values)


def _keys_of(sweep: Sweep, config: Mapping[str, Any]) -> KeyValues:
    """Return the keys of a trial from its point in the parameter space of Tune."""
    if sweep.method == "random":
        return dict(config["keys"])
    keys: KeyValues = {}
    for key, space in sweep.search.items():
        (kind, values), *_ = space.items()
        if kind == "choice":
            value = parse_value(config[key])
        else:
            value = config[key]
        keys[key] = (
            round_to_four_digits(value, *values)
            if kind in ("log", "uniform")
            else value
        )
    return keys


def _tpe_search(sweep: Sweep, finished: Sequence[TrialOutcome]) -> Any:
    """Return Optuna's tree-structured Parzen estimator (Bergstra et al.

    2011), which knows the finished trials.
    """
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    done = [outcome for outcome in finished if outcome.status == "done"]
    choices = [key for key, space in sweep.search.items() if "choice" in space]
    return OptunaSearch(
        points_to_evaluate=[
            outcome.keys | {key: to_yaml(outcome.keys[key]) for key in choices}
            for outcome in done
        ],
        evaluated_rewards=[outcome.metrics[sweep.metric] for outcome in done],
        sampler=optuna.samplers.TPESampler(
            seed=sweep.seed + len(finished), constant_liar=True
        ),
    )


def run_in_worker(
    config: dict[str, Any],
    sweep: Sweep,
    folder: Path,
    working_dir: Path,
    server: ServerAddress | None = None,
) -> None:
    """Run one trial in a worker of Tune, or return its outcome if it has ended already.

    Args:
        config: point in the parameter space of Tune.
        sweep: the sweep.
        folder: folder of all trials.
        working_dir: working directory, to which paths in recipes are relative.
        server: trains the trial; None trains it here.

    Raises:
        RsftError: the trial failed.
        TrialStopped: a signal stopped the trial.
    """
    os.chdir(working_dir)
    os.environ["TUNE_FUNCTION_THREAD_TIMEOUT_S"] = (
        "600"  # a stopped trial saves its state before the next one starts
    )
    trial = make_trial(sweep, _keys_of(sweep, config))
    trial_folder = folder / trial.id

    def report(row: Mapping[str, float]) -> None:
        value = row.get(sweep.metric, math.nan)
        # ASHA ignores epochs without a metric
        if math.isnan(value):
            epoch = {}
        else:
            epoch = {"epoch": int(row["epoch"]) + 1}
        tune.report({"row": dict(row), sweep.metric: value, **epoch})

    outcome = read_outcome(trial_folder)
    if outcome is None:
        write_text(trial_folder / RECIPE, dump_recipe(trial.recipe))
        run = partial(request_trial, server) if server else run_trial
        outcome = run(
            folder=trial_folder,
            keys=trial.keys,
            report=report,
            metric=sweep.metric,
            threads=sweep.cpus,
        )
    if outcome.status == "failed":
        raise RsftError(outcome.reason, trial_folder)
    tune.report({sweep.metric: outcome.metrics[sweep.metric]})


class _Events(tune.Callback):
    """Calls the watcher of this process, and saves outcomes of trials that Ray lost or the scheduler stopped."""

    watcher: ClassVar[SweepWatcher]
    """Tune saves no class attribute with its state, so that a restored callback calls
    the present watcher."""

    def __init__(self, sweep: Sweep, folder: Path) -> None:
        self.sweep = sweep
        self.folder = folder
        self.running: set[str] = set()

    def on_trial_start(
        self, iteration: int, trials: list[Any], trial: Any, **_: Any
    ) -> None:
        keys, folder = self._locate(trial)
        if (
            read_outcome(folder) is None
        ):  # a restored session also starts trials that ended after Tune saved its state
            self.running.add(trial.trial_id)
            self.watcher.on_start(trial.trial_id, keys)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: Any, **_: Any
    ) -> None:
        if "row" in result:
            self.watcher.on_epoch(trial.trial_id, result["row"])

    def on_trial_complete(
        self, iteration: int, trials: list[Any], trial: Any, **_: Any
    ) -> None:
        self._end(trial, "stopped", f"stopped early by {self.sweep.scheduler}")

    def on_trial_error(
        self, iteration: int, trials: list[Any], trial: Any, **_: Any
    ) -> None:
        error = trial.get_error()
        reason = f"Ray lost the trial: {str(error).strip().splitlines()[-1]}"
        self._end(trial, None if isinstance(error, TrialStopped) else "failed", reason)

    def _end(
        self, trial: Any, status: Literal["failed", "stopped"] | None, reason: str
    ) -> None:
        keys, folder = self._locate(trial)
        if read_outcome(folder) is None and status is not None:
            read_run_outcome(folder, keys, status, reason).save(folder)
        if trial.trial_id in self.running:
            self.watcher.on_end(trial.trial_id, read_outcome(folder))

    def _locate(self, trial: Any) -> tuple[KeyValues, Path]:
        keys = _keys_of(self.sweep, trial.config)
        return keys, self.folder / make_trial(self.sweep, keys).id
