"""Print a replay check: what a run that started at a bundle gained and lost."""

from rich.table import Table

from rsft.cli.display.console import format_chip_count, make_table
from rsft.training.runs.replay_file import PartReplay

MAX_ROWS = 30
"""Classes in a table; of more classes, those with the most gained and lost chips are
shown."""


def replay_table(part: PartReplay) -> Table:
    """Return recall before and after, and gained and lost chips, by class.

    The last row has the mean over classes.
    """
    rows = part.classes
    title = f"replay check, {format_chip_count(part.chips)}: {part.name}; recall in %"
    if len(rows) > MAX_ROWS:
        changed = sorted(rows, key=lambda row: -row.gained - row.lost)[:MAX_ROWS]
        hidden = len(rows) - MAX_ROWS
        rows = tuple(row for row in rows if row in changed)
        title += f" ({hidden} classes with fewer changes are not shown)"
    columns = ("class", "chips", "before", "after", "gained", "lost")
    table = make_table(title, (*columns, "p (McNemar, Holm)"))
    for row in rows:
        is_worse = row.lost_more_than_chance or row.fell
        table.add_row(
            row.name,
            f"{row.chips:,}",
            "new" if row.before is None else _percent(row.before),
            _percent(row.after),
            f"{row.gained:,}",
            f"{row.lost:,}",
            f"{row.p:.2g}",
            style="red" if is_worse else "",
        )
    table.add_section()
    table.add_row(
        "macro",
        f"{part.chips:,}",
        _percent(part.macro_before),
        _percent(part.macro_after),
        f"{part.gained:,}",
        f"{part.lost:,}",
        f"{part.p:.2g}",
        style="bold",
    )
    return table


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
