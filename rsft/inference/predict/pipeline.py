"""Read, prepare, classify and record batches of chips. Background threads read ahead.

Convert logits to columns of the predictions table: classes, probabilities, class sets and out-of-distribution.
"""

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
from rsft.errors import DataError, WeightsError
from rsft.inference.engines.base import CPU_BATCH_SIZE, InferenceFn
from rsft.inference.inputs.chip_files import ChipSource, NoDataError
from rsft.inference.inputs.scene_chips import measure_length
from rsft.inference.predict.resume_journal import BatchResult, ResumeJournal
from rsft.models.outputs import ClassifierOutputs
from rsft.models.uncertainty.calibrator import Calibrator
from rsft.models.uncertainty.conformal import log_softmax
from rsft.types import Bytes, Progress

SET_SEPARATOR = " | "
"""Separator of the classes in a class set. The most probable class comes first."""

_DECIMALS = 6


def predictions_table(
    outputs: ClassifierOutputs, classes: Sequence[str], calibrator: Calibrator | None
) -> pd.DataFrame:
    """Convert the outputs of a network to table columns.

    Args:
        outputs: logits (N, C) and features (N, D).
        classes: names of the C classes.
        calibrator: calibrates probabilities; None leaves them uncalibrated.

    Returns:
        N rows with class, probability, class_2 and probability_2 (with at least two classes), class_set, ood and
        ood_distance (with a calibrator), and p_<class> of every class.

    Raises:
        WeightsError: the logits are not finite.
    """
    if not np.isfinite(outputs.logits).all():
        raise WeightsError("the model returns logits that are not finite", "", "train it with a lower learning rate")
    estimate = None if calibrator is None else calibrator.apply(*outputs)
    probabilities = np.exp(log_softmax(outputs.logits)) if estimate is None else estimate.probabilities
    order = np.argsort(-probabilities, axis=1, kind="stable")
    rows = np.arange(len(probabilities))
    names = np.array(classes, object)
    first = order[:, 0]
    table = pd.DataFrame({"class": names[first], "probability": probabilities[rows, first].round(_DECIMALS)})
    if len(classes) > 1:
        second = order[:, 1]
        table["class_2"] = names[second]
        table["probability_2"] = probabilities[rows, second].round(_DECIMALS)
    if estimate is not None:
        table["class_set"] = format_sets(probabilities, estimate.sets, classes)
        table["ood"] = ~(estimate.ood <= 1)  # a distance that is not a number does not make a chip like the others
        table["ood_distance"] = estimate.ood.round(4)
    columns = pd.DataFrame(probabilities.round(_DECIMALS), columns=probability_columns(classes))
    return pd.concat([table, columns], axis=1)


def result_columns(classes: Sequence[str], calibrator: Calibrator | None) -> list[str]:
    """Return the names of the columns of `predictions_table`, for a table in which no chip was classified.

    Args:
        classes: names of the classes.
        calibrator: the calibrator of the model, if it has one.

    Returns:
        The names, in order.
    """
    best = ["class", "probability", *(("class_2", "probability_2") if len(classes) > 1 else ())]
    calibrated = [] if calibrator is None else ["class_set", "ood", "ood_distance"]
    return [*best, *calibrated, *probability_columns(classes)]


def format_sets(probabilities: NDArray[np.floating], sets: NDArray[np.bool_], classes: Sequence[str]) -> list[str]:
    """Return the classes of every set as a text, the most probable class first.

    Args:
        probabilities: (N, C).
        sets: (N, C), the classes that a chip may have.
        classes: names of the C classes.
    """
    names, order = np.array(classes, object), np.argsort(-probabilities, axis=1, kind="stable")
    return [SET_SEPARATOR.join(names[ranking[members[ranking]]]) for ranking, members in zip(order, sets, strict=True)]


def probability_columns(classes: Sequence[str]) -> list[str]:
    """Return the name of the probability column of each class."""
    return [f"p_{name}" for name in classes]


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
