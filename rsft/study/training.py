"""Train each trial in a process of its own: a crash stops no other trial, and a signal lets the run save its state.

The processes are forked from a server that has imported PyTorch once, so that a trial
starts at once. On one machine, the command of the sweep has this server and starts it
before Ray; on a cluster, each worker has its own.
"""

import faulthandler
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any, Literal, cast

import pandas as pd
from filelock import FileLock

from rsft.errors import Interrupted, RecipeError, RsftError
from rsft.study.outcomes import ERRORS, LOCK, RECIPE, TrialOutcome
from rsft.training.listeners import RunListener
from rsft.training.runs.reader import (
    METRICS_FILE,
    TRAINED,
    RunInfo,
    find_runs,
    hash_data,
    read_data_hash,
)
from rsft.utils.untrusted.documents import load_json

ACCURACIES = ("micro", "macro", "macro_f1", "avg", "head", "medium", "tail")
"""Accuracies in metrics.json that the results of a sweep contain."""


ServerAddress = tuple[str, bytes]
"""Address and key of a trial server."""


class TrialStopped(Exception):
    """A signal stopped the trial.

    It has no outcome, and the next run of the sweep resumes it.
    """


def run_trial(
    folder: Path,
    keys: Mapping[str, Any],
    report: Callable[[dict[str, float]], None],
    *,
    metric: str,
    threads: int = 1,
    environment: Mapping[str, str] | None = None,
) -> TrialOutcome:
    """Run the recipe in `folder` or resume its unfinished run, and save the outcome beside it.

    Args:
        folder: folder of the trial.
        keys: recipe keys that the sweep set.
        report: called after each epoch with its row of metrics.csv.
        metric: name of the metric; the trial fails if it is not a finite number at the
            end.
        threads: number of CPU threads.
        environment: environment variables of its process, such as the GPU that it uses.

    Raises:
        TrialStopped: a signal stopped the trial.
    """
    began = time.monotonic()
    fault = None
    context = _process_context(threads)
    connection, child_end = context.Pipe()
    process = context.Process(
        target=train_trial, args=(folder, threads, environment or {}, child_end)
    )
    process.start()
    child_end.close()
    try:
        with suppress(EOFError):
            while fault is None:
                message = connection.recv()
                if isinstance(message, str):
                    fault = message
                else:
                    report(message)
        process.join()
    finally:
        if process.is_alive():  # the scheduler or the user stopped the trial
            process.terminate()
            process.join()
    code = process.exitcode
    if code in (
        128 + signal.SIGINT,
        128 + signal.SIGTERM,
        -signal.SIGINT,
        -signal.SIGTERM,
    ):
        raise TrialStopped
    if fault is None and code < 0:  # it ended without a report
        name = signal.Signals(-code).name
        # Windows has none
        if name == "SIGKILL":
            hint = ", perhaps because the memory was full"
        else:
            hint = ""
        fault = f"its process was killed by {name}{hint}"
    elif fault is None:
        *_, fault = [
            "",
            *(folder / ERRORS)
            .read_text("utf-8", errors="replace")
            .strip()
            .splitlines(),
        ]
        fault = fault or f"its process ended with code {code}"
    outcome = read_run_outcome(
        folder, keys, "failed" if fault else "done", fault, metric
    )
    outcome = replace(
        outcome, seconds=round(outcome.seconds or time.monotonic() - began, 1)
    )
    outcome.save(folder)
    return outcome


def _process_context(threads: int) -> Any:
    """Return the context of trial processes; the first call sets what the server of the forks imports."""
    os.environ["OMP_NUM_THREADS"] = str(
        threads
    )  # libraries read it when the server imports them
    if "forkserver" in multiprocessing.get_all_start_methods():
        method = "forkserver"
    else:
        method = "spawn"
    context: Any = multiprocessing.get_context(method)
    main_modules = {
        "ray",
        "rsft.cli",
    } & sys.modules.keys()  # each child imports the main module of its parent
    if method == "forkserver":
        context.set_forkserver_preload(
            ["rsft.training.finetune", "rsft.evaluation.evaluate", *main_modules]
        )
    return context


@contextmanager
def trial_server(threads: int) -> Iterator[ServerAddress]:
    """Train trials of workers on this machine, so that PyTorch is imported once and while Ray starts.

    Yields:
        The address for `request_trial`. At the end of the block, all trials are stopped
        and save their state.
    """
    if _process_context(threads).get_start_method() == "forkserver":
        from multiprocessing import forkserver

        forkserver.ensure_running()
    key = os.urandom(32)
    with Listener(authkey=key) as listener:

        def accept() -> None:
            with suppress(OSError):  # the listener is closed
                while True:
                    with suppress(multiprocessing.AuthenticationError, EOFError):
                        threading.Thread(
                            target=_serve, args=(listener.accept(),), daemon=True
                        ).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield str(listener.address), key
        finally:
            for process in multiprocessing.active_children():
                process.terminate()


def _serve(connection: Any) -> None:
    """Run the trial that a worker requests; it stops if the worker ends."""

    def report(row: dict[str, float]) -> None:
        try:
            connection.send(row)
        except OSError as error:
            raise TrialStopped from error

    with connection, suppress(TrialStopped, OSError):
        connection.send(run_trial(report=report, **connection.recv()))


def request_trial(
    server: ServerAddress, report: Callable[[dict[str, float]], None], **arguments: Any
) -> TrialOutcome:
    """Let the trial server of this machine run a trial; `arguments` are the other arguments of `run_trial`.

    Raises:
        TrialStopped: a signal stopped the trial or the server.
    """
    address, key = server
    visible = {
        name: os.environ[name]
        for name in ("CUDA_VISIBLE_DEVICES",)
        if name in os.environ
    }
    with Client(address, authkey=key) as connection:
        connection.send({"environment": visible, **arguments})
        try:
            while isinstance(message := connection.recv(), dict):
                report(message)
        except (EOFError, ConnectionError) as error:
            raise TrialStopped from error
        return cast(TrialOutcome, message)


