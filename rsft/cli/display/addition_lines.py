"""Print what became of corrected labels."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from rich.text import Text

from rsft.cli.display.console import console, counts_table, emit_json_event, format_chip_count
from rsft.cli.display.plain_text import escape_controls

if TYPE_CHECKING:
    from rsft.inference.corrections.add import CorrectionSummary

_REASONS_SHOWN = 20


def show_addition(summary: CorrectionSummary) -> None:
    """Print the counts by class and split, what was left out, the splits of the scenes, and the rejected rows."""
    result = summary.result
    if result.added:
        counts: dict[str, dict[str, int]] = {}
        splits = [split for split in ("train", "val", "test") if any(x == split for x, _ in result.added)]
        for split, name in sorted(result.added):
            counts.setdefault(name, dict.fromkeys(splits, 0))[split] = result.added[split, name]
        title = f"{format_chip_count(result.added.total())} added to {summary.root}"
        console.print(counts_table(title, counts))
    elif not result.relabeled:
        console.print(f"{summary.root} has these labels already: nothing changed", soft_wrap=True)
    for (old, new), count in sorted(result.relabeled.items()):
        console.print(f"relabeled    {count:,}  {old} is now {new}")
    for name, count in _left_out(summary).items():
        if count:
            console.print(f"left out     {count:,}  {name}")
    _show_splits(summary)
    for note in result.notes:
        console.print(f"note: {note}", soft_wrap=True)
    if result.rejected:
        console.print(
            Text.assemble(
                (f"{len(result.rejected):,} labels rejected", "yellow"),
                escape_controls(f", listed in {summary.rejected_list}"),
            )
        )
        for _, line, reason in result.rejected[:_REASONS_SHOWN]:
            console.print(f"  line {line}: {reason}", soft_wrap=True)


def _left_out(summary: CorrectionSummary) -> dict[str, int]:
    result = summary.result
    is_left_out = summary.not_a_target_class is None
    return {
        "in the store already, with this class": result.unchanged,
        "the same chip as an earlier row": result.repeated,
        "unsure": summary.unsure,
        "not a target (--not-a-target CLASS makes them labels)": summary.not_a_target if is_left_out else 0,
        "not looked at": summary.unlabeled,
    }


def _show_splits(summary: CorrectionSummary) -> None:
    counts = Counter((split, is_known) for split, is_known in summary.result.splits.values())
    for (split, is_known), count in sorted(counts.items()):
        kind = "chips of it are there already" if is_known else "new scene"
        console.print(f"scenes       {count:,}  to {split} ({kind})")


def emit_addition(summary: CorrectionSummary) -> None:
    """Print what became of corrected labels as one JSON line."""
    result = summary.result
    fields: dict[str, Any] = {
        "store": str(summary.root),
        "table": str(summary.table),
        "rows": summary.rows,
        "added": result.added.total(),
        "relabeled": result.relabeled.total(),
        "unchanged": result.unchanged,
        "repeated": result.repeated,
        "unsure": summary.unsure,
        "not_a_target": summary.not_a_target,
        "not_looked_at": summary.unlabeled,
        "rejected": len(result.rejected),
        "classes": [{"split": x, "class": name, "chips": count} for (x, name), count in sorted(result.added.items())],
        "changes": [{"from": x, "to": y, "chips": count} for (x, y), count in sorted(result.relabeled.items())],
        "scenes": {scene: {"split": split, "known": known} for scene, (split, known) in result.splits.items()},
        "reasons": [{"line": line, "reason": reason} for _, line, reason in result.rejected],
        "notes": result.notes,
    }
    emit_json_event("done", fields)
