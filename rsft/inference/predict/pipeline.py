"""Read, prepare, classify and record batches of chips, and classify arrays or files from Python.

Background threads read ahead.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rsft.data.imagery.contract import Contract
from rsft.errors import DataError, RequestError
from rsft.inference.engines.base import CPU_BATCH_SIZE, EngineSpec, InferenceFn
from rsft.inference.inputs.chip_files import (
    ChipFiles,
    ChipSource,
    NoDataError,
    SourceChip,
    collapse_gray_rgb,
    find_chips,
)
from rsft.inference.inputs.scene_chips import measure_length
from rsft.inference.options import ChipOptions, Declaration
from rsft.inference.predict.result_table import predictions_table, probability_columns
from rsft.inference.predict.resume_journal import BatchResult, ResumeJournal
from rsft.inference.predict.scene_checks import check_scenes, describe_checks
from rsft.models.bundle.bundle import Bundle
from rsft.models.outputs import ClassifierOutputs
from rsft.models.uncertainty.calibrator import Calibrator
from rsft.types import Bytes, Pixels, Progress

THUMBNAIL_SIDE = 96
"""Side in pixels of a chip's thumbnail on the review page."""

_In = TypeVar("_In")
_Out = TypeVar("_Out")


@dataclass(frozen=True)
class ChipClassifier:
    """An engine with everything that turns chips into rows of the predictions table.

    Attributes:
        engine: computes logits and features from network inputs.
        contract: turns chips into network inputs.
        classes: names of the classes, in the order of the logits.
        calibrator: calibrates probabilities; None if the bundle was not calibrated.
        concurrency: number of threads that may call the engine at the same time.
    """

    engine: InferenceFn
    contract: Contract
    classes: tuple[str, ...]
    calibrator: Calibrator | None
    concurrency: int = 1


class ChipBatch(NamedTuple):
    """Consecutive chips of one source.

    Attributes:
        number: number of the batch in the job, from 0.
        source: source of the chips.
        chips: numbers of the chips in the source.
    """

    number: int
    source: ChipSource
    chips: range


class PreparedBatch(NamedTuple):
    """A batch whose chips were read and turned into network inputs.

    Attributes:
        batch: the batch.
        numbers: numbers (in the source) of the chips that can be classified.
        inputs: network inputs of those chips (n, P, S, S).
        columns: table columns of those chips, such as `chip` and `geometry`.
        rejected: number (in the source) and reason for every chip that cannot be classified.
        counts: see `BatchResult`.
    """

    batch: ChipBatch
    numbers: list[int]
    inputs: NDArray[np.float32]
    columns: list[dict[str, Any]]
    rejected: list[tuple[int, str]]
    counts: Counter[str]


def make_batches(sources: Sequence[ChipSource], size: int) -> list[ChipBatch]:
    """Split the chips of all sources into batches.

    Batches depend only on the sources and on `size`, so that a resumed job finds the same batches under the same
    numbers.

    Args:
        sources: sources of the chips.
        size: number of chips in a batch.

    Returns:
        All batches, numbered from 0; no batch spans two sources.
    """
    ranges = [
        (source, range(start, min(start + size, len(source))))
        for source in sources
        for start in range(0, len(source), size)
    ]
    return [ChipBatch(number, source, chips) for number, (source, chips) in enumerate(ranges)]


def classify_batches(
    batches: Sequence[ChipBatch],
    classifier: ChipClassifier,
    journal: ResumeJournal,
    *,
    readers: int = 1,
    thumbnails: bool = False,
    progress: Progress | None = None,
) -> None:
    """Classify the batches that are not in the journal yet, and record each as soon as it is finished.

    Args:
        batches: all batches of the job.
        classifier: computes the rows of the predictions table.
        journal: the journal for the results.
        readers: number of threads that read and prepare chips.
        thumbnails: whether to make a JPEG of every chip, for the review page.
        progress: called after every batch with the number of finished chips and the number of all chips.

    Raises:
        WeightsError: the model returns logits that are not finite.
    """
    finished = journal.finished_batches()
    remaining = [batch for batch in batches if batch.number not in finished]
    total = sum(len(batch.chips) for batch in batches)
    done = total - sum(len(batch.chips) for batch in remaining)

    def prepare(batch: ChipBatch) -> PreparedBatch:
        return prepare_batch(batch, classifier.contract, thumbnails)

    def compute(prepared: PreparedBatch) -> tuple[PreparedBatch, ClassifierOutputs | None]:
        return prepared, classifier.engine(prepared.inputs) if prepared.numbers else None

    concurrency = classifier.concurrency
    with closing(prefetch(prepare, remaining, readers)) as prepared_batches:
        for prepared, outputs in prefetch(compute, prepared_batches, concurrency, ahead=concurrency):
            journal.record(prepared.batch.number, batch_result(prepared, outputs, classifier))
            done += len(prepared.batch.chips)
            if progress:
                progress(done, total, "classifying")


