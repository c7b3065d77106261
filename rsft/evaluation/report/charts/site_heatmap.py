"""Draw a heat map of sites, with blocks as rows and positions as columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd
from markupsafe import Markup

from rsft.evaluation.report.charts.svg import Content, number_style, svg_element, svg_figure, svg_text
from rsft.peft.sites import POSITIONS

CELL_WIDTH, CELL_HEIGHT, LEFT, TOP = 62, 30, 62, 24


@dataclass(frozen=True)
class SiteCell:
    """A cell of the map.

    Attributes:
        row: row of the cell.
        column: column of the cell.
        shade: strength of the shade in 0-1.
        number: text on the cell.
        style: additional style class of the shade.
    """

    row: float
    column: int
    shade: float
    number: str
    style: str = ""

    def render(self, class_: str) -> Markup:
        """Return the cell as an SVG element.

        Args:
            class_: style class of the element.
        """
        x, y = LEFT + CELL_WIDTH * self.column, TOP + CELL_HEIGHT * self.row
        style = f"shade {self.style}".strip()
        opacity = round(self.shade, 3)
        box = svg_element("rect", x=x, y=y, width=CELL_WIDTH, height=CELL_HEIGHT, fill_opacity=opacity, class_=style)
        middle = x + CELL_WIDTH / 2, y + CELL_HEIGHT / 2 + 4
        number = svg_text(*middle, self.number, text_anchor="middle", class_=number_style(self.shade))
        return svg_element("g", box, number, class_=class_)


def site_heatmap(
    title: str,
    summary: str,
    blocks: Sequence[str],
    positions: Sequence[str],
    cells: Iterable[SiteCell],
    *below: Content,
    rows: float = 0,
    columns: int = 0,
    style: str = "",
) -> Markup:
    """Draw cells by block and position.

    Args:
        title: title of the figure.
        summary: description of what the figure shows.
        blocks: label of each row.
        positions: position of each column.
        cells: the cells of the map.
        below: elements below the map.
        rows: height of `below`, counted in rows.
        columns: width of `below`, counted in columns.
        style: additional style class of the figure.

    Returns:
        The chart.
    """
    middles = [LEFT + CELL_WIDTH * (column + 0.5) for column in range(len(positions))]
    names = zip(middles, positions, strict=True)
    return svg_figure(
        LEFT + CELL_WIDTH * max(len(positions), columns) + 2,
        TOP + CELL_HEIGHT * (len(blocks) + rows) + 2,
        title,
        summary,
        *(svg_text(x, 14, name, text_anchor="middle", class_="heading") for x, name in names),
        *(row_label(row, block) for row, block in enumerate(blocks)),
        *(cell.render("site") for cell in cells),
        *below,
        class_=f"matrix labeled {style}".strip(),
    )


def block_names(blocks: Iterable[int], stage_depths: Sequence[int] | None) -> dict[int, str]:
    """Name blocks for readers.

    Args:
        blocks: numbers of the blocks, counted from 0 through all stages.
        stage_depths: number of blocks in each stage of the network; None if it is unknown.

    Returns:
        Number -> "block 5" in a plain vision transformer, "block 2.1" (stage and block in it, from 0) in a hierarchical
        network.

    Example:
        >>> block_names([1, 5], [3, 4, 6, 3])
        {1: 'block 0.1', 5: 'block 1.2'}
    """
    depths = stage_depths or []
    if len(depths) < 2:
        return {block: f"block {block}" for block in blocks}
    in_stages = [f"block {stage}.{block}" for stage, depth in enumerate(depths) for block in range(depth)]
    return {block: in_stages[block] if block < len(in_stages) else f"block {block}" for block in blocks}


def row_label(row: float, label: str) -> Markup:
    """Return a label left of a row.

    Args:
        row: number of the row from the top.
        label: the text.
    """
    return svg_text(LEFT - 10, TOP + CELL_HEIGHT * (row + 0.5) + 4, label, text_anchor="end")


def contribution_heatmap(contributions: pd.DataFrame, stage_depths: Sequence[int] | None = None) -> Markup | None:
    """Draw what each site adds, in percent of the frozen layer's output.

    Args:
        contributions: the table contributions.csv. The largest share has the strongest shade.
        stage_depths: number of blocks in each stage of the network; None if it is unknown.

    Returns:
        The chart; None if no share is a number.
    """
    shares = contributions.dropna()
    if shares.empty:
        return None
    rank = {name: index for index, name in enumerate(POSITIONS)}
    positions = sorted(set(shares["position"]), key=lambda name: rank.get(name, len(rank)))
    blocks = sorted(set(shares["block"].tolist()))
    ordered = shares.sort_values("share")
    least, most = ordered.iloc[0], ordered.iloc[-1]
    names = block_names(blocks, stage_depths)
    summary = f"most at {names[most['block']]} {most['position']} ({most['share']:.1%}), "
    summary += f"least at {names[least['block']]} {least['position']} ({least['share']:.1%})"
    full_shade = max(float(most["share"]), 1e-9)
    cells = [
        SiteCell(blocks.index(block), positions.index(position), float(share) / full_shade, f"{100 * share:.1f}")
        for block, position, share in shares[["block", "position", "share"]].itertuples(index=False)
    ]
    title = "What each site adds, in % of the frozen layer's output"
    return site_heatmap(title, summary, list(names.values()), positions, cells)
