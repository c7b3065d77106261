"""Print predictions, corrected labels and suggestions, as tables or JSON lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rsft.cli.display import console as display
from rsft.cli.display.console import (
    LISTED,
    console,
    emit_json_event,
    print_counts,
    print_lines,
    print_rejected,
    shorten,
    show_paths,
)

if TYPE_CHECKING:
    from rsft.corrections.add import CorrectionSummary
    from rsft.data.chips.store import ChipStore
    from rsft.inference.archive import ArchiveResult
    from rsft.inference.predict.result import PredictionResult
    from rsft.types import Progress


def show_addition(summary: CorrectionSummary) -> None:
    """Print what became of corrected labels: counts, splits, and rejected rows."""
    from rsft.data.chips.manifest import MANIFEST

    result = summary.result
    if not result.added and not result.relabeled:
        console.print(f"{summary.root} has these labels already: nothing changed")
    added = {f"{name} to {x}": n for (x, name), n in sorted(result.added.items())}
    names, lines = shorten(added, summary.root / MANIFEST)
    print_counts("added", {name: added[name] for name in names})
    print_lines(lines)
    relabeled = sorted(result.relabeled.items())
    print_counts("relabeled", {f"{old} is now {new}": n for (old, new), n in relabeled})
    left_out = {
        "in the store already, with this class": result.unchanged,
        "the same chip as an earlier row": result.repeated,
        "unsure": summary.verdicts["unsure"],
        "not looked at": summary.verdicts[""],
    }
    if summary.not_a_target is None:
        reason = "not a target (--not-a-target CLASS makes them labels)"
        left_out[reason] = summary.verdicts["not a target"]
    print_counts("left out", left_out)
    print_lines(f"note: {note}" for note in result.notes)
    reasons = (f"line {line}: {reason}" for _, line, reason in result.rejected)
    print_rejected(
        "labels", len(result.rejected), str(summary.root / "rejected.csv"), reasons
    )


def emit_addition(summary: CorrectionSummary) -> None:
    """Print what became of corrected labels as one JSON line."""
    result = summary.result
    fields = {
        "store": summary.root,
        "table": summary.table,
        "rows": summary.verdicts.total(),
        "added": result.added.total(),
        "relabeled": result.relabeled.total(),
        "unchanged": result.unchanged,
        "repeated": result.repeated,
        "unsure": summary.verdicts["unsure"],
        "not_a_target": summary.verdicts["not a target"],
        "not_looked_at": summary.verdicts[""],
        "rejected": len(result.rejected),
        "classes": [
            {"split": x, "class": name, "chips": count}
            for (x, name), count in sorted(result.added.items())
        ],
        "changes": [
            {"from": x, "to": y, "chips": count}
            for (x, y), count in sorted(result.relabeled.items())
        ],
        "reasons": [
            {"line": line, "reason": reason} for _, line, reason in result.rejected
        ],
        "notes": result.notes,
    }
    emit_json_event("done", fields)


def emit_store(store: ChipStore, notes: Sequence[str]) -> None:
    """Print what is in a new chip store as one JSON line."""
    classes = []
    for split, chips in sorted(store.counts.items()):
        for name, count in sorted(chips.items()):
            if count:
                classes.append({"split": split, "class": name, "chips": count})
    emit_json_event(
        "done",
        {
            "store": store.root,
            "chips": store.size,
            "classes": classes,
            "skipped": dict(store.skipped),
            "rejected": store.rejected,
            "notes": list(notes),
        },
    )


def show_predictions(result: PredictionResult) -> None:
    """Print the counts by class, notes, and the first rejected chips.

    Of many classes, it prints the most frequent ones.
    """
    from rsft.inference.predict.scene_check import describe_checks

    title = f"{display.format_chip_count(len(result.table))} classified"
    counts = result.counts
    if len(counts) > display.CLASSES_SHOWN:
        counts = dict(Counter(counts).most_common())
    rows = {name: {"chips": count} for name, count in counts.items()}
    console.print(display.counts_table(title, rows, location=result.output_path))
    described = describe_checks(result.checks) + [str(check) for check in result.truth]
    print_lines(note for note in result.notes if note not in described)
    reasons = (f"{path}: {reason}" for path, reason in result.rejected)
    print_rejected("chips", len(result.rejected), "", reasons)
    show_paths({"predictions": result.output_path})


def show_checks(result: PredictionResult) -> None:
    """Print how many true objects were found, and whether the chips are as expected."""
    from rsft.inference.predict.scene_check import describe_checks

    print_lines(result.truth)
    style = None
    if any(check.is_doubtful for check in result.checks):
        style = "yellow"
    print_lines(describe_checks(result.checks), style)


def show_archive(archive: ArchiveResult, as_json: bool) -> None:
    """Print the number of scenes by status, or every scene as a JSON line."""
    if as_json:
        for scene in archive.scenes:
            emit_json_event("scene", scene._asdict())
        emit_json_event("done", {"scenes": archive.summary_path, **archive.counts})
        return
    scenes: Counter[str] = Counter()
    chips: Counter[str] = Counter()
    failures: list[str] = []
    for scene in archive.scenes:
        scenes[scene.status] += 1
        withheld = scene.class_sets == "withheld"
        scenes["without class sets, as most chips are unlike the training"] += withheld
        chips["classified"] += scene.chips
        chips["unlike the training chips"] += scene.ood
        chips["rejected, see <scene>.rejected.csv"] += scene.rejected
        if scene.status == "failed" and len(failures) < LISTED:
            failures.append(f"  failed  {scene.scene}: {scene.reason}")
    print_counts("scenes", scenes)
    print_lines(failures)
    print_counts("chips", chips)
    show_paths({"scenes": archive.summary_path})


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
    fields = {
        "predictions": result.output_path,
        "chips": len(result.table),
        "chips_folder": paths.get("chips"),
        "classes": result.counts,
        "rejected": len(result.rejected),
        "ood": sum(check.ood for check in result.checks),
        "checks": [check.as_json() for check in result.checks],
        "truth": [asdict(check) for check in result.truth],
        "notes": result.notes,
    }
    emit_json_event("done", {**paths, **fields})
