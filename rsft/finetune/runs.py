"""The folder of a run, and what is written into it while it goes."""

from __future__ import annotations

import json
import platform
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lightning
import pandas as pd
import timm
import torch
import torchgeo

from rsft import __version__
from rsft.files import replacing, write_text
from rsft.peft import Site
from rsft.recipe.load import dump_recipe
from rsft.recipe.schema import Recipe


@dataclass
class Run:
    """runs/<recipe>/<number>/ and its tables.

    Attributes:
        folder: of this run alone.
        facts: what run.json holds: status, times, versions, device, parameters.
    """

    folder: Path
    facts: dict[str, Any] = field(default_factory=dict)
    _started: float = field(default_factory=time.monotonic, repr=False)
    _rows: list[dict[str, float]] = field(default_factory=list, repr=False)
    _scales: list[dict[str, Any]] = field(default_factory=list, repr=False)

    @classmethod
    def create(cls, recipe: Recipe, runs: Path) -> Run:
        """Take the next free number under `runs`/<recipe name>/ and write the resolved recipe there."""
        parent = runs / recipe.name
        parent.mkdir(parents=True, exist_ok=True)
        number = max((int(path.name) for path in parent.iterdir() if path.name.isdigit()), default=0) + 1
        while True:
            folder = parent / f"{number:03d}"
            try:
                folder.mkdir()
                break
            except FileExistsError:  # another run took it meanwhile
                number += 1
        write_text(folder / "recipe.yaml", dump_recipe(recipe))
        run = cls(folder)
        run.update(
            status="running", started=_now(), seed=recipe.seed, versions=_versions(), machine=platform.platform()
        )
        return run

    @property
    def bundle(self) -> Path:
        """Where the bundle goes."""
        return self.folder / "bundle"

    @property
    def checkpoint(self) -> Path:
        """Where Lightning's checkpoint goes."""
        return self.folder / "checkpoint.ckpt"

    def update(self, **facts: Any) -> None:
        """Add to run.json."""
        self.facts.update(facts)
        write_text(self.folder / "run.json", json.dumps(self.facts, indent=1))

    def finish(self, status: str = "done") -> None:
        """Close run.json with `status` and the time taken."""
        self.update(status=status, finished=_now(), seconds=round(time.monotonic() - self._started, 1))

    def add_epoch(self, row: dict[str, float], scales: dict[Site, float]) -> None:
        """Append an epoch to metrics.csv, and the modulator's values to modulator.csv."""
        self._rows.append(row)
        self._table("metrics.csv", self._rows)
        if scales:
            self._scales += [
                {"epoch": row["epoch"], "block": site.block, "position": site.position, "value": value}
                for site, value in scales.items()
            ]
            self._table("modulator.csv", self._scales)

    def _table(self, name: str, rows: list[dict[str, Any]]) -> None:
        with replacing(self.folder / name) as temporary:
            pd.DataFrame(rows).to_csv(temporary, index=False, float_format="%.6g")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _versions() -> dict[str, str]:
    libraries = {module.__name__: str(module.__version__) for module in (torch, timm, torchgeo, lightning)}
    return {"rsft": __version__, "python": platform.python_version(), **libraries}
