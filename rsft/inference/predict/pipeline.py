"""Read and prepare batches of chips in background threads, which read ahead."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rsft.data.imagery.contract import Contract
from rsft.errors import DataError
from rsft.inference.predict import chip_files
from rsft.inference.predict.batch_journal import BatchResult
from rsft.inference.predict.result_table import (
    predictions_table,
)
from rsft.models.bundle.bundle import Bundle
from rsft.models.outputs import ClassifierOutputs
from rsft.scenes.lengths import measure_length
from rsft.types import Bytes

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
        inputs: network inputs of those chips (n, P, S, S), or their bytes (n, S, S, P)
            for an engine that takes them.
        columns: table columns of those chips, such as `chip` and `geometry`.
        rejected: number (in the source) and reason for every chip that cannot be
            classified.
        counts: see `BatchResult`.
    """

    batch: ChipBatch
    numbers: list[int]
    inputs: NDArray[Any]
    columns: list[dict[str, Any]]
    rejected: list[tuple[int, str]]
    counts: Counter[str]


def make_batches(
    sources: Sequence[chip_files.ChipSource], size: int
) -> list[ChipBatch]:
    """Split the chips of all sources into batches of `size` chips of one source.

    Batches depend only on the sources and on `size`, so that a resumed job finds the
    same batches under the same numbers.
    """
    batches: list[ChipBatch] = []
    for source in sources:
        for start in range(0, len(source), size):
            chips = range(start, min(start + size, len(source)))
            batches.append(ChipBatch(len(batches), source, chips))
    return batches


def prefetch(
    function: Callable[[_In], _Out],
    items: Iterable[_In],
    workers: int,
    ahead: int | None = None,
) -> Generator[_Out]:
    """Call `function` on every item in background threads.

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
    batch: ChipBatch,
    contract: Contract,
    thumbnails: bool = False,
    make_inputs: Callable[[Sequence[Bytes]], NDArray[Any]] | None = None,
) -> PreparedBatch:
    """Read the chips of a batch and turn them into network inputs.

    A chip that cannot be used is rejected.

    Args:
        batch: the chips to read.
        contract: turns chips into network inputs.
        thumbnails: whether to add a JPEG of every chip to the columns, as `thumb`.
        make_inputs: see `LoadedEngine.make_inputs`; None normalizes.

    Returns:
        The batch with its network inputs, and with the table columns that do not come
        from the network.
    """
    numbers = []
    images = []
    columns = []
    rejected = []
    counts = Counter[str]()
    batch.source.read_ahead(batch.chips)
    for number in batch.chips:
        try:
            chip = batch.source.read(number)
            image = contract.to_image(chip.pixels, chip.unit)
        except chip_files.NoDataError:
            counts["empty"] += 1
            continue
        except DataError as error:
            rejected.append(
                (number, "; ".join(filter(None, [error.message, error.hint])))
            )
            continue
        counts.update(chip.counts)
        numbers.append(number)
        images.append(image)
        row = dict(chip.columns)
        if "length_m" not in row:
            row |= measure_length(chip.pixels, chip.unit, chip.spacing, contract)
        if thumbnails:
            row["thumb"] = encode_thumbnail(image)
        columns.append(row)
    inputs = (make_inputs or contract.normalize)(images)
    return PreparedBatch(batch, numbers, inputs, columns, rejected, counts)


def batch_result(
    prepared: PreparedBatch, outputs: ClassifierOutputs | None, bundle: Bundle
) -> BatchResult:
    """Combine the columns of a batch with the outputs of the network.

    The outputs are None if no chip could be classified.
    """
    rows = pd.DataFrame()
    if outputs:
        predictions = predictions_table(outputs, bundle.classes, bundle.calibrator)
        rows = pd.concat([pd.DataFrame(prepared.columns), predictions], axis=1)
    source = prepared.batch.source
    rejected = [
        (*source.location_of(number), reason) for number, reason in prepared.rejected
    ]
    return BatchResult(rows, rejected, prepared.counts)


def encode_thumbnail(image: Bytes) -> bytes:
    """Encode a network input (S, S, P) before normalization as a JPEG.

    Its side is `THUMBNAIL_SIDE`. The picture shows three planes, or the first one if
    there are fewer.
    """
    planes = image[:, :, 0] if image.shape[2] < 3 else image[:, :, :3]
    small = cv2.resize(
        planes, (THUMBNAIL_SIDE, THUMBNAIL_SIDE), interpolation=cv2.INTER_AREA
    )
    bgr = small[..., ::-1] if small.ndim == 3 else small  # OpenCV expects B, G, R
    quality = [cv2.IMWRITE_JPEG_QUALITY, 80]
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(bgr), quality)
    return bytes(data)
