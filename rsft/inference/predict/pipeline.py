"""Read, prepare, classify and record batches of chips, and classify arrays or files from Python.

Background threads read ahead.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rsft.data.imagery.contract import Contract
from rsft.errors import DataError, RequestError
from rsft.inference.engines.base import CPU_BATCH_SIZE, EngineSpec
from rsft.inference.engines.graph import LoadedEngine
from rsft.inference.predict import chip_files
from rsft.inference.predict.lengths import measure_length
from rsft.inference.predict.result_table import (
    check_scenes,
    describe_checks,
    describe_unnamed_chips,
    predictions_table,
    probability_columns,
)
from rsft.inference.predict.resume_journal import BatchResult
from rsft.models.bundle.bundle import Bundle
from rsft.models.outputs import ClassifierOutputs
from rsft.scenes.options import ChipOptions, Declaration
from rsft.types import Bytes, Pixels

THUMBNAIL_SIDE = 96
"""Side in pixels of a chip's thumbnail on the review page."""

_In = TypeVar("_In")
_Out = TypeVar("_Out")


class ChipBatch(NamedTuple):
    """Consecutive chips of one source.

    Attributes:
        number: number of the batch in the job, from 0.
        source: source of the chips.
        chips: numbers of the chips in the source.
    """

    number: int
    source: chip_files.ChipSource
    chips: range


class PreparedBatch(NamedTuple):
    """A batch whose chips were read and turned into network inputs.

    Attributes:
        batch: the batch.
        numbers: numbers (in the source) of the chips that can be classified.
        inputs: network inputs of those chips (n, P, S, S).
        columns: table columns of those chips, such as `chip` and `geometry`.
        rejected: number (in the source) and reason for every chip that cannot be
            classified.
        counts: see `BatchResult`.
    """

    batch: ChipBatch
    numbers: list[int]
    inputs: NDArray[np.float32]
    columns: list[dict[str, Any]]
    rejected: list[tuple[int, str]]
    counts: Counter[str]


def make_batches(
    sources: Sequence[chip_files.ChipSource], size: int
) -> list[ChipBatch]:
    """Split the chips of all sources into batches of `size` chips of one source, numbered from 0.

    Batches depend only on the sources and on `size`, so that a resumed job finds the
    same batches under the same numbers.
    """
    ranges = [
        (source, range(start, min(start + size, len(source))))
        for source in sources
        for start in range(0, len(source), size)
    ]
    return [
        ChipBatch(number, source, chips)
        for number, (source, chips) in enumerate(ranges)
    ]


def prefetch(
    function: Callable[[_In], _Out],
    items: Iterable[_In],
    workers: int,
    ahead: int | None = None,
) -> Generator[_Out]:
    """Call `function` on every item in background threads, and yield the results in order.

    Args:
        function: called from several threads.
        items: the arguments of the calls.
        workers: number of threads.
        ahead: largest number of results that are computed or pending before they are
            needed (default: `workers` + 1).

    Yields:
        The results, in the order of the items.
    """
    ahead = workers + 1 if ahead is None else ahead
    pending: deque[Future[_Out]] = deque()
    pool = ThreadPoolExecutor(workers, "reader")
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def prepare_batch(
    batch: ChipBatch, contract: Contract, thumbnails: bool = False
) -> PreparedBatch:
    """Read the chips of a batch and turn them into network inputs.

    A chip that cannot be used is rejected.

    Args:
        batch: the chips to read.
        contract: turns chips into network inputs.
        thumbnails: whether to add a JPEG of every chip to the columns, as `thumb`.

    Returns:
        The batch with its network inputs, and with the table columns that do not come
        from the network.
    """
    numbers = []
    images = []
    columns = []
    rejected = []
    counts = Counter[str]()
    for number in batch.chips:
        try:
            chip = batch.source.read(number)
            image = contract.to_image(chip.pixels, chip.unit)
        except chip_files.NoDataError:
            counts["empty"] += 1
            continue
        except DataError as error:
            rejected.append(
                (
                    number,
                    f"{error.message}; {error.hint}" if error.hint else error.message,
                )
            )
            continue
        counts.update(
            gray=chip.is_gray,
            clipped=chip.clipped,
            values=chip.values,
            unnamed=chip.is_unnamed,
        )
        numbers.append(number)
        images.append(image)
        if thumbnails:
            thumbnail = {"thumb": encode_thumbnail(image)}
        else:
            thumbnail = {}
        columns.append(chip.columns | measure_length(chip, contract) | thumbnail)
    return PreparedBatch(
        batch, numbers, contract.normalize(images), columns, rejected, counts
    )


def read_sample(
    batches: Sequence[ChipBatch], contract: Contract
) -> NDArray[np.float32] | None:
    """Read the first chips of a job, on which engines are compared.

    Returns:
        Network inputs (n, P, S, S) of the first batch with a usable chip; None if no
        chip is usable.
    """
    for batch in batches:
        prepared = prepare_batch(
            batch._replace(chips=batch.chips[:CPU_BATCH_SIZE]), contract
        )
        if prepared.numbers:
            return prepared.inputs
    return None


