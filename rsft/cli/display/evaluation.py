"""Print the accuracy of a bundle, comparisons of two runs, and losses of int8."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from rsft.cli.display import console as display

if TYPE_CHECKING:
    from rsft.evaluation.files import Comparison
    from rsft.evaluation.schema import Evaluation
    from rsft.inference.export.export import AccuracyChange
    from rsft.metrics.intervals import Interval


def show_evaluation(evaluation: Evaluation, run: Path) -> None:
    """Print map, result in sentences, accuracies, and notes, as the report does.

    Accuracies are in %, gains of the run over a baseline in points, with half the width
    of the 95 % interval.

    Args:
        evaluation: content of metrics.json.
        run: folder of the bundle, or the run folder.
    """
    from rsft.evaluation.report.dataset import MAPS_DIR
    from rsft.evaluation.report.metric_tables import describe_result
    from rsft.models.bundle.bundle import Bundle, find_bundle

    bundle = find_bundle(run)
    maps = bundle.parent / MAPS_DIR
    if maps.is_dir():
        display.show_paths({"map": maps / "1.png"})
    display.print_lines(describe_result(evaluation, Bundle.load(bundle).recipe))
    display.console.print(evaluation_table(evaluation))
    if evaluation.small_network:
        display.console.print(evaluation.small_network.sentence(evaluation.method))
    display.print_lines(evaluation.notes)


def evaluation_table(evaluation: Evaluation) -> Table:
    """Return accuracies by method, and gains of the run over the baselines.

    A value has no interval if it is the same in all resamples, as the accuracy of a
    group of which all chips are correct: the interval would be too narrow.

    Groups without chips have no column, nor has macro if it equals the overall
    accuracy.
    """
    from rsft.evaluation.schema import MEASURES

    methods = evaluation.methods.values()
    columns = {}
    for key, name in MEASURES.items():
        if any(getattr(summary, key) for summary in methods):
            columns[key] = name
    if all(f"{x.macro.value:.3f}" == f"{x.micro.value:.3f}" for x in methods):
        del columns["macro"]
    headings = ["method", *columns.values()]
    if evaluation.differences:
        headings.append("gain in macro")
    table = display.make_table(
        f"{evaluation.count:,} chips of {evaluation.data}, split {evaluation.split};"
        " accuracy in %, 95 % interval",
        headings,
    )
    for method, summary in evaluation.methods.items():
        style = ""
        cells = []
        for key in columns:
            cells.append(_accuracy_cell(getattr(summary, key), mark=evaluation.mark))
        if evaluation.differences:
            cells.append(
                _accuracy_cell(
                    evaluation.differences.get(method, {}).get("macro"), sign="+"
                )
            )
        if method == evaluation.method:
            style = "bold"
            cells = cells[: len(columns)]
        table.add_row(method, *cells, style=style)
    return table


def _accuracy_cell(interval: Interval | None, sign: str = "", mark: str = "") -> Text:
    if not interval:
        return Text("-")
    cell = Text(f"{100 * interval.value:{sign}.1f}{mark} ")
    if interval.low < interval.high:
        cell.append(f"±{50 * (interval.high - interval.low):.0f}", "dim")
    return cell


def comparison_table(comparison: Comparison) -> Table:
    """Return the paired differences of two runs by measure, with McNemar's test."""
    table = display.make_table(
        f"{comparison.count:,} chips: this run minus {comparison.second}, in points,"
        " 95 % interval",
        ["measure", "difference", "interval", "p (McNemar)"],
    )
    for name, difference in comparison.paired.differences.items():
        test = comparison.paired.mcnemar.get("all" if name == "micro" else name)
        p = f"{test.p:.2g}" if test else ""
        spread = f"{100 * difference.low:+.1f} to {100 * difference.high:+.1f}"
        label = display.MEASURES.get(name, name)
        table.add_row(label, f"{100 * difference.value:+.1f}", spread, p)
    return table


def changes_table(changes: Mapping[str, AccuracyChange]) -> Table:
    """Return accuracy in % before and after quantization by group, and the change."""
    table = display.make_table(
        "accuracy in %, validation chips",
        ("group", "chips", "changed", "torch fp32", "int8", "points"),
    )
    for name, change in changes.items():
        table.add_row(
            name,
            f"{change.chips:,}",
            f"{change.differ:,}",
            f"{100 * change.before:.2f}",
            f"{100 * change.after:.2f}",
            f"{round(-change.lost, 2) + 0.0:+.2f}",
        )
    return table
