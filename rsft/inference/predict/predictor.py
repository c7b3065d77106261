"""Classify arrays or files from Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rsft.data.imagery.contract import Contract
from rsft.errors import RequestError
from rsft.inference.engines.base import LoadedEngine
from rsft.inference.predict.chip_files import (
    ChipSource,
    SourceChip,
    collapse_gray_rgb,
    open_chips,
)
from rsft.inference.predict.engine import load_engine
from rsft.inference.predict.pipeline import (
    batch_result,
    make_batches,
    prefetch,
    prepare_batch,
)
from rsft.inference.predict.result_table import describe_unnamed_chips
from rsft.inference.predict.scene_check import check_scenes, describe_checks
from rsft.inference.writers.columns import classified_names
from rsft.models.bundle.bundle import Bundle
from rsft.scenes.inputs import find_chips
from rsft.scenes.options import ChipOptions, Declaration
from rsft.types import Pixels


@dataclass(frozen=True)
class Predictor:
    """A bundle that is ready to classify, as `rsft.load_bundle` returns it."""

    bundle: Bundle
    engine: LoadedEngine

    @classmethod
    def load(
        cls,
        folder: Path,
        device: str = "auto",
        engine: str = "torch",
        precision: str = "fp32",
    ) -> Predictor:
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
            WeightsError: the bundle cannot be used, or the backbone is not the one it
                was trained on.
        """
        bundle = Bundle.load(folder)
        return cls(bundle, load_engine(bundle, folder, engine, precision, device))

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
            chips: an array (H, W), (H, W, B) or (N, H, W, B), or a list of arrays (H,
                W) and (H, W, B); or files, folders, globs or chip stores.
            unit: unit of the pixels, such as "sigma0", if the files do not name it.
            bands: names of the bands, if the files do not name them.
            batch_size: number of chips in a batch.

        Returns:
            One row per chip, in the order given (files: sorted by path). Columns: chip
            (number or file name); path and geometry for files; class, probability,
            class_2, probability_2, and p_<class> of every class; class_set, ood and
            ood_distance if the bundle is calibrated; length_m if it can be measured.
            For a chip that cannot be classified, `rejected` is the reason and all other
            columns are empty. For other chips, `rejected` is None. `attrs["notes"]`
            says in sentences whether an order of the bands was assumed, and whether the
            chips are like the training and validation chips.

        Raises:
            RequestError: a file does not exist, no chips are found, or an array has a
                wrong shape.
            DataError: `bands` contradicts the names in a chip store.

        Example:
            >>> predictor = Predictor.load(Path("runs/ships"))
            >>> generator = np.random.default_rng(0)
            >>> chips = generator.integers(0, 255, (2, 64, 64, 1), "uint8")
            >>> list(predictor.predict(chips)["chip"])
            [0, 1]
        """
        declaration = Declaration(unit, tuple(bands) if bands else None)
        contract = self.engine.contract
        items: Any = [chips] if isinstance(chips, str | Path) else chips
        if len(items) and all(isinstance(item, str | Path) for item in items):
            files, _ = find_chips([Path(path) for path in items], declaration)
            source = open_chips(files, contract, ChipOptions())
            return self.predict_source(source, batch_size)
        arrays = _ChipArrays(items, contract, declaration)
        return self.predict_source(arrays, batch_size)

    def predict_source(self, source: ChipSource, batch_size: int = 32) -> pd.DataFrame:
        """Return the table of `predict` for the chips of a source, in its order."""
        contract = self.engine.contract
        bundle = self.bundle
        prepare = partial(prepare_batch, contract=contract)
        tables = []
        unnamed = 0
        for prepared in prefetch(prepare, make_batches([source], batch_size), 1):
            if prepared.numbers:
                outputs = self.engine.infer(prepared.inputs)
                rows = batch_result(prepared, outputs, bundle).rows
                tables.append(rows.assign(rejected=None, number=prepared.numbers))
                unnamed += prepared.counts["unnamed"]
            for number, reason in prepared.rejected:
                row = {"chip": source.chip_name(number), "rejected": reason}
                tables.append(pd.DataFrame([row | {"number": number}]))
        table = pd.concat(tables).sort_values("number", ignore_index=True)
        table = table.drop(columns="number")
        if "class" not in table:  # no chip could be classified
            is_calibrated = bundle.calibrator is not None
            names = classified_names(bundle.classes, is_calibrated)
            table = table.reindex(columns=[*table, *names])
        table, checks = check_scenes(table, bundle.calibrator, bundle.classes)
        notes = describe_unnamed_chips(unnamed, contract)
        table.attrs["notes"] = notes + describe_checks(checks)
        return table


class _ChipArrays(ChipSource):
    """A source of chips in memory.

    They are an array (H, W), (H, W, B) or (N, H, W, B), or a list of arrays.
    """

    def __init__(
        self, chips: Any, contract: Contract, declaration: Declaration
    ) -> None:
        is_one = isinstance(chips, np.ndarray) and chips.ndim != 4
        arrays = [chips] if is_one else list(chips)
        shapes = [
            array.shape
            for array in arrays
            if array.ndim not in (2, 3) or not array.size
        ]
        if shapes or not arrays:
            shape = shapes[0] if shapes else "none"
            raise RequestError(
                f"an array of shape {shape} does not contain chips",
                hint="give (H, W), (H, W, B) or (N, H, W, B)",
            )
        self.arrays = [np.atleast_3d(array) for array in arrays]
        self.contract = contract
        self.declaration = declaration

    def __len__(self) -> int:
        return len(self.arrays)

    def read(self, number: int) -> SourceChip:
        array = self.arrays[number]
        names = self.declaration.bands
        is_unnamed = bool(self.contract.assumed_bands(array.shape[2], names))
        selected = self.contract.select_bands(array, names)
        pixels, is_gray = collapse_gray_rgb(selected, self.contract)
        columns = {"chip": number}
        counts = {"gray": int(is_gray), "unnamed": int(is_unnamed)}
        return SourceChip(pixels, self.declaration.unit, None, columns, counts)

    def chip_name(self, number: int) -> int:
        return number

    def location_of(self, number: int) -> tuple[str, int]:
        return f"array {number}", 0
