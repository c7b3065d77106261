"""Summarize the cost of a run: time, memory and parameters."""

from __future__ import annotations

import pandas as pd
from markupsafe import Markup

from rsft.evaluation.report.charts.axes import CHART_WIDTH, chart, heading
from rsft.evaluation.report.charts.svg import svg_element, svg_text
from rsft.evaluation.report.render import format_bytes, format_duration
from rsft.evaluation.report.run_files import RunFiles

PHASES = {"inner_s": "inner loop", "outer_s": "outer loop", "data_s": "data and everything else"}
"""Name of each phase, by its column of metrics.csv."""


def cost_table(run: RunFiles) -> dict[str, str]:
    """Return the costs of a run as text.

    Args:
        run: files of the run.

    Returns:
        Costs by name. Costs that the run did not record are missing.
    """
    metadata, table = run.metadata, {}
    if metadata.seconds is not None:
        table["Time of the run"] = format_duration(metadata.seconds)
    if run.epochs is not None:
        seconds, speed = run.epochs["seconds"].median(), run.epochs["images_per_s"].median()  # NaN if all are empty
        table["Epochs"] = f"{len(run.epochs)}" + (f", each {format_duration(seconds)} (median)" if seconds >= 0 else "")
        table |= {"Training speed": f"{speed:,.0f} images/s (median)"} if speed >= 0 else {}
        table |= _memory(run.epochs)
    if metadata.trained_parameters is not None:
        table["Trained parameters"] = f"{metadata.trained_parameters:,}{_trained_share(run)} (adapter and head)"
    if metadata.modulator_parameters:
        table["Modulator"] = f"{metadata.modulator_parameters:,} scalars"
    if run.bundle_bytes is not None:
        table["Bundle"] = format_bytes(run.bundle_bytes)
    if metadata.device:
        table["Device"] = metadata.device
    return table | _hardware(run)


def peak_memory_mb(epochs: pd.DataFrame) -> float | None:
    """Return the peak memory in MB, of the GPU if the run used one, else of the process.

    Args:
        epochs: the table metrics.csv.

    Returns:
        Peak memory in MB; None if the run did not measure it.
    """
    for column in ("gpu_mb", "memory_mb"):
        if column in epochs and epochs[column].notna().any():
            return float(epochs[column].max())
    return None


def phase_bar(epochs: pd.DataFrame) -> Markup | None:
    """Draw the share of training time of each phase.

    Args:
        epochs: the table metrics.csv.

    Returns:
        The chart; None if the run did not measure its phases.
    """
    if not set(PHASES) <= set(epochs.columns):
        return None
    seconds = {label: float(epochs[column].sum()) for column, label in PHASES.items()}
    total = sum(seconds.values())
    if not total > 0:
        return None
    shares = {label: value / total for label, value in seconds.items() if value > 0}
    elements, x = [], 0.0
    for row, (label, share) in enumerate(shares.items()):
        y = 62 + 20 * row
        elements += [
            svg_element("rect", x=x, y=24, width=CHART_WIDTH * share, height=20, class_=f"phase p{row}"),
            svg_element("rect", x=0, y=y - 10, width=12, height=12, class_=f"phase p{row}"),
            svg_text(20, y, f"{label}: {share:.0%} ({format_duration(seconds[label])})"),
        ]
        x += CHART_WIDTH * share
    title = "Training time by phase"
    summary = ", ".join(f"{label} {share:.0%}" for label, share in shares.items())
    return chart(52 + 20 * len(shares), title, summary, heading(title), *elements)


def _memory(epochs: pd.DataFrame) -> dict[str, str]:
    """Return the peak resident memory of the process, and the peak that PyTorch allocated on the GPU."""
    names = {"memory_mb": "Peak memory", "gpu_mb": "Peak GPU memory"}
    peaks = {name: epochs[column].max() for column, name in names.items() if column in epochs}
    return {name: format_bytes(int(1e6 * value)) for name, value in peaks.items() if value == value}  # without NaN


def _trained_share(run: RunFiles) -> str:
    trained, total = run.metadata.trained_parameters, run.metadata.total_parameters
    return f" of {total:,} ({trained / total:.1%})" if trained is not None and total else ""


def _hardware(run: RunFiles) -> dict[str, str]:
    hardware = run.metadata.hardware
    table = {}
    if hardware.gpus:
        table["GPU"] = ", ".join(hardware.gpus)
    if hardware.cpu:
        counts = ("?" if count is None else count for count in (hardware.threads, hardware.cores))
        table["Processor"] = f"{hardware.cpu}, {' of '.join(map(str, counts))} threads"
    return table
