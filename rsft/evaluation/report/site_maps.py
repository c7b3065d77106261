"""Draw heat maps of sites, with blocks as rows and positions as columns: learned scales, and contributions."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Self

import numpy as np
import pandas as pd
from markupsafe import Markup

from rsft.evaluation.report.run_files import RunFiles
from rsft.evaluation.report.svg import STRONG_SHADE, Content, svg_element, svg_figure, svg_text
from rsft.peft.sites import POSITIONS

CELL_WIDTH, CELL_HEIGHT, LEFT, TOP = 62, 30, 62, 24

COLOR_KEY_CELLS = 5
"""Number of cells in the color key below the map."""

COLOR_KEY_GAP = 14 / 30
"""Distance between the map and its color key, counted in rows."""

SMALLEST_RANGE = 0.1
"""The colors cover at least this distance from the initial scale, so that small changes have weak colors."""


class SiteCell(NamedTuple):
    """A cell of the map: its row and column, the strength of its shade (0-1), its text, and a further style class."""

    row: float
    column: int
    shade: float
    number: str
    style: str = ""

    def render(self, class_: str) -> Markup:
        """Return the cell as an SVG element with a style class."""
        x, y = LEFT + CELL_WIDTH * self.column, TOP + CELL_HEIGHT * self.row
        style, opacity = f"shade {self.style}".strip(), round(self.shade, 3)
        box = svg_element("rect", x=x, y=y, width=CELL_WIDTH, height=CELL_HEIGHT, fill_opacity=opacity, class_=style)
        text_style = "reversed" if self.shade > STRONG_SHADE else None
        middle = x + CELL_WIDTH / 2, y + CELL_HEIGHT / 2 + 4
        return svg_element("g", box, svg_text(*middle, self.number, "middle", class_=text_style), class_=class_)


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
    return svg_figure(
        LEFT + CELL_WIDTH * max(len(positions), columns) + 2,
        TOP + CELL_HEIGHT * (len(blocks) + rows) + 2,
        title,
        summary,
        *(svg_text(LEFT + CELL_WIDTH * (i + 0.5), 14, name, "middle", "heading") for i, name in enumerate(positions)),
        *(_row_label(row, block) for row, block in enumerate(blocks)),
        *(cell.render("site") for cell in cells),
        *below,
        class_=f"matrix labeled {style}".strip(),
    )


def _row_label(row: float, label: str) -> Markup:
    """Return a label left of a row."""
    return svg_text(LEFT - 10, TOP + CELL_HEIGHT * (row + 0.5) + 4, label, "end")


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
    depths = stage_depths if stage_depths and len(stage_depths) > 1 else []
    names = [f"block {stage}.{block}" for stage, depth in enumerate(depths) for block in range(depth)]
    return {block: dict(enumerate(names)).get(block, f"block {block}") for block in blocks}


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
    positions = sorted(set(shares["position"]), key=lambda name: (rank.get(name, len(rank)), name))
    names = block_names(sorted(set(shares["block"].tolist())), stage_depths)
    ordered, blocks = shares.sort_values("share"), list(names)
    least, most = ordered.iloc[0], ordered.iloc[-1]
    summary = f"most at {names[most['block']]} {most['position']} ({most['share']:.1%}), "
    summary += f"least at {names[least['block']]} {least['position']} ({least['share']:.1%})"
    full_shade = max(float(most["share"]), 1e-9)
    cells = [
        SiteCell(blocks.index(block), positions.index(position), share / full_shade, f"{100 * share:.1f}")
        for block, position, share in shares[["block", "position", "share"]].to_numpy(object)
    ]
    title = "What each site adds, in % of the frozen layer's output"
    return site_heatmap(title, summary, list(names.values()), positions, cells)


class ModulatorMap:
    """The scale of every site over the epochs.

    Args:
        scales: the table modulator.csv.
        init_scale: the scale of every site before the first outer step.
        stage_depths: number of blocks in each stage of the network; None if it is unknown.

    Attributes:
        positions: columns of the map, in the order of the table.
        blocks: names of the rows of the map.
        epochs: number of finished epochs of each frame.
        frames: scales (epochs, blocks, positions); NaN where no site exists.
        sites: row and column (N, 2) of each site, in the order of the cells.
        color_range: distance from the initial scale that has the strongest color.
    """

    def __init__(self, scales: pd.DataFrame, init_scale: float, stage_depths: Sequence[int] | None = None) -> None:
        self.init_scale = init_scale
        self.positions = list(dict.fromkeys(scales["position"]))
        blocks = sorted(scales["block"].unique().tolist())
        self.blocks = list(block_names(blocks, stage_depths).values())
        epochs = sorted(scales["epoch"].unique().tolist())
        self.epochs = [int(epoch) + 1 for epoch in epochs]
        wide = scales.pivot_table(index=["epoch", "block"], columns="position", values="value", aggfunc="last")
        rows = pd.MultiIndex.from_product([epochs, blocks])
        frames = wide.reindex(index=rows, columns=self.positions).to_numpy(float)
        self.frames = frames.reshape(len(epochs), len(self.blocks), len(self.positions))
        self.sites = np.argwhere(np.isfinite(self.frames).all(axis=0))
        self.color_range = max(SMALLEST_RANGE, float(np.nanmax(np.abs(self.frames - init_scale))))

    @classmethod
    def of_run(cls, run: RunFiles) -> Self | None:
        """Return the map of a run; None if it has no modulator, or its table is missing or has empty values."""
        meta, scales = run.recipe.meta, run.scales
        if meta is None or scales is None or scales["value"].isna().any():
            return None
        return cls(scales, meta.init_scale, run.metadata.stage_depths)

    def figure(self) -> Markup:
        """Draw the last frame with its color key. slider.js redraws it for another epoch."""
        low, high = max(0.0, self.init_scale - self.color_range), self.init_scale + self.color_range
        samples = [low, (low + self.init_scale) / 2, self.init_scale, (self.init_scale + high) / 2, high]
        below = len(self.blocks) + COLOR_KEY_GAP
        return site_heatmap(
            "Modulator by block and position",
            self.summary(),
            self.blocks,
            self.positions,
            (self._cell(row, column, self.frames[-1, row, column]) for row, column in self.sites),
            _row_label(below, "scale"),
            *(self._cell(below, column, value).render("key") for column, value in enumerate(samples)),
            rows=1 + COLOR_KEY_GAP,
            columns=COLOR_KEY_CELLS,
            style="modulator",
        )

    def _cell(self, row: float, column: int, value: float) -> SiteCell:
        shade = min(1.0, float(abs(value - self.init_scale) / self.color_range))
        return SiteCell(row, int(column), shade, f"{value:.2f}", "above" if value > self.init_scale else "below")

    def summary(self) -> str:
        """Describe the strongest and the weakest site of the last frame."""
        last = self.frames[-1]
        cells = [np.unravel_index(pick(last), last.shape) for pick in (np.nanargmax, np.nanargmin)]
        strong, weak = (f"{self.blocks[row]} {self.positions[column]}" for row, column in cells)
        return f"strongest at {strong} ({np.nanmax(last):.2f}), weakest at {weak} ({np.nanmin(last):.2f})"

    def by_position(self) -> list[tuple[str, float, float, float]]:
        """Return each position with the mean, lowest and highest scale of the last frame over the blocks."""
        values = [(name, self.frames[-1, :, column]) for column, name in enumerate(self.positions)]
        return [(name, np.nanmean(value), np.nanmin(value), np.nanmax(value)) for name, value in values]

    def data(self) -> dict[str, object]:
        """Return the data for slider.js.

        Returns:
            "frames" contains the scales of each frame in the order of `sites`; "start", "reach", "strong" and "epochs"
            are `init_scale`, `color_range`, `STRONG_SHADE` and `epochs`.
        """
        rows, columns = self.sites.T
        return {
            "start": self.init_scale,
            "reach": self.color_range,
            "strong": STRONG_SHADE,
            "epochs": self.epochs,
            "frames": self.frames[:, rows, columns].round(4).tolist(),
        }
