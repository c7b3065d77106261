"""Classify arrays or files with a bundle from Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rsft.errors import RequestError
from rsft.inference.engines.base import EngineSpec
from rsft.inference.inputs.chip_files import ChipFiles, SourceChip, collapse_gray_rgb
from rsft.inference.inputs.discovery import Declaration, find_chips
from rsft.inference.predict.pipeline import (
    ChipClassifier,
    batch_result,
    make_batches,
    prefetch,
    prepare_batch,
    result_columns,
)
from rsft.inference.predict.scene_checks import check_scenes, describe_checks
from rsft.inference.scenes.chip_window import ChipOptions
from rsft.inference.selection.fastest import load_engine
from rsft.models.bundle.bundle import Bundle
from rsft.types import Pixels


@dataclass(frozen=True)
class Predictor:
    """A bundle that is ready to classify, as `rsft.load_bundle` returns it.

    Attributes:
        bundle: classes, contract, recipe and hash.
        model: the engine, with the contract and the classes.
    """

    bundle: Bundle
    model: ChipClassifier

    @classmethod
    def load(cls, folder: Path, device: str = "auto", engine: str = "torch", precision: str = "fp32") -> Predictor:
        """Load the bundle of a run.

        Args:
            folder: a bundle, a run, or a folder of runs.
            device: "auto", "cpu" or "cuda".
            engine: name of an engine, such as "torch", "onnx" or "openvino".
            precision: "fp32", "bf16" or "int8"; not every engine supports all of them.

        Returns:
            The predictor.

        Raises:
            RequestError: the folder has no bundle, or the engine is not available.
            WeightsError: the bundle cannot be used, or the backbone is not the one it was trained on.
        """
        bundle = Bundle.load(folder)
        loaded = load_engine(bundle, EngineSpec(engine, precision), device)
        return cls(bundle, ChipClassifier(loaded.infer, loaded.contract, bundle.classes, bundle.calibrator))

    def predict(
        self,
        chips: Pixels | Sequence[Pixels] | Path | str | Sequence[Path | str],
        *,
        unit: str | None = None,
        bands: Sequence[str] | None = None,
        batch_size: int = 32,
    ) -> pd.DataFrame:
        """Classify chips in arrays or in files.

        Args:
            chips: an array (H, W), (H, W, B) or (N, H, W, B), or a list of arrays (H, W) and (H, W, B); or files,
                folders, globs or chip stores.
            unit: unit of the pixels, such as "sigma0", if the files do not name it.
            bands: names of the bands, if the files do not name them.
            batch_size: number of chips in a batch.

        Returns:
            One row per chip, in the order given (files: sorted by path). Columns: chip (number or file name); path and
            geometry for files; class, probability, class_2, probability_2, and p_<class> of every class; class_set, ood
            and ood_distance if the bundle is calibrated; length_m if it can be measured. For a chip that cannot be
            classified, `rejected` is the reason and all other columns are empty. For other chips, `rejected` is None.
            `attrs["notes"]` says in sentences whether the chips are like the training and validation chips.

        Raises:
            RequestError: a file does not exist, no chips are found, or an array has a wrong shape.
            DataError: `bands` contradicts the names in a chip store.

        Example:
            >>> predictor = Predictor.load(Path("runs/ships"))
            >>> chips = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 1), "uint8")
            >>> list(predictor.predict(chips)["chip"])
            [0, 1]
        """
        return self.predict_source(self._source(chips, Declaration(unit, tuple(bands) if bands else None)), batch_size)

    def predict_source(self, source: ChipFiles | _ChipArrays, batch_size: int = 32) -> pd.DataFrame:
        """Classify the chips of a source.

        Args:
            source: the chips.
            batch_size: number of chips in a batch.

        Returns:
            The table of `predict`.
        """
        batches = make_batches([source], batch_size)
        tables = []
        for prepared in prefetch(lambda batch: prepare_batch(batch, self.model.contract), batches, 1):
            if prepared.numbers:
                rows = batch_result(prepared, self.model.engine(prepared.inputs), self.model).rows
                tables.append(rows.assign(rejected=None, number=prepared.numbers))
            if prepared.rejected:
                rejected = [
                    {"chip": source.name(number), "rejected": reason, "number": number}
                    for number, reason in prepared.rejected
                ]
                tables.append(pd.DataFrame(rejected))
        table = pd.concat(tables).sort_values("number", ignore_index=True).drop(columns="number")
        if "class" not in table:  # no chip could be classified
            table = table.reindex(columns=[*table, *result_columns(self.model.classes, self.model.calibrator)])
        table, checks = check_scenes(table, self.model.calibrator, self.model.classes)
        table.attrs["notes"] = describe_checks(checks)
        return table

    def _source(self, chips: Any, declaration: Declaration) -> ChipFiles | _ChipArrays:
        items = [chips] if isinstance(chips, str | Path) else chips
        if not len(items) or not all(isinstance(item, str | Path) for item in items):
            return _ChipArrays(_split_arrays(items), self.model, declaration)
        listing = find_chips([Path(path) for path in items])
        return ChipFiles(listing.declare(declaration), self.model.contract, ChipOptions())


class _ChipArrays:
    """A source of chips in memory."""

    def __init__(self, arrays: Sequence[Pixels], model: ChipClassifier, declaration: Declaration) -> None:
        self.arrays, self.contract, self.declaration = arrays, model.contract, declaration

    def __len__(self) -> int:
        return len(self.arrays)

    def read(self, number: int) -> SourceChip:
        pixels = self.contract.select_bands(self.arrays[number], self.declaration.bands)
        pixels, is_gray = collapse_gray_rgb(pixels, self.contract)
        return SourceChip(pixels, self.declaration.unit, None, {"chip": number}, is_gray)

    def name(self, number: int) -> int:
        return number

    def location_of(self, number: int) -> tuple[str, int]:
        return f"array {number}", 0

    def close(self) -> None:
        pass


def _split_arrays(chips: Any) -> list[Pixels]:
    """Return one array (H, W, B) per chip."""
    is_array = isinstance(chips, np.ndarray)
    arrays = [chips] if is_array and chips.ndim != 4 else list(chips)
    wrong_shapes = [array.shape for array in arrays if array.ndim not in (2, 3) or not array.size]
    if wrong_shapes or not arrays:
        shape = wrong_shapes[0] if wrong_shapes else "none"
        raise RequestError(
            f"an array of shape {shape} does not contain chips", hint="give (H, W), (H, W, B) or (N, H, W, B)"
        )
    return [array[:, :, None] if array.ndim == 2 else array for array in arrays]
