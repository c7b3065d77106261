"""Read, prepare, classify and record batches of chips. Background threads read ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rsft.data.imagery.contract import Contract
from rsft.errors import DataError
from rsft.inference.engines.base import CPU_BATCH_SIZE, InferenceFn
from rsft.inference.inputs.chip_source import ChipSource, NoDataError
from rsft.inference.inputs.object_length import measure_length
from rsft.inference.predict.postprocess import predictions_table
from rsft.inference.predict.resume_journal import BatchResult, ResumeJournal
from rsft.models.outputs import ClassifierOutputs
from rsft.models.uncertainty.calibrator import Calibrator
from rsft.types import Bytes, Progress

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
        empty: number of tiles without data.
        gray: number of gray chips that were stored as RGB.
        clipped: number of values below the thermal noise, which the calibration raised to its smallest value.
        values: number of values that were read.
    """

    batch: ChipBatch
    numbers: list[int]
    inputs: NDArray[np.float32]
    columns: list[dict[str, Any]]
    rejected: list[tuple[int, str]]
    empty: int
    gray: int
    clipped: int
    values: int


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
    numbers, images, columns, rejected = [], [], [], []
    empty = gray = clipped = values = 0
    for number in batch.chips:
        try:
            chip = batch.source.read(number)
            image = contract.to_image(chip.pixels, chip.unit)
        except NoDataError:
            empty += 1
            continue
        except DataError as error:
            rejected.append((number, f"{error.message}; {error.hint}" if error.hint else error.message))
            continue
        gray, clipped, values = gray + chip.is_gray, clipped + chip.clipped, values + chip.values
        numbers.append(number)
        images.append(image)
        thumbnail = {"thumb": encode_thumbnail(image)} if thumbnails else {}
        columns.append(chip.columns | measure_length(chip, contract) | thumbnail)
    return PreparedBatch(batch, numbers, contract.normalize(images), columns, rejected, empty, gray, clipped, values)


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
    return BatchResult(rows, rejected, prepared.empty, prepared.gray, prepared.clipped, prepared.values)


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
