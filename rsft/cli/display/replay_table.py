"""Show the replay check of a run that started at a bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from rsft.cli.display.console import console, format_chip_count

if TYPE_CHECKING:
    from rsft.training.runs.replay_check import ClassReplay, PartReplay, Replay

MAX_ROWS = 30
"""Classes in a table; of more classes, those with the most gained and lost chips are shown."""


def show_replay(replay: Replay) -> None:
    """Print one table per part of a replay check, and its sentences.

    Args:
        replay: the check.
    """
    for part in replay.parts:
        console.print(replay_table(part))
    for sentence in replay.sentences():
        console.print(sentence)


def replay_table(part: PartReplay) -> Table:
    """Return recall before and after, and gained and lost chips, by class.

    Args:
        part: a part of a replay check.

    Returns:
        A table with classes down, and the mean over classes below them.
    """
    rows = part.classes
    if len(rows) > MAX_ROWS:
        changed = sorted(rows, key=lambda row: -row.gained - row.lost)[:MAX_ROWS]
        rows = tuple(row for row in rows if row in changed)
    hidden = len(part.classes) - len(rows)
    title = f"replay check, {format_chip_count(part.chips)}: {part.name}; recall in %"
    title += f" ({hidden} classes with fewer changes are not shown)" if hidden else ""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, min_width=len(title))
    table.add_column("class")
    for name in ("chips", "before", "after", "gained", "lost", "p (McNemar, Holm)"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*_cells(row), style="red" if row.lost_more_than_chance else "")
    table.add_section()
    totals = (f"{part.chips:,}", _percent(part.macro_before), _percent(part.macro_after))
    table.add_row("macro", *totals, f"{part.gained:,}", f"{part.lost:,}", f"{part.p:.2g}", style="bold")
    return table


def _cells(row: ClassReplay) -> tuple[str, ...]:
    before = "new" if row.before is None else _percent(row.before)
    return row.name, f"{row.chips:,}", before, _percent(row.after), f"{row.gained:,}", f"{row.lost:,}", f"{row.p:.2g}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
