"""A bundle in Python: arrays or files in, a tidy table out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rsft.errors import RequestError
from rsft.inference.engines.engines import Kind, open_engine
from rsft.inference.inputs.chip_files import LooseChips
from rsft.inference.inputs.chip_source import Chip, one_band
from rsft.inference.inputs.discovery import NOTHING, Declared, find_chips
from rsft.inference.predict.pipeline import Model, batches, read_ahead, read_batch, rows_of
from rsft.inference.scenes.chip_window import Wishes
from rsft.models.bundle.bundle import Bundle
from rsft.types import Pixels


@dataclass(frozen=True)
class Predictor:
    """A bundle that is ready to classify.

    Attributes:
        bundle: its classes, contract, recipe and hash.
        model: the engine and what its logits mean; another engine may take its place.
    """

    bundle: Bundle
    model: Model

    @classmethod
    def load(cls, folder: Path, device: str = "auto", engine: str = "torch", precision: str = "fp32") -> Predictor:
        """Open the bundle of a run.

        Args:
            engine: torch, onnx or openvino.
            precision: fp32, bf16 or int8, as far as the engine has it.

        Raises:
            RequestError: there is none, or no such engine here.
            WeightsError: it cannot be used, or its backbone is another one here.
        """
        bundle = Bundle.load(folder)
        opened = open_engine(bundle, Kind(engine, precision), device)
        return cls(bundle, Model(opened.run, opened.contract, bundle.classes, bundle.confidence))

    def predict(
        self,
        chips: Pixels | Sequence[Pixels] | Path | str | Sequence[Path | str],
        *,
        unit: str | None = None,
        bands: Sequence[str] | None = None,
        batch_size: int = 32,
    ) -> pd.DataFrame:
        """Classify chips: arrays (H, W), (H, W, B), (N, H, W, B) or a list of them; files, folders, globs or a store.

        Returns:
            A row a chip, in the order given (files: sorted by path): chip (number or name), for files path and
            geometry; class, probability, class_2, probability_2, p_<class> of every class; set, ood and ood_distance
            where the bundle is calibrated; length_m where pixels tell. A chip that cannot be used has the reason in
            `refused`, which is None otherwise, and nothing else.

        Raises:
            RequestError: no such file, no chip, or an array of another shape.
        """
        declared = Declared(unit, tuple(bands) if bands else None)
        source = self._source(chips, declared)
        tables = []
        for ready in read_ahead(lambda batch: read_batch(batch, self.model.contract), batches([source], batch_size), 1):
            outputs = self.model.engine(ready.inputs) if ready.numbers else None
            rows = rows_of(ready, outputs, self.model).rows
            told = [{"chip": source.name(number), "refused": reason} for number, reason in ready.refused]
            tables += [rows.assign(refused=None, number=ready.numbers)] if ready.numbers else []
            tables += [pd.DataFrame(told).assign(number=[number for number, _ in ready.refused])] if told else []
        return pd.concat(tables).sort_values("number", ignore_index=True).drop(columns="number")

    def _source(self, chips: Any, declared: Declared) -> LooseChips | _Arrays:
        given = [chips] if isinstance(chips, str | Path) else chips
        if not all(isinstance(each, str | Path) for each in given) or not len(given):
            return _Arrays(_arrays(given), self.model, declared)
        found = find_chips([Path(path) for path in given])
        known = {path: declared.or_else(found.declared.get(path, NOTHING)) for path in found.chips}
        return LooseChips(known, self.model.contract, Wishes())


class _Arrays:
    """Chips in memory as a source."""

    def __init__(self, arrays: Sequence[Pixels], model: Model, declared: Declared) -> None:
        self.arrays, self.contract, self.declared = arrays, model.contract, declared

    def __len__(self) -> int:
        return len(self.arrays)

    def read(self, number: int) -> Chip:
        pixels = self.arrays[number]
        pixels, grey = one_band(self.contract.arrange(pixels, self.declared.bands), self.contract)
        return Chip(pixels, self.declared.unit, None, {"chip": number}, grey)

    def name(self, number: int) -> int:
        return number

    def where(self, number: int) -> tuple[str, int]:
        return f"array {number}", 0

    def close(self) -> None:
        pass


def _arrays(chips: Any) -> list[Pixels]:
    whole = isinstance(chips, np.ndarray)
    found = list(chips) if whole and chips.ndim == 4 else [chips] if whole else list(chips)
    wrong = [each.shape for each in found if each.ndim not in (2, 3) or not each.size]
    if wrong or not found:
        raise RequestError(f"an array of shape {(wrong or ['none'])[0]}", fix="give (H, W), (H, W, B) or (N, H, W, B)")
    return [each[:, :, None] if each.ndim == 2 else each for each in found]
