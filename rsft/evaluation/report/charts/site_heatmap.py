"""A map of sites: blocks down, positions across, a shade and a number each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd
from markupsafe import Markup

from rsft.evaluation.report.charts.svg import Content, element, figure, on_shade, text

CELL, ROW, LEFT, TOP = 62, 30, 62, 24
ORDER = ("q", "k", "v", "out", "mlp1", "mlp2", "mlp")


@dataclass(frozen=True)
class Cell:
    """A cell in figure units: the strength of its shade in 0-1, the shade's style, and the number on it."""

    row: float
    column: int
    share: float
    number: str
    style: str = ""

    def draw(self, kind: str) -> Markup:
        """As the figure has it."""
        x, y = LEFT + CELL * self.column, TOP + ROW * self.row
        style = f"shade {self.style}".strip()
        box = element("rect", x=x, y=y, width=CELL, height=ROW, fill_opacity=round(self.share, 3), class_=style)
        middle = x + CELL / 2
        number = text(middle, y + ROW / 2 + 4, self.number, text_anchor="middle", class_=on_shade(self.share))
        return element("g", box, number, class_=kind)


def site_map(
    title: str,
    summary: str,
    blocks: Sequence[int],
    positions: Sequence[str],
    cells: Iterable[Cell],
    *below: Content,
    rows: float = 0,
    columns: int = 0,
    style: str = "",
) -> Markup:
    """Cells by block and position, with what stands below the map.

    Args:
        rows: height of what stands below, in rows.
        columns: its width, where that is more than the map's.
    """
    middles = [LEFT + CELL * (column + 0.5) for column in range(len(positions))]
    return figure(
        LEFT + CELL * max(len(positions), columns) + 2,
        TOP + ROW * (len(blocks) + rows) + 2,
        title,
        summary,
        *(
            text(x, 14, name, text_anchor="middle", class_="heading")
            for x, name in zip(middles, positions, strict=True)
        ),
        *(row_label(row, f"block {block}") for row, block in enumerate(blocks)),
        *(cell.draw("site") for cell in cells),
        *below,
        class_=f"matrix labelled {style}".strip(),
    )


def row_label(row: float, label: str) -> Markup:
    """What stands left of a row."""
    return text(LEFT - 10, TOP + ROW * (row + 0.5) + 4, label, text_anchor="end")


def contribution_map(shares: pd.DataFrame) -> Markup | None:
    """contributions.csv in %: what each site adds beside the frozen layer; the fullest shade is the most.

    None where no share is a number.
    """
    shares = shares.dropna()
    if shares.empty:
        return None
    positions = sorted(set(shares["position"]), key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))
    blocks = sorted(set(shares["block"].tolist()))
    ordered = shares.sort_values("share")
    least, most = ordered.iloc[0], ordered.iloc[-1]
    words = f"most at block {most['block']} {most['position']} ({most['share']:.1%}), "
    words += f"least at block {least['block']} {least['position']} ({least['share']:.1%})"
    reach = max(float(most["share"]), 1e-9)
    cells = [
        Cell(blocks.index(block), positions.index(position), float(share) / reach, f"{100 * share:.1f}")
        for block, position, share in shares[["block", "position", "share"]].itertuples(index=False)
    ]
    return site_map("What each site adds, in % of the frozen layer's output", words, blocks, positions, cells)
