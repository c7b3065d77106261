"""The modulator by block and position, over the epochs."""

from __future__ import annotations

import numpy as np
import pandas as pd
from markupsafe import Markup

from rsft.evaluate.report.svg import STRONG, element, figure, on_shade, text

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

    CELL, ROW, LEFT, TOP = 62, 30, 62, 24

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
        """The last frame, with the scale below it; script.js redraws it for another epoch."""
        middles = [self.LEFT + self.CELL * (column + 0.5) for column in range(max(len(self.positions), KEYS))]
        y = self.TOP + self.ROW * len(self.blocks) + 14
        low, high = max(0.0, self.start - self.reach), self.start + self.reach
        keys = [low, (low + self.start) / 2, self.start, (self.start + high) / 2, high]
        return figure(
            self.LEFT + self.CELL * len(middles) + 2,
            y + self.ROW + 2,
            "Modulator by block and position",
            self.summary(),
            *(
                text(x, 14, name, text_anchor="middle", class_="heading")
                for x, name in zip(middles, self.positions, strict=False)
            ),
            *(
                text(self.LEFT - 10, self.TOP + self.ROW * (row + 0.5) + 4, f"block {block}", text_anchor="end")
                for row, block in enumerate(self.blocks)
            ),
            *(
                self._cell(middles[column], self.TOP + self.ROW * row, self.frames[-1, row, column], "site")
                for row, column in self.sites
            ),
            text(self.LEFT - 10, y + self.ROW / 2 + 4, "scale", text_anchor="end"),
            *(self._cell(x, y, value, "key") for x, value in zip(middles, keys, strict=False)),
            class_="matrix labelled modulator",
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
        """What script.js needs: the values of every frame, site by site."""
        rows, columns = self.sites.T
        frames = self.frames[:, rows, columns].round(3).tolist()
        return {"start": self.start, "reach": self.reach, "strong": STRONG, "epochs": self.epochs, "frames": frames}

    def _cell(self, middle: float, y: float, value: float, kind: str) -> Markup:
        share = abs(value - self.start) / self.reach
        side = "above" if value > self.start else "below"
        box = element(
            "rect",
            x=middle - self.CELL / 2,
            y=y,
            width=self.CELL,
            height=self.ROW,
            fill_opacity=round(float(share), 3),
            class_=f"shade {side}",
        )
        number = text(middle, y + self.ROW / 2 + 4, f"{value:.2f}", text_anchor="middle", class_=on_shade(share))
        return element("g", box, number, class_=kind)