def prefetch(
    function: Callable[[_In], _Out], items: Iterable[_In], workers: int, ahead: int | None = None
) -> Generator[_Out]:
    """Call `function` on every item in background threads, and yield the results in order.

    Args:
        function: called from several threads.
        items: the arguments of the calls.
        workers: number of threads.
        ahead: largest number of results that are computed or pending before they are needed (default: `workers` + 1).

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


def prepare_batch(batch: ChipBatch, contract: Contract, thumbnails: bool = False) -> PreparedBatch:
    """Read the chips of a batch and turn them into network inputs. A chip that cannot be used is rejected.

    Args:
        batch: the chips to read.
        contract: turns chips into network inputs.
        thumbnails: whether to add a JPEG of every chip to the columns, as `thumb`.

    Returns:
        The batch with its network inputs, and with the table columns that do not come from the network.
    """
    numbers, images, columns, rejected, counts = [], [], [], [], Counter[str]()
    for number in batch.chips:
        try:
            chip = batch.source.read(number)
            image = contract.to_image(chip.pixels, chip.unit)
        except NoDataError:
            counts["empty"] += 1
            continue
        except DataError as error:
            rejected.append((number, f"{error.message}; {error.hint}" if error.hint else error.message))
            continue
        counts.update(gray=chip.is_gray, clipped=chip.clipped, values=chip.values)
        numbers.append(number)
        images.append(image)
        thumbnail = {"thumb": encode_thumbnail(image)} if thumbnails else {}
        columns.append(chip.columns | measure_length(chip, contract) | thumbnail)
    return PreparedBatch(batch, numbers, contract.normalize(images), columns, rejected, counts)


def read_sample(batches: Sequence[ChipBatch], contract: Contract) -> NDArray[np.float32] | None:
    """Read the first chips of a job, on which engines are compared.

    Args:
        batches: the chips of the job.
        contract: turns chips into network inputs.

    Returns:
        Network inputs (n, P, S, S) of the first batch with a usable chip; None if no chip is usable.
    """
    for batch in batches:
        prepared = prepare_batch(batch._replace(chips=batch.chips[:CPU_BATCH_SIZE]), contract)
        if prepared.numbers:
            return prepared.inputs
    return None


def batch_result(prepared: PreparedBatch, outputs: ClassifierOutputs | None, classifier: ChipClassifier) -> BatchResult:
    """Combine the columns of a batch with the outputs of the network.

    Args:
        prepared: the prepared batch.
        outputs: logits and features of its chips; None if no chip could be classified.
        classifier: names of the classes, and calibration.

    Returns:
        The rows of the predictions table, and the rejected chips.
    """
    rows = pd.DataFrame()
    if outputs is not None:
        predictions = predictions_table(outputs, classifier.classes, classifier.calibrator)
        rows = pd.concat([pd.DataFrame(prepared.columns), predictions], axis=1)
    source = prepared.batch.source
    rejected = [(*source.location_of(number), reason) for number, reason in prepared.rejected]
    return BatchResult(rows, rejected, prepared.counts)


def encode_thumbnail(image: Bytes) -> bytes:
    """Encode a network input before normalization as a small JPEG.

    Args:
        image: (S, S, P); the picture shows three planes, or only the first one if there are fewer than three.

    Returns:
        A JPEG of `THUMBNAIL_SIDE` x `THUMBNAIL_SIDE` pixels.
    """
    planes = image[:, :, :3] if image.shape[2] >= 3 else image[:, :, 0]
    small = cv2.resize(planes, (THUMBNAIL_SIDE, THUMBNAIL_SIDE), interpolation=cv2.INTER_AREA)
    bgr = small[:, :, ::-1] if small.ndim == 3 else small  # OpenCV expects B, G, R
    return bytes(cv2.imencode(".jpg", np.ascontiguousarray(bgr), [cv2.IMWRITE_JPEG_QUALITY, 80])[1])


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
        from rsft.inference.selection.fastest import load_engine  # PyTorch, which `rsft predict` can do without

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
        model, tables = self.model, []
        for prepared in prefetch(
            lambda batch: prepare_batch(batch, model.contract), make_batches([source], batch_size), 1
        ):
            if prepared.numbers:
                rows = batch_result(prepared, model.engine(prepared.inputs), model).rows
                tables.append(rows.assign(rejected=None, number=prepared.numbers))
            if prepared.rejected:
                rejected = [
                    {"chip": source.name(number), "rejected": reason, "number": number}
                    for number, reason in prepared.rejected
                ]
                tables.append(pd.DataFrame(rejected))
        table = pd.concat(tables).sort_values("number", ignore_index=True).drop(columns="number")
        if "class" not in table:  # no chip could be classified
            best = ["class", "probability", *(("class_2", "probability_2") if len(model.classes) > 1 else ())]
            calibrated = [] if model.calibrator is None else ["class_set", "ood", "ood_distance"]
            table = table.reindex(columns=[*table, *best, *calibrated, *probability_columns(model.classes)])
        table, checks = check_scenes(table, model.calibrator, model.classes)
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
