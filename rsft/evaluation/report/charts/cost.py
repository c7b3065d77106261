"""What a run took: time, memory, parameters."""

from __future__ import annotations

import pandas as pd
from markupsafe import Markup

from rsft.evaluation.report.charts.svg import element, figure, text
from rsft.evaluation.report.formatting import duration, size
from rsft.evaluation.report.run_files import RunFiles

WIDTH = 460
PHASES = {"inner_s": "inner loop", "outer_s": "outer loop", "data_s": "data and all else"}


def cost_facts(run: RunFiles) -> dict[str, str]:
    """By name; what the run does not tell is left out."""
    facts, found = run.facts, {}
    if facts.seconds is not None:
        found["Time of the run"] = duration(facts.seconds)
    if run.epochs is not None:
        found["Epochs"] = f"{len(run.epochs)}, each {duration(run.epochs['seconds'].median())} (median)"
        found["Training speed"] = f"{run.epochs['images_per_s'].median():,.0f} images/s (median)"
        found |= _memory(run.epochs)
    if facts.trained_parameters is not None:
        found["Trained parameters"] = f"{facts.trained_parameters:,}{_share(run)} (adapter and head)"
    if facts.modulator_parameters:
        found["Modulator"] = f"{facts.modulator_parameters:,} scalars"
    if run.bundle_bytes is not None:
        found["Bundle"] = size(run.bundle_bytes)
    if facts.device:
        found["Device"] = facts.device
    return found | _hardware(run)


def peak_memory(epochs: pd.DataFrame) -> float | None:
    """MB on the GPU, or resident without one; None where the run did not measure it."""
    for column in ("gpu_mb", "memory_mb"):
        if column in epochs and epochs[column].notna().any():
            return float(epochs[column].max())
    return None


def phase_bar(epochs: pd.DataFrame) -> Markup | None:
    """The share of training time that each phase took; None where the run did not measure it."""
    if not set(PHASES) <= set(epochs.columns):
        return None
    totals = {label: float(epochs[column].sum()) for column, label in PHASES.items()}
    whole = sum(totals.values())
    if not whole > 0:
        return None
    shares = {label: total / whole for label, total in totals.items() if total > 0}
    parts, x = [], 0.0
    for row, (label, share) in enumerate(shares.items()):
        words = f"{label}: {share:.0%} ({duration(totals[label])})"
        y = 62 + 20 * row
        parts += [
            element("rect", x=x, y=24, width=WIDTH * share, height=20, class_=f"phase p{row}"),
            element("rect", x=0, y=y - 10, width=12, height=12, class_=f"phase p{row}"),
            text(20, y, words),
        ]
        x += WIDTH * share
    title = "Where training time went"
    words = ", ".join(f"{label} {share:.0%}" for label, share in shares.items())
    heading = text(0, 12, title, class_="heading")
    return figure(WIDTH, 52 + 20 * len(shares), title, words, heading, *parts, class_="chart")


def _memory(epochs: pd.DataFrame) -> dict[str, str]:
    """GPU memory is what PyTorch allocated, the other what was resident in the process."""
    names = {"memory_mb": "Peak memory", "gpu_mb": "Peak GPU memory"}
    known = {name: epochs[column].max() for column, name in names.items() if column in epochs}
    return {name: size(int(1e6 * value)) for name, value in known.items() if value == value}


def _share(run: RunFiles) -> str:
    trained, total = run.facts.trained_parameters, run.facts.total_parameters
    return f" of {total:,} ({trained / total:.1%})" if trained is not None and total else ""


def _hardware(run: RunFiles) -> dict[str, str]:
    found = run.facts.hardware
    words = {}
    if found.get("gpus"):
        words["GPU"] = ", ".join(map(str, found["gpus"]))
    if found.get("cpu"):
        words["Processor"] = f"{found['cpu']}, {found.get('threads', '?')} of {found.get('cores', '?')} threads"
    return words
