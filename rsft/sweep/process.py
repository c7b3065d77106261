"""A trial is `rsft finetune` in a process of its own: what a user can repeat by hand, and what takes nothing with it
when it dies."""

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

from rsft.sweep.outcome import ERRORS, RECIPE, Outcome
from rsft.training.runs.reader import METRICS, find_runs

Report = Callable[[Mapping[str, Any]], None]
"""Takes the events of `rsft finetune --json`."""

ACCURACIES = ("micro", "macro", "macro_f1", "avg", "head", "medium", "tail")
"""Of metrics.json, those that are kept."""


class Stopped(Exception):
    """The trial was told to stop: it has no outcome, and goes on another time."""


def run_trial(
    folder: Path, keys: Mapping[str, Any], report: Report, *, metric: str, threads: int = 1, place: Path | None = None
) -> Outcome:
    """Run the recipe in `folder`, or go on with its unfinished run, and save the outcome beside it.

    Args:
        report: hears of the trial while it goes.
        metric: what must be a number at the end.
        place: the working directory, from which paths in a recipe count.

    Raises:
        Stopped: it was told to stop.
    """
    began = time.monotonic()
    told: dict[str, Any] = {}
    with (
        (folder / ERRORS).open("w") as errors,
        subprocess.Popen(
            _command(folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=place,
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            event = json.loads(line)
            told[event["event"]] = event
            report(event)
        code = process.wait()
    if code in (128 + signal.SIGINT, 128 + signal.SIGTERM, -signal.SIGINT, -signal.SIGTERM):
        raise Stopped
    outcome = _outcome(folder, keys, metric, _fault(told, code, folder), time.monotonic() - began)
    outcome.save(folder)
    return outcome


def _command(folder: Path) -> list[str]:
    """Go on with what is unfinished; what failed begins anew."""
    runs = find_runs(folder)
    resumed = bool(runs) and runs[-1].status not in ("failed", "broken")
    wanted = ["--resume", str(runs[-1].folder)] if resumed else [str(folder / RECIPE), "--runs", str(folder)]
    launch = [sys.executable, "-m", "rsft.sweep.launch", str(folder)]
    return [*launch, "finetune", *wanted, "--json", "--no-report"]


def _fault(told: Mapping[str, Mapping[str, Any]], code: int, folder: Path) -> str:
    """Why the process came to no good end; "" where it did."""
    if "error" in told:
        error = told["error"]
        faults = "; ".join(f"{fault['key']}: {fault['allowed']}" for fault in error.get("faults", ()))
        return ": ".join(filter(None, (error["what"], error.get("where"), faults)))
    if code < 0:
        hint = ", perhaps for want of memory" if -code == signal.SIGKILL else ""
        return f"its process was killed by {signal.Signals(-code).name}{hint}"
    if code or "done" not in told:
        lines = (folder / ERRORS).read_text("utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else f"its process ended with code {code}"
    return ""


def _outcome(folder: Path, keys: Mapping[str, Any], metric: str, fault: str, seconds: float) -> Outcome:
    """From what the run left."""
    runs = find_runs(folder)
    run = runs[-1] if runs else None
    metrics = read_metrics(run.folder) if run and not fault else {}
    if not fault and not math.isfinite(metrics.get(metric, math.nan)):
        fault = f"{metric} is not a number"
    return Outcome(
        keys=dict(keys),
        status="failed" if fault else "done",
        reason=fault,
        metrics={name: value for name, value in metrics.items() if math.isfinite(value)},
        seconds=round((run and run.seconds) or seconds, 1),
        run=str(run.folder) if run else "",
        data=run.facts.get("data", {}).get("manifest_sha256", "") if run else "",
    )


def read_metrics(run: Path) -> dict[str, float]:
    """The last row of metrics.csv, and the accuracies of the evaluation."""
    with (run / METRICS).open(newline="") as file:
        *_, row = csv.DictReader(file)
    methods = json.loads((run / "evaluation" / "metrics.json").read_text("utf-8"))["methods"]
    own = next(iter(methods.values()))
    accuracies = {name: own[name]["value"] for name in ACCURACIES if own.get(name)}
    return {name: float(value or "nan") for name, value in row.items()} | accuracies
