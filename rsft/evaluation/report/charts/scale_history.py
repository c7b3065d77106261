"""The modulator by block and position, over the epochs."""

from __future__ import annotations

import numpy as np
import pandas as pd
from markupsafe import Markup

from rsft.evaluation.report.charts.site_heatmap import Cell, row_label, site_map
from rsft.evaluation.report.charts.svg import STRONG

KEYS = 5
"""Cells of the scale below the map."""


class ModulatorMap:
    """The modulator's values, block x position, over the epochs.

    Args:
        scales: modulator.csv.
        start: every site's value before the first outer step.

    Attributes:
        positions: columns of the map, in the order of the table.
        blocks: its rows.
        epochs: epochs done, one a frame.
        frames: (epochs, blocks, positions), NaN where there is no site.
        sites: row and column of each site, in the order of the figure's cells.
        reach: the largest distance from the start that is met, at least 0.1 so that noise looks like noise.
    """

    def __init__(self, scales: pd.DataFrame, start: float) -> None:
        self.start = start
        self.positions = list(dict.fromkeys(scales["position"]))
        self.blocks = sorted(scales["block"].unique().tolist())
        epochs = sorted(scales["epoch"].unique().tolist())
        self.epochs = [int(epoch) + 1 for epoch in epochs]
        wide = scales.pivot_table(index=["epoch", "block"], columns="position", values="value", aggfunc="last")
        rows = pd.MultiIndex.from_product([epochs, self.blocks])
        frames = wide.reindex(index=rows, columns=self.positions).to_numpy(float)
        self.frames = frames.reshape(len(epochs), len(self.blocks), len(self.positions))
        self.sites = np.argwhere(np.isfinite(self.frames).all(axis=0))
        self.reach = max(0.1, float(np.nanmax(np.abs(self.frames - start))))

    def figure(self) -> Markup:
        """The last frame, with the scale below it; slider.js redraws it for another epoch."""
        low, high = max(0.0, self.start - self.reach), self.start + self.reach
        keys = [low, (low + self.start) / 2, self.start, (self.start + high) / 2, high]
        below = len(self.blocks) + 14 / 30
        return site_map(
            "Modulator by block and position",
            self.summary(),
            self.blocks,
            self.positions,
            (self._cell(row, column, self.frames[-1, row, column]) for row, column in self.sites),
            row_label(below, "scale"),
            *(self._cell(below, column, value).draw("key") for column, value in enumerate(keys)),
            rows=1 + 14 / 30,
            columns=KEYS,
            style="modulator",
        )

    def summary(self) -> str:
        """The strongest and the weakest site at the end, in words."""
        last = self.frames[-1]
        places = [np.unravel_index(pick(last), last.shape) for pick in (np.nanargmax, np.nanargmin)]
        strong, weak = (f"block {self.blocks[row]} {self.positions[column]}" for row, column in places)
        return f"strongest at {strong} ({np.nanmax(last):.2f}), weakest at {weak} ({np.nanmin(last):.2f})"

    def by_position(self) -> list[tuple[str, float, float, float]]:
        """Position with mean, lowest and highest value over the blocks, at the end."""
        values = [(name, self.frames[-1, :, column]) for column, name in enumerate(self.positions)]
        return [(name, np.nanmean(value), np.nanmin(value), np.nanmax(value)) for name, value in values]

    def data(self) -> dict[str, object]:
        """What slider.js needs: the values of every frame, site by site."""
        rows, columns = self.sites.T
        frames = self.frames[:, rows, columns].round(4).tolist()
        return {"start": self.start, "reach": self.reach, "strong": STRONG, "epochs": self.epochs, "frames": frames}

    def _cell(self, row: float, column: int, value: float) -> Cell:
        share = float(abs(value - self.start) / self.reach)
        return Cell(row, int(column), min(1.0, share), f"{value:.2f}", "above" if value > self.start else "below")
