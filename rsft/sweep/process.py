"""Run each trial as `rsft finetune` in its own process: users can repeat it, and a crash stops no other trial."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rsft.sweep.outcome import ERRORS, RECIPE, TrialOutcome
from rsft.training.runs.reader import METRICS_FILE, find_runs

EventHandler = Callable[[Mapping[str, Any]], None]
"""Called with each event of `rsft finetune --json`."""

ACCURACIES = ("micro", "macro", "macro_f1", "avg", "head", "medium", "tail")
"""Accuracies in metrics.json that the results of a sweep contain."""


class TrialStopped(Exception):
    """A signal stopped the trial. It has no outcome, and the next run of the sweep resumes it."""


def run_trial(
    folder: Path,
    keys: Mapping[str, Any],
    report: EventHandler,
    *,
    metric: str,
    threads: int = 1,
    working_dir: Path | None = None,
) -> TrialOutcome:
    """Run the recipe in `folder` or resume its unfinished run, and save the outcome beside it.

    Args:
        folder: folder of the trial.
        keys: recipe keys that the sweep set.
        report: called with each event of the run.
        metric: name of the metric; the trial fails if it is not a finite number at the end.
        threads: number of CPU threads.
        working_dir: working directory, to which paths in the recipe are relative.

    Returns:
        The outcome.

    Raises:
        TrialStopped: a signal stopped the trial.
    """
    start = time.monotonic()
    last_events: dict[str, Any] = {}
    with (
        (folder / ERRORS).open("w") as errors,
        subprocess.Popen(
            _command(folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=working_dir,
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            event = json.loads(line)
            last_events[event["event"]] = event
            report(event)
        code = process.wait()
    if code in (128 + signal.SIGINT, 128 + signal.SIGTERM, -signal.SIGINT, -signal.SIGTERM):
        raise TrialStopped
    outcome = _outcome(folder, keys, metric, _fault(last_events, code, folder), time.monotonic() - start)
    outcome.save(folder)
    return outcome


def _command(folder: Path) -> list[str]:
    """Return the command of a trial: resume an unfinished run, or start a new one."""
    runs = find_runs(folder)
    resumed = bool(runs) and runs[-1].status not in ("failed", "broken")
    arguments = ["--resume", str(runs[-1].folder)] if resumed else [str(folder / RECIPE), "--runs", str(folder)]
    launch = [sys.executable, "-m", "rsft.sweep.launch", str(folder)]
    return [*launch, "finetune", *arguments, "--json", "--no-report"]


def _fault(last_events: Mapping[str, Mapping[str, Any]], code: int, folder: Path) -> str:
    """Return the reason of a failure; "" if the process succeeded."""
    if "error" in last_events:
        error = last_events["error"]
        faults = "; ".join(f"{fault['key']}: {fault['allowed']}" for fault in error.get("faults", ()))
        return ": ".join(filter(None, (error["what"], error.get("where"), faults)))
    if code < 0:
        hint = ", perhaps because the memory was full" if -code == signal.SIGKILL else ""
        return f"its process was killed by {signal.Signals(-code).name}{hint}"
    if code or "done" not in last_events:
        lines = (folder / ERRORS).read_text("utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else f"its process ended with code {code}"
    return ""


def _outcome(folder: Path, keys: Mapping[str, Any], metric: str, fault: str, seconds: float) -> TrialOutcome:
    """Make the outcome from the files of the run."""
    runs = find_runs(folder)
    run = runs[-1] if runs else None
    metrics = read_metrics(run.folder) if run and not fault else {}
    if not fault and not math.isfinite(metrics.get(metric, math.nan)):
        fault = f"{metric} is not a number"
    return TrialOutcome(
        keys=dict(keys),
        status="failed" if fault else "done",
        reason=fault,
        metrics={name: value for name, value in metrics.items() if math.isfinite(value)},
        seconds=round((run and run.seconds) or seconds, 1),
        run=str(run.folder) if run else "",
        data=run.metadata.get("data", {}).get("manifest_sha256", "") if run else "",
    )


def read_metrics(run: Path) -> dict[str, float]:
    """Read the last row of metrics.csv, and the accuracies of the evaluation.

    Args:
        run: run folder.

    Returns:
        Values by name; an empty cell becomes NaN.
    """
    with (run / METRICS_FILE).open(newline="") as file:
        *_, row = csv.DictReader(file)
    methods = json.loads((run / "evaluation" / "metrics.json").read_text("utf-8"))["methods"]
    values = next(iter(methods.values()))
    accuracies = {name: values[name]["value"] for name in ACCURACIES if values.get(name)}
    return {name: float(value or "nan") for name, value in row.items()} | accuracies
