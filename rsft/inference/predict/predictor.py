"""Classify arrays, files or windows of a raster from Python."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import numpy as np
import pandas as pd

from rsft.errors import DataError, RequestError
from rsft.inference.engines.base import LoadedEngine
from rsft.inference.predict.chip_arrays import Channels, ChipArrays
from rsft.inference.predict.chip_files import ChipSource, open_chips
from rsft.inference.predict.engine import load_engine
from rsft.inference.predict.occlusion import occlusion_maps
from rsft.inference.predict.pipeline import (
    PreparedBatch,
    batch_result,
    make_batches,
    prefetch,
    prepare_batch,
)
from rsft.inference.predict.python_words import name_arguments, python_words
from rsft.inference.predict.result_table import (
    check_logits,
    classify,
    describe_unnamed_chips,
)
from rsft.inference.predict.scene_check import check_scenes, describe_checks
from rsft.inference.writers.columns import classified_names
from rsft.models.bundle.bundle import Bundle
from rsft.models.outputs import ClassifierOutputs
from rsft.scenes.inputs import find_chips
from rsft.scenes.options import ChipOptions, ChipSize, Declaration
from rsft.types import Floats, Reals

if TYPE_CHECKING:
    from torch import nn

_BATCH = 32  # chips


class PixelOptions(TypedDict, total=False):
    """What the pixels of chips are, if arrays and files do not tell it.

    Attributes:
        unit: unit of the pixels, such as "sigma0". Whole numbers of any type may be
            declared as "uint8" or "uint16".
        bands: names of the bands, in their order.
        channels: "first" or "last": the axis of the bands, if two axes may be it.
        windows: windows of rasterio in a dataset or file, one chip each.
        spacing: pixel spacing in meters.
        resample_to: pixel spacing in meters to which chips are resampled.
        size: side in pixels of a chip in files, which tells a chip from a scene.
    """

    unit: str | None
    bands: Sequence[str] | None
    channels: Channels | None
    windows: Any
    spacing: float | None
    resample_to: float | None
    size: int | None


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
        with python_words():
            bundle = Bundle.load(folder)
            return cls(bundle, load_engine(bundle, folder, engine, precision, device))

    def __repr__(self) -> str:
        bundle = self.bundle
        count = len(bundle.classes)
        return f"Predictor({bundle.recipe.name}, {count} classes, {self.engine.spec})"

    def predict(
        self, chips: Any, *, batch_size: int = _BATCH, **pixels: Unpack[PixelOptions]
    ) -> pd.DataFrame:
        """Classify chips in arrays, in files, or in windows of a raster.

        The axis of an array that has the length of the model's bands is that of the
        bands. A model of one band also takes several gray chips (N, H, W).

        Args:
            chips: an array of NumPy or a tensor (H, W), (H, W, B), (B, H, W), (N, H, W,
                B) or (N, B, H, W), or a list of arrays with one chip each; a file,
                folder, glob or chip store, or a list of them; or an open dataset of
                rasterio.
            batch_size: number of chips in a batch.
            **pixels: what the pixels are, see `PixelOptions`.

        Returns:
            One row per chip, in the order given (files: sorted by path). Columns: chip
            (number or file name); path and geometry (EPSG:4326) for files and windows;
            class, probability, class_2, probability_2, and p_<class> of every class;
            class_set, ood and ood_distance if the bundle is calibrated; length_m if it
            can be measured. For a chip that cannot be classified, `rejected` is the
            reason and all other columns are empty. For other chips, `rejected` is None.
            `attrs["notes"]` says in sentences whether an order of the bands was
            assumed, and whether the chips are like the training and validation chips.

        Raises:
            RequestError: a file does not exist, no chips are found, or the bands of an
                array are on no axis or may be on two.
            DataError: `bands` contradicts the names in a chip store or raster.

        Example:
            >>> predictor = Predictor.load(Path("runs/ships"))
            >>> generator = np.random.default_rng(0)
            >>> chips = generator.integers(0, 255, (2, 64, 64, 1), "uint8")
            >>> table = predictor.predict(chips)
            >>> list(table["chip"])
            [0, 1]
            >>> table.equals(predictor.predict(chips.transpose(0, 3, 1, 2)))
            True
        """
        with python_words():
            return self._classify(self._open(chips, **pixels), batch_size)

    def logits(self, chips: Any, **pixels: Unpack[PixelOptions]) -> Reals:
        """Return the logits (N, C) of chips.

        With test-time views, they are the logarithms of the mean probabilities.

        Args:
            chips: chips as in `predict`.
            **pixels: as in `predict`.

        Raises:
            DataError: a chip cannot be classified.
            RequestError: as in `predict`.

        Example:
            >>> chips = np.arange(2 * 64 * 64, dtype="uint16").reshape(2, 64, 64)
            >>> Predictor.load(Path("runs/ships")).logits(chips).shape
            (2, 3)
        """
        return self._compute(chips, pixels).logits

    def features(self, chips: Any, **pixels: Unpack[PixelOptions]) -> Reals:
        """Return the pooled features (N, D) of chips, as vectors for other programs.

        Args:
            chips: chips as in `predict`.
            **pixels: as in `predict`.

        Raises:
            DataError: a chip cannot be classified.
            RequestError: as in `predict`.

        Example:
            >>> Predictor.load(Path("runs/ships")).features("new_chips").shape
            (27, 192)
        """
        return self._compute(chips, pixels).features

    def probabilities(self, chips: Any, **pixels: Unpack[PixelOptions]) -> Reals:
        """Return the probabilities (N, C) of chips, calibrated if the bundle is.

        Args:
            chips: chips as in `predict`, whose columns p_<class> have these values.
            **pixels: as in `predict`.

        Raises:
            DataError: a chip cannot be classified.
            RequestError: as in `predict`.

        Example:
            >>> predictor = Predictor.load(Path("runs/ships"))
            >>> predictor.probabilities("new_chips").shape
            (27, 3)
        """
        outputs = self._compute(chips, pixels)
        bundle = self.bundle
        return classify(outputs, bundle.classes, bundle.calibrator).probabilities

    def explain(
        self, chips: Any, *, cells: int = 8, **pixels: Unpack[PixelOptions]
    ) -> Floats:
        """Return how much each cell of a chip speaks for its class, by occlusion.

        A cell is replaced by the mean of the network's input. Its value is the loss of
        the logit of the predicted class, less that of the mean of all logits; it is
        negative where the class gains. Zeiler and Fergus 2014,
        doi 10.1007/978-3-319-10590-1_53, section 4.2.

        Args:
            chips: chips as in `predict`.
            cells: number of cells along a side of the network's input.
            **pixels: as in `predict`.

        Returns:
            Values (N, cells, cells), which lie over the input: the middle of the chip,
            if the bundle crops it.

        Raises:
            DataError: a chip cannot be classified.
            RequestError: as in `predict`, or more cells than pixels.

        Example:
            >>> Predictor.load(Path("runs/ships")).explain("new_chips", cells=2).shape
            (27, 2, 2)
        """
        side = self.engine.contract.size
        if not 0 < cells <= side:
            raise RequestError(
                f"{cells} cells along {side} pixels", "cells", f"give 1 to {side}"
            )
        maps = []
        with python_words():
            for prepared in self._prepare(
                self._open(chips, **pixels), _BATCH, as_floats=True
            ):
                refuse_rejected(prepared)
                maps.append(occlusion_maps(self.engine.infer, prepared.inputs, cells))
        return np.concatenate(maps)

    def module(self, unit: str | None = None) -> nn.Module:
        """Return the network as a module of PyTorch, with the transforms of its chips.

        Its input are pixels (N, B, H, W) of square chips, with the bands that the model
        uses and in a unit, as a tensor of any type and device. Its output are the
        logits of `logits`. `module.transforms` alone returns the inputs of
        `module.network`.

        Args:
            unit: unit of the pixels; None takes the first one of the bundle.

        Returns:
            The module in evaluation mode on the CPU. The gradient reaches its
            parameters, but no pixels, which the transforms round to bytes.

        Raises:
            RequestError: the transforms take the maximum of each chip.
            DataError: the bundle does not accept the unit.

        Example:
            >>> import torch
            >>> module = Predictor.load(Path("runs/ships")).module()
            >>> module(torch.rand(2, 1, 64, 64) * 1000).shape
            torch.Size([2, 3])
        """
        from rsft.inference.predict.chip_module import make_module

        with python_words():
            return make_module(self.bundle, unit)

    def _classify(self, source: ChipSource, batch_size: int) -> pd.DataFrame:
        """Return the table of `predict` for the chips of a source, in its order."""
        bundle = self.bundle
        tables = []
        unnamed = 0
        for prepared in self._prepare(source, batch_size):
            if prepared.numbers:
                outputs = self.engine.infer(prepared.inputs)
                rows = batch_result(prepared, outputs, bundle).rows
                tables.append(rows.assign(rejected=None, number=prepared.numbers))
                unnamed += prepared.counts["unnamed"]
            for number, reason in left_out(prepared):
                row = {"chip": source.chip_name(number), "number": number}
                row["rejected"] = name_arguments(reason)
                tables.append(pd.DataFrame([row]))
        table = pd.concat(tables).sort_values("number", ignore_index=True)
        table = table.drop(columns="number")
        if "class" not in table:  # no chip could be classified
            names = classified_names(bundle.classes, bundle.calibrator is not None)
            table = table.reindex(columns=[*table, *names])
        table, checks = check_scenes(table, bundle.calibrator, bundle.classes)
        notes = describe_unnamed_chips(unnamed, self.engine.contract)
        notes += describe_checks(checks)
        table.attrs["notes"] = list(map(name_arguments, notes))
        return table

    def _open(
        self,
        chips: Any,
        *,
        unit: str | None = None,
        bands: Sequence[str] | None = None,
        channels: Channels | None = None,
        windows: Any = None,
        spacing: float | None = None,
        resample_to: float | None = None,
        size: int | None = None,
    ) -> ChipSource:
        """Return the source of chips; arguments as in `predict`."""
        declaration = Declaration(unit, tuple(bands) if bands else None)
        chip_size = None if size is None else ChipSize(size)
        options = ChipOptions(chip_size, resample_to, spacing)
        contract = self.engine.contract
        names = path_names(chips)
        if windows is not None:
            from rsft.inference.predict.chip_windows import open_raster_windows

            if len(names) != 1:
                raise RequestError(
                    "windows are read from one raster",
                    "windows",
                    "give a dataset or a file",
                )
            return open_raster_windows(
                names[0], windows, contract, declaration, options
            )
        if names:
            files, _ = find_chips(names, declaration)
            return open_chips(files, contract, options)
        return ChipArrays(chips, contract, declaration, options, channels)

    def _prepare(
        self, source: ChipSource, batch_size: int, *, as_floats: bool = False
    ) -> Generator[PreparedBatch]:
        """Yield the batches of a source, which are read ahead.

        `as_floats` normalizes the inputs, also for an engine that takes bytes.
        """
        prepare = partial(
            prepare_batch,
            contract=self.engine.contract,
            make_inputs=None if as_floats else self.engine.make_inputs,
        )
        if not len(source):
            raise RequestError("no chips", "chips", "give one chip or more")
        return prefetch(prepare, make_batches([source], batch_size), 1)

    def _compute(self, chips: Any, pixels: PixelOptions) -> ClassifierOutputs:
        """Return logits and features of chips, which all can be classified."""
        outputs = []
        with python_words():
            for prepared in self._prepare(self._open(chips, **pixels), _BATCH):
                refuse_rejected(prepared)
                outputs.append(self.engine.infer(prepared.inputs))
                check_logits(outputs[-1])
        return ClassifierOutputs(*map(np.concatenate, zip(*outputs, strict=True)))


def refuse_rejected(prepared: PreparedBatch) -> None:
    """Raise an error if a chip of a batch cannot be classified.

    Raises:
        DataError: the first one.
    """
    for number, reason in left_out(prepared):
        name = prepared.batch.source.chip_name(number)
        raise DataError(
            f"chip {name}: {reason}",
            "chips",
            "leave it out; `predict` returns a row with the reason for such chips",
        )


def left_out(prepared: PreparedBatch) -> Iterator[tuple[int, str]]:
    """Yield number and reason of each chip of a batch that cannot be classified."""
    reasons = dict(prepared.rejected)
    for number in prepared.batch.chips:
        if number not in prepared.numbers:
            yield number, reasons.get(number, "the window has no data")


def path_names(chips: Any, argument: str = "") -> list[str]:
    """Return the names of files, folders and open datasets of rasterio.

    Args:
        chips: one of them, a list, or anything else.
        argument: the argument that must name some.

    Returns:
        The names; none for arrays.

    Raises:
        RequestError: there is none, but the argument must name some.
    """
    items = chips if isinstance(chips, list | tuple) else [chips]
    names = []
    for item in items:
        if isinstance(item, str | Path):
            names.append(str(item))
        elif type(item).__module__.startswith("rasterio."):
            names.append(_dataset_path(item))
    if len(names) == len(items):
        return names
    if argument:
        raise RequestError(
            f"{type(items[0]).__name__} is no {argument}",
            argument,
            "give a path, an open dataset of rasterio, or a list",
        )
    return []


def _dataset_path(dataset: Any) -> str:
    """Return the path of an open dataset, which is read like any other file.

    Raises:
        RequestError: it has none.
    """
    name = str(dataset.name)
    if name.startswith(("/vsimem/", "WarpedVRT(")):
        raise RequestError(
            "the dataset has no file",
            name,
            "give its arrays: dataset.read(window=window)",
        )
    return name
