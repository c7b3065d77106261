"""Print predictions, corrected labels and suggestions, as tables or JSON lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from rsft.cli.display import console as display
from rsft.cli.display.console import (
    console,
    emit_json_event,
    escape_controls,
    show_paths,
)

if TYPE_CHECKING:
    from rsft.data.chips.store import ChipStore
    from rsft.inference.archive import ArchiveResult
    from rsft.inference.corrections.add import CorrectionSummary
    from rsft.inference.predict.result import PredictionResult
    from rsft.types import Progress


_REASONS_SHOWN = 20


def show_addition(summary: CorrectionSummary) -> None:
    """Print what became of corrected labels: counts, splits, and rejected rows."""
    result = summary.result
    if result.added:
        filled = {split for split, _ in result.added}
        splits = [split for split in ("train", "val", "test") if split in filled]
        counts: dict[str, dict[str, int]] = {}
        for name in sorted({name for _, name in result.added}):
            counts[name] = {split: result.added[split, name] for split in splits}
        chips = display.format_chip_count(result.added.total())
        title = f"{chips} added to {summary.root}"
        console.print(display.counts_table(title, counts))
    elif not result.relabeled:
        console.print(
            f"{summary.root} has these labels already: nothing changed", soft_wrap=True
        )
    for (old, new), count in sorted(result.relabeled.items()):
        console.print(f"relabeled    {count:,}  {old} is now {new}")
    is_left_out = summary.not_a_target_class is None
    left_out = {
        "in the store already, with this class": result.unchanged,
        "the same chip as an earlier row": result.repeated,
        "unsure": summary.unsure,
        "not a target (--not-a-target CLASS makes them labels)": (
            summary.not_a_target if is_left_out else 0
        ),
        "not looked at": summary.unlabeled,
    }
    for name, count in left_out.items():
        if count:
            console.print(f"left out     {count:,}  {name}")
    for (split, is_known), count in sorted(Counter(result.splits.values()).items()):
        kind = "chips of it are there already" if is_known else "new scene"
        console.print(f"scenes       {count:,}  to {split} ({kind})")
    for note in result.notes:
        console.print(f"note: {note}", soft_wrap=True)
    if result.rejected:
        listed = escape_controls(f", listed in {summary.root / 'rejected.csv'}")
        console.print(
            Text.assemble(
                (f"{len(result.rejected):,} labels rejected", "yellow"), listed
            )
        )
        for _, line, reason in result.rejected[:_REASONS_SHOWN]:
            console.print(f"  line {line}: {reason}", soft_wrap=True)


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
        "classes": [
            {"split": x, "class": name, "chips": count}
            for (x, name), count in sorted(result.added.items())
        ],
        "changes": [
            {"from": x, "to": y, "chips": count}
            for (x, y), count in sorted(result.relabeled.items())
        ],
        "scenes": {
            scene: {"split": split, "known": known}
            for scene, (split, known) in result.splits.items()
        },
        "reasons": [
            {"line": line, "reason": reason} for _, line, reason in result.rejected
        ],
        "notes": result.notes,
    }
    emit_json_event("done", fields)


def emit_store(store: ChipStore, notes: Sequence[str]) -> None:
    """Print what is in a new chip store as one JSON line."""
    counts = sorted(
        (split, name, count)
        for split, chips in store.counts.items()
        for name, count in chips.items()
    )
    fields: dict[str, Any] = {
        "store": str(store.root),
        "chips": store.size,
        "classes": [
            {"split": split, "class": name, "chips": count}
            for split, name, count in counts
            if count
        ],
        "skipped": dict(store.skipped),
        "rejected": store.rejected,
        "notes": list(notes),
    }
    emit_json_event("done", fields)


def show_predictions(result: PredictionResult) -> None:
    """Print the counts by class, notes, and the first rejected chips."""
    from rsft.inference.predict.scene_check import describe_checks

    title = f"{display.format_chip_count(len(result.table))} classified"
    console.print(
        display.counts_table(
            title, {name: {"chips": count} for name, count in result.counts.items()}
        )
    )
    described = describe_checks(result.checks) + [str(check) for check in result.truth]
    for note in (note for note in result.notes if note not in described):
        console.print(note)
    if result.rejected:
        console.print(f"{len(result.rejected):,} rejected", style="yellow")
        for path, reason in result.rejected[:20]:
            console.print(f"  {path}: {reason}", soft_wrap=True)
    show_paths({"predictions": result.output_path})


def show_checks(result: PredictionResult) -> None:
    """Print how many true objects were found, and whether the chips are as expected."""
    from rsft.inference.predict.scene_check import describe_checks

    for check in result.truth:
        console.print(str(check), soft_wrap=True)
    is_doubtful = any(check.is_doubtful for check in result.checks)
    style = "yellow" if is_doubtful else None
    for sentence in describe_checks(result.checks):
        console.print(sentence, style=style, soft_wrap=True)


def show_archive(archive: ArchiveResult, as_json: bool) -> None:
    """Print the number of scenes by status, or every scene as a JSON line."""
    if as_json:
        for scene in archive.scenes:
            emit_json_event("scene", vars(scene))
        emit_json_event("done", {"scenes": str(archive.summary_path), **archive.counts})
        return
    counts = (f"{count:,} {status}" for status, count in archive.counts.items())
    chips = sum(outcome.chips for outcome in archive.scenes)
    console.print(
        f"scenes: {', '.join(counts) or 'none'}; {display.format_chip_count(chips)}"
        " classified"
    )
    failed = [outcome for outcome in archive.scenes if outcome.status == "failed"]
    for outcome in failed[:20]:
        console.print(f"  failed  {outcome.scene}: {outcome.reason}", soft_wrap=True)
    skipped = archive.counts["skipped"]
    if skipped:
        reason = (
            "the folder already contains their outputs for this bundle and this request"
        )
        console.print(f"{skipped:,} were skipped: {reason}")
    rejected = sum(outcome.rejected for outcome in archive.scenes)
    if rejected:
        console.print(
            Text.assemble(
                (f"{rejected:,} chips rejected", "yellow"),
                ", listed in <scene>.rejected.csv",
            )
        )
    show_paths({"scenes": archive.summary_path})
    unlike = sum(x.ood for x in archive.scenes)
    withheld = sum(x.class_sets == "withheld" for x in archive.scenes)
    if chips:
        console.print(
            f"{unlike:,} of {display.format_chip_count(chips)} are unlike the training"
            " chips"
        )
    if withheld:
        sets = (f"class sets withheld in {withheld:,} scenes", "yellow")
        console.print(Text.assemble(sets, ", whose chips are mostly unlike them"))


def report_json_progress() -> Progress:
    """Return a callable that prints progress as JSON, once per percent and task."""
    printed: dict[str, int] = {}

    def report(done: int, total: int, task: str) -> None:
        percent = 100 * done // max(1, total)
        if printed.get(task) != percent:
            printed[task] = percent
            emit_json_event("progress", {"task": task, "done": done, "total": total})

    return report


@contextmanager
def report_progress(as_json: bool) -> Iterator[Progress]:
    """Show bars; with `as_json`, print progress as JSON lines."""
    with display.progress() as show_bar:
        yield report_json_progress() if as_json else show_bar


def emit_predictions(result: PredictionResult, paths: dict[str, Path]) -> None:
    """Print the result of a job as one JSON line; `paths` are further outputs."""
    fields: dict[str, Any] = {
        "predictions": str(result.output_path),
        "chips": len(result.table),
        "chips_folder": str(paths["chips"]) if "chips" in paths else None,
        "classes": result.counts,
        "rejected": len(result.rejected),
        "ood": sum(check.ood for check in result.checks),
        "checks": [check.as_json() for check in result.checks],
        "truth": [asdict(check) for check in result.truth],
        "notes": result.notes,
    }
    emit_json_event("done", {name: str(path) for name, path in paths.items()} | fields)
