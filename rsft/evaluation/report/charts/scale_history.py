"""Draw the learned scales by block and position for each epoch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from markupsafe import Markup

from rsft.evaluation.report.charts.site_heatmap import SiteCell, block_names, row_label, site_heatmap
from rsft.evaluation.report.charts.svg import STRONG_SHADE

COLOR_KEY_CELLS = 5
"""Number of cells in the color key below the map."""

COLOR_KEY_GAP = 14 / 30
"""Distance between the map and its color key, counted in rows."""

SMALLEST_RANGE = 0.1
"""The colors cover at least this distance from the initial scale, so that small changes have weak colors."""


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

    def figure(self) -> Markup:
        """Draw the last frame with its color key. slider.js redraws it for another epoch.

        Returns:
            The chart.
        """
        low, high = max(0.0, self.init_scale - self.color_range), self.init_scale + self.color_range
        samples = [low, (low + self.init_scale) / 2, self.init_scale, (self.init_scale + high) / 2, high]
        below = len(self.blocks) + COLOR_KEY_GAP
        return site_heatmap(
            "Modulator by block and position",
            self.summary(),
            self.blocks,
            self.positions,
            (self._cell(row, column, self.frames[-1, row, column]) for row, column in self.sites),
            row_label(below, "scale"),
            *(self._cell(below, column, value).render("key") for column, value in enumerate(samples)),
            rows=1 + COLOR_KEY_GAP,
            columns=COLOR_KEY_CELLS,
            style="modulator",
        )

    def summary(self) -> str:
        """Describe the strongest and the weakest site of the last frame."""
        last = self.frames[-1]
        cells = [np.unravel_index(pick(last), last.shape) for pick in (np.nanargmax, np.nanargmin)]
        strong, weak = (f"{self.blocks[row]} {self.positions[column]}" for row, column in cells)
        return f"strongest at {strong} ({np.nanmax(last):.2f}), weakest at {weak} ({np.nanmin(last):.2f})"

    def by_position(self) -> list[tuple[str, float, float, float]]:
        """Summarize the last frame by position.

        Returns:
            Position, mean, lowest and highest scale over the blocks.
        """
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

    def _cell(self, row: float, column: int, value: float) -> SiteCell:
        shade = min(1.0, float(abs(value - self.init_scale) / self.color_range))
        return SiteCell(row, int(column), shade, f"{value:.2f}", "above" if value > self.init_scale else "below")