def batch_result(
    prepared: PreparedBatch, outputs: ClassifierOutputs | None, bundle: Bundle
) -> BatchResult:
    """Combine the columns of a batch with the outputs of the network, which are None if no chip could be classified."""
    rows = pd.DataFrame()
    if outputs is not None:
        predictions = predictions_table(outputs, bundle.classes, bundle.calibrator)
        rows = pd.concat([pd.DataFrame(prepared.columns), predictions], axis=1)
    source = prepared.batch.source
    rejected = [
        (*source.location_of(number), reason) for number, reason in prepared.rejected
    ]
    return BatchResult(rows, rejected, prepared.counts)


def encode_thumbnail(image: Bytes) -> bytes:
    """Encode a network input (S, S, P) before normalization as a JPEG with the side `THUMBNAIL_SIDE`.

    The picture shows three planes, or only the first one if there are fewer than three.
    """
    planes = image[:, :, :3] if image.shape[2] >= 3 else image[:, :, 0]
    small = cv2.resize(
        planes, (THUMBNAIL_SIDE, THUMBNAIL_SIDE), interpolation=cv2.INTER_AREA
    )
    bgr = small[:, :, ::-1] if small.ndim == 3 else small  # OpenCV expects B, G, R
    return bytes(
        cv2.imencode(".jpg", np.ascontiguousarray(bgr), [cv2.IMWRITE_JPEG_QUALITY, 80])[
            1
        ]
    )


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
        from rsft.inference.selection.fastest import (
            load_engine,
        )  # PyTorch, which `rsft predict` can do without

        bundle = Bundle.load(folder)
        return cls(bundle, load_engine(bundle, EngineSpec(engine, precision), device))

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
            >>> chips = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 1), "uint8")
            >>> list(predictor.predict(chips)["chip"])
            [0, 1]
        """
        declaration = Declaration(unit, tuple(bands) if bands else None)
        items: Any = [chips] if isinstance(chips, str | Path) else chips
        if not len(items) or not all(isinstance(item, str | Path) for item in items):
            return self.predict_source(
                _ChipArrays(items, self.engine.contract, declaration), batch_size
            )
        files, _ = chip_files.find_chips([Path(path) for path in items], declaration)
        return self.predict_source(
            chip_files.ChipFiles(files, self.engine.contract, ChipOptions()), batch_size
        )

    def predict_source(
        self, source: chip_files.ChipFiles | _ChipArrays, batch_size: int = 32
    ) -> pd.DataFrame:
        """Return the table of `predict` for the chips of a source, in the order of the source."""
        contract = self.engine.contract
        bundle = self.bundle
        tables = []
        unnamed = 0
        for prepared in prefetch(
            lambda batch: prepare_batch(batch, contract),
            make_batches([source], batch_size),
            1,
        ):
            if prepared.numbers:
                result = batch_result(
                    prepared, self.engine.infer(prepared.inputs), bundle
                )
                tables.append(
                    result.rows.assign(rejected=None, number=prepared.numbers)
                )
                unnamed += result.counts["unnamed"]
            if prepared.rejected:
                rows = [
                    {"chip": source.name(x), "rejected": reason, "number": x}
                    for x, reason in prepared.rejected
                ]
                tables.append(pd.DataFrame(rows))
        table = (
            pd.concat(tables)
            .sort_values("number", ignore_index=True)
            .drop(columns="number")
        )
        if "class" not in table:  # no chip could be classified
            best = [
                "class",
                "probability",
                *(("class_2", "probability_2") if len(bundle.classes) > 1 else ()),
            ]
            if bundle.calibrator is None:
                calibrated = []
            else:
                calibrated = ["class_set", "ood", "ood_distance"]
            columns = [*table, *best, *calibrated, *probability_columns(bundle.classes)]
            table = table.reindex(columns=columns)
        table, checks = check_scenes(table, bundle.calibrator, bundle.classes)
        notes = describe_checks(checks)
        table.attrs["notes"] = [*describe_unnamed_chips(unnamed, contract), *notes]
        return table


class _ChipArrays(chip_files.ChipSource):
    """A source of chips in memory: an array (H, W), (H, W, B) or (N, H, W, B), or a list of arrays."""

    def __init__(
        self, chips: Any, contract: Contract, declaration: Declaration
    ) -> None:
        if isinstance(chips, np.ndarray) and chips.ndim != 4:
            arrays = [chips]
        else:
            arrays = list(chips)
        wrong_shapes = [
            array.shape
            for array in arrays
            if array.ndim not in (2, 3) or not array.size
        ]
        if wrong_shapes or not arrays:
            raise RequestError(
                (
                    f"an array of shape {wrong_shapes[0] if wrong_shapes else 'none'} does"
                    " not contain chips"
                ),
                hint="give (H, W), (H, W, B) or (N, H, W, B)",
            )
        self.arrays = [
            array[:, :, None] if array.ndim == 2 else array for array in arrays
        ]
        self.contract = contract
        self.declaration = declaration

    def __len__(self) -> int:
        return len(self.arrays)

    def read(self, number: int) -> chip_files.SourceChip:
        array = self.arrays[number]
        names = self.declaration.bands
        is_unnamed = bool(self.contract.assumed_bands(array.shape[2], names))
        pixels, is_gray = chip_files.collapse_gray_rgb(
            self.contract.select_bands(array, names), self.contract
        )
        columns = {"chip": number}
        return chip_files.SourceChip(
            pixels, self.declaration.unit, None, columns, is_gray, is_unnamed=is_unnamed
        )

    def name(self, number: int) -> int:
        return number

    def location_of(self, number: int) -> tuple[str, int]:
        return f"array {number}", 0
