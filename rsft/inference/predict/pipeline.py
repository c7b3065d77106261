"""Chips through the network: threads read ahead, others compute, and each batch is noted as it is done, all at once."""

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
from rsft.inference.engines.engines import Engine
from rsft.inference.inputs.chip_source import NoData, Source
from rsft.inference.inputs.object_length import length
from rsft.inference.predict.postprocess import answers
from rsft.inference.predict.resume_journal import Done, Journal
from rsft.models.outputs import Outputs
from rsft.models.uncertainty.calibrator import Confidence
from rsft.types import Bytes, Progress

THUMB = 96
"""Side in pixels of the picture of a chip on the review page."""

_In = TypeVar("_In")
_Out = TypeVar("_Out")


@dataclass(frozen=True)
class Model:
    """What classifies: the engine, its demands of a chip, what its logits mean, and threads that call it at once."""

    engine: Engine
    contract: Contract
    classes: tuple[str, ...]
    confidence: Confidence | None
    callers: int = 1


class Batch(NamedTuple):
    """A run of one source's chips."""

    number: int
    source: Source
    chips: range


class Ready(NamedTuple):
    """A batch that was read.

    Attributes:
        numbers: of the chips that can be classified, in their source.
        inputs: of the network (n, P, S, S).
        facts: columns of their rows.
        refused: number and reason of the others.
        empty: tiles without data.
        grey: chips of which one band out of three equal ones was used.
    """

    batch: Batch
    numbers: list[int]
    inputs: NDArray[np.float32]
    facts: list[dict[str, Any]]
    refused: list[tuple[int, str]]
    empty: int
    grey: int


def batches(sources: Sequence[Source], size: int) -> list[Batch]:
    """Every chip of every source, numbered in order; where a batch ends does not depend on what was done before."""
    runs = [
        (source, range(start, min(start + size, len(source))))
        for source in sources
        for start in range(0, len(source), size)
    ]
    return [Batch(number, *run) for number, run in enumerate(runs)]


def classify(
    todo: Sequence[Batch],
    model: Model,
    journal: Journal,
    *,
    readers: int = 1,
    thumbs: bool = False,
    progress: Progress | None = None,
) -> None:
    """Classify the batches that the journal does not know yet.

    Raises:
        WeightsError: the model returns what is no number.
    """
    classify_all(
        todo,
        lambda inputs: [model.engine(inputs)],
        [model],
        [journal],
        readers=readers,
        thumbs=thumbs,
        progress=progress,
    )


def classify_all(
    todo: Sequence[Batch],
    engine: Callable[[NDArray[np.float32]], list[Outputs]],
    models: Sequence[Model],
    journals: Sequence[Journal],
    *,
    readers: int = 1,
    thumbs: bool = False,
    progress: Progress | None = None,
) -> None:
    """Classify by several models that take the same chips, each with a journal of its own.

    Args:
        engine: the answers of all models at once; called by as many threads as the first model says.

    Raises:
        WeightsError: a model returns what is no number.
    """
    known = [journal.done() for journal in journals]
    by_all = set.intersection(*known)
    total = sum(len(batch.chips) for batch in todo)
    done = sum(len(batch.chips) for batch in todo if batch.number in by_all)

    def read(batch: Batch) -> Ready:
        return read_batch(batch, models[0].contract, thumbs)

    def answer(ready: Ready) -> tuple[Ready, Sequence[Outputs | None]]:
        return ready, engine(ready.inputs) if ready.numbers else [None] * len(models)

    rest = (batch for batch in todo if batch.number not in by_all)
    callers = models[0].callers
    with closing(read_ahead(read, rest, readers)) as read_batches:
        for ready, answered in read_ahead(answer, read_batches, callers, ahead=callers):
            number = ready.batch.number
            for model, journal, outputs, before in zip(models, journals, answered, known, strict=True):
                if number not in before:
                    journal.settle(number, rows_of(ready, outputs, model))
            done += len(ready.batch.chips)
            if progress:
                progress(done, total, "classifying")


def read_ahead(
    read: Callable[[_In], _Out], items: Iterable[_In], workers: int, ahead: int | None = None
) -> Generator[_Out]:
    """`read` of every item, in order, by threads that are at most `ahead` items ahead; `workers` + 1 if None."""
    ahead = workers + 1 if ahead is None else ahead
    pending: deque[Future[_Out]] = deque()
    pool = ThreadPoolExecutor(workers, "reader")
    try:
        for item in items:
            pending.append(pool.submit(read, item))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def read_batch(batch: Batch, contract: Contract, thumbs: bool = False) -> Ready:
    """Read, check and prepare the chips of a batch; one that cannot be used is refused, and the job goes on."""
    ready, images = Ready(batch, [], np.empty(0, np.float32), [], [], 0, 0), []
    empty = grey = 0
    for number in batch.chips:
        try:
            chip = batch.source.read(number)
            image = contract.to_image(chip.pixels, chip.unit)
        except NoData:
            empty += 1
            continue
        except DataError as error:
            ready.refused.append((number, f"{error.what}; {error.fix}" if error.fix else error.what))
            continue
        grey += chip.grey
        ready.numbers.append(number)
        images.append(image)
        ready.facts.append(chip.facts | length(chip, contract) | ({"thumb": picture(image)} if thumbs else {}))
    return ready._replace(inputs=contract.normalise(images), empty=empty, grey=grey)


def rows_of(ready: Ready, outputs: Outputs | None, model: Model) -> Done:
    """What becomes of a batch."""
    rows = pd.DataFrame()
    if outputs is not None:
        rows = pd.concat([pd.DataFrame(ready.facts), answers(outputs, model.classes, model.confidence)], axis=1)
    refused = [(*ready.batch.source.where(number), reason) for number, reason in ready.refused]
    return Done(rows, refused, ready.empty, ready.grey)


def picture(image: Bytes) -> bytes:
    """What the network sees (S, S, P) as a small JPEG: the first plane, or the first three."""
    small = cv2.resize(
        image[:, :, :3] if image.shape[2] >= 3 else image[:, :, 0], (THUMB, THUMB), interpolation=cv2.INTER_AREA
    )
    ordered = small[:, :, ::-1] if small.ndim == 3 else small  # OpenCV takes B, G, R
    return bytes(cv2.imencode(".jpg", np.ascontiguousarray(ordered), [cv2.IMWRITE_JPEG_QUALITY, 80])[1])