def train_trial(
    folder: Path, threads: int, environment: Mapping[str, str], connection: Connection
) -> None:
    """Train and evaluate a trial in its own process, as `rsft finetune --no-report` does.

    The process ends like at SIGTERM when its parent ends for any reason. The folder
    stays locked until then, and a second process for the same folder waits.

    Args:
        folder: folder of the trial.
        threads: number of CPU threads.
        environment: environment variables to set.
        connection: receives the row of each epoch, and at the end the fault; "" if
            there is none.
    """
    os.environ |= environment

    def end_with_parent() -> None:
        with suppress(EOFError, OSError):
            connection.recv()
        signal.raise_signal(
            signal.SIGTERM
        )  # `os.kill` would end the process at once on Windows

    threading.Thread(target=end_with_parent, daemon=True).start()

    def send(message: Any) -> None:
        with suppress(OSError):  # the parent is dead, and this process will end
            connection.send(message)

    with (
        (folder / ERRORS).open("w", encoding="utf-8") as errors,
        FileLock(folder / LOCK),
    ):
        for stream in (1, 2):
            os.dup2(errors.fileno(), stream)
        faulthandler.enable(errors)
        try:
            _train(folder, threads, send)
            send("")
        except Interrupted as error:
            raise SystemExit(error.exit_code) from error
        except RsftError as error:
            faults = error.faults if isinstance(error, RecipeError) else ()
            details = "; ".join(f"{fault.key}: {fault.allowed}" for fault in faults)
            send(": ".join(filter(None, (error.message, error.location, details))))
        except Exception as error:
            traceback.print_exc(file=errors)
            send(traceback.format_exception_only(error)[-1].strip())


def _train(folder: Path, threads: int, report: Callable[[Any], None]) -> None:
    import torch

    class _Listener(RunListener):
        def on_epoch_end(self, row: dict[str, float], scales: Any) -> None:
            report({name: float(value) for name, value in row.items()})

    torch.set_num_threads(threads)
    train_in_folder(folder, _Listener())


def train_in_folder(folder: Path, listener: RunListener) -> None:
    """Train and evaluate the recipe in the folder of a trial, or resume its unfinished run, in this process.

    Raises:
        Interrupted: SIGINT or SIGTERM; the run can be resumed.
        RsftError: the recipe cannot be trained.
    """
    from rsft.evaluation.evaluate import evaluate
    from rsft.recipe.load import load_recipe
    from rsft.training.finetune import finetune

    run = _unfinished_run(folder)
    if run and run.recipe:
        recipe = run.recipe
    else:
        recipe = load_recipe(folder / RECIPE)
    path = run.folder if run else None
    if (
        path is None or run is None or run.status not in TRAINED
    ):  # a trained run was stopped during the evaluation
        path = finetune(
            recipe, folder, listener, source=folder / RECIPE, resume=path
        ).folder
    root = Path(recipe.data.root)
    device = recipe.train.device
    options: Any = {
        "baselines": False,
        "representation": False,
        "device": device,
        "progress": listener.on_progress,
    }
    evaluate(path / "bundle", root, path / "evaluation", **options)


def _unfinished_run(folder: Path) -> RunInfo | None:
    """Return the newest run of the trial; None if it failed, or its data or the number of threads changed."""
    import torch

    runs = find_runs(folder)
    if not runs or runs[-1].status in ("failed", "broken") or runs[-1].recipe is None:
        return None
    metadata = runs[-1].metadata
    data = read_data_hash(metadata)
    present = hash_data(runs[-1].recipe.data)
    threads = metadata.get("hardware", {}).get("threads")
    has_changed = bool(data and present and data != present)
    if (
        metadata.get("device") == "cpu" and runs[-1].status not in TRAINED
    ):  # the weights would differ
        has_changed |= threads not in (None, torch.get_num_threads())
    if has_changed:
        return None
    return runs[-1]


def read_run_outcome(
    folder: Path,
    keys: Mapping[str, Any],
    status: Literal["done", "failed", "stopped"],
    reason: str,
    metric: str = "",
) -> TrialOutcome:
    """Read the outcome of a trial from the files of its run; a failed one has no metrics.

    Args:
        folder: folder of the trial.
        keys: recipe keys that the sweep set.
        status: how the trial ended.
        reason: why it failed or was stopped.
        metric: a trial that is done has failed if this metric is not a finite number.
    """
    runs = find_runs(folder)
    run = runs[-1] if runs else RunInfo(Path())
    metrics: dict[str, float] = {}
    if runs and status != "failed":
        last_row = pd.read_csv(run.folder / METRICS_FILE).iloc[-1]
        metrics = {str(name): float(value) for name, value in last_row.items()}
        evaluation = run.folder / "evaluation" / "metrics.json"
        if evaluation.is_file():
            values = next(iter(load_json(evaluation)["methods"].values()))
            metrics |= {
                name: values[name]["value"] for name in ACCURACIES if values.get(name)
            }
    if status == "done" and not math.isfinite(metrics.get(metric, math.nan)):
        status = "failed"
        reason = f"{metric} is not a number"
    metrics = {
        name: value
        for name, value in metrics.items()
        if math.isfinite(value) and status != "failed"
    }
    place = str(run.folder) if runs else ""
    data = read_data_hash(run.metadata)
    return TrialOutcome(
        dict(keys), status, reason, metrics, run.seconds or 0.0, place, data
    )
