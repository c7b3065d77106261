"""Print the result of a prediction job as tables, or as JSON lines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from rsft.cli.display.console import console, counts_table, emit_json_event, format_chip_count, show_paths

if TYPE_CHECKING:
    from rsft.inference.archive.archive import ArchiveResult
    from rsft.inference.predict.job import PredictionResult
    from rsft.types import Progress


def show_predictions(result: PredictionResult) -> None:
    """Print the counts by class, notes apart from those of `show_checks`, and the first rejected chips."""
    from rsft.inference.predict.scene_checks import describe_checks

    title = f"{format_chip_count(len(result.table))} classified"
    console.print(counts_table(title, {name: {"chips": count} for name, count in result.counts.items()}))
    described = describe_checks(result.checks) + [str(check) for check in result.truth]
    for note in (note for note in result.notes if note not in described):
        console.print(note)
    if result.rejected:
        console.print(f"{len(result.rejected):,} rejected", style="yellow")
        for path, reason in result.rejected[:20]:
            console.print(f"  {path}: {reason}", soft_wrap=True)
    show_paths({"predictions": result.output_path})


def show_checks(result: PredictionResult) -> None:
    """Print how many objects of the truth were found, and whether the chips are like those of the training."""
    from rsft.inference.predict.scene_checks import describe_checks, has_warning

    for check in result.truth:
        console.print(str(check), soft_wrap=True)
    style = "yellow" if has_warning(result.checks) else None
    for sentence in describe_checks(result.checks):
        console.print(sentence, style=style, soft_wrap=True)


def show_archive(archive: ArchiveResult) -> None:
    """Print the number of scenes by status, and the reasons of the first failures."""
    counts = (f"{count:,} {status}" for status, count in archive.counts.items())
    chips = sum(outcome.chips for outcome in archive.scenes)
    console.print(f"scenes: {', '.join(counts) or 'none'}; {format_chip_count(chips)} classified")
    failed = [outcome for outcome in archive.scenes if outcome.status == "failed"]
    for outcome in failed[:20]:
        console.print(f"  failed  {outcome.scene}: {outcome.reason}", soft_wrap=True)
    if skipped := archive.counts["skipped"]:
        console.print(
            f"{skipped:,} were skipped: the folder already contains their outputs for this bundle and this request"
        )
    if refused := sum(outcome.refused for outcome in archive.scenes):
        console.print(Text.assemble((f"{refused:,} chips rejected", "yellow"), ", listed in <scene>.rejected.csv"))
    show_paths({"scenes": archive.summary_path})
    unlike, withheld = sum(x.unlike for x in archive.scenes), sum(x.sets == "withheld" for x in archive.scenes)
    if chips:
        console.print(f"{unlike:,} of {format_chip_count(chips)} are unlike the training chips")
    if withheld:
        console.print(
            Text.assemble(
                (f"class sets withheld in {withheld:,} scenes", "yellow"), ", whose chips are mostly unlike them"
            )
        )


def json_progress() -> Progress:
    """Return a callable that prints the progress of a job as JSON lines, at most one per percent and task."""
    printed: dict[str, int] = {}

    def report(done: int, total: int, task: str) -> None:
        percent = 100 * done // max(1, total)
        if printed.get(task) != percent:
            printed[task] = percent
            emit_json_event("progress", {"task": task, "done": done, "total": total})

    return report


def emit_predictions(result: PredictionResult, paths: dict[str, Path]) -> None:
    """Print the result of a job as one JSON line.

    Args:
        result: the result.
        paths: further files and folders that the job wrote, by name.
    """
    fields: dict[str, Any] = {
        "predictions": str(result.output_path),
        "chips": len(result.table),
        "chips_folder": str(paths["chips"]) if "chips" in paths else None,
        "classes": result.counts,
        "rejected": len(result.rejected),
        "unlike": sum(check.unlike for check in result.checks),
        "checks": [check.as_json() for check in result.checks],
        "truth": [check.as_json() for check in result.truth],
        "notes": result.notes,
    }
    emit_json_event("done", {name: str(path) for name, path in paths.items()} | fields)


def emit_archive(archive: ArchiveResult) -> None:
    """Print the result of every scene and of an archive as JSON lines."""
    for scene in archive.scenes:
        emit_json_event("scene", vars(scene))
    emit_json_event("done", {"scenes": str(archive.summary_path), **archive.counts})
