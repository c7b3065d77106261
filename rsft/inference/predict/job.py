"""Run a prediction job: find the chips, classify them, and write the table."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import lru_cache, partial
from pathlib import Path

from rsft.inference.engines.base import LoadedEngine
from rsft.inference.options import DEFAULT_REQUEST, PredictionRequest
from rsft.inference.predict import pipeline
from rsft.inference.predict.engine import choose_engine, load_engine
from rsft.inference.predict.open_job import PredictionJob, open_job
from rsft.inference.predict.result import PredictionResult, UsedEngine, write_result
from rsft.models.bundle.bundle import Bundle
from rsft.models.outputs import ClassifierOutputs
from rsft.types import Progress
from rsft.utils.memory import return_freed_memory

_log = logging.getLogger(__name__)


class OpenedBundle:
    """A bundle for several jobs, whose engine is loaded once.

    Args:
        folder: see `predict`.
        engines: number of engines that stay in memory.

    Raises:
        RequestError: no bundle exists.
        WeightsError: the bundle cannot be used.
    """

    def __init__(self, folder: Path, engines: int = 1) -> None:
        self.folder = folder
        self.bundle = Bundle.load(folder)
        self._load = lru_cache(engines)(partial(load_engine, self.bundle, folder))

    def load_engine(self, job: PredictionJob) -> LoadedEngine:
        """Return the engine of a job; a resumed job goes on with its engine."""
        request = job.request
        options = request.precision, request.device
        name = job.journal.get_note("engine") or choose_engine(
            job.bundle, job.bundle_dir, request.engine, *options
        )
        engine = self._load(name, *options)
        job.journal.set_note("engine", name)  # no journal is kept if loading fails
        return engine


def predict(
    bundle: Path | OpenedBundle,
    inputs: Sequence[str | Path],
    output_path: Path,
    request: PredictionRequest = DEFAULT_REQUEST,
    progress: Progress | None = None,
    *,
    may_be_outside: bool = False,
) -> PredictionResult:
    """Classify chips or scenes, and write one table.

    Results are recorded in `.<output name>.journal` after each batch, so that the same
    call resumes an interrupted job. Chips that cannot be classified are listed in
    `<output stem>.rejected.csv`.

    Args:
        bundle: a bundle, a run, or a folder of runs; or what was opened for several
            jobs.
        inputs: chips (files, folders, chip stores, globs, @list), or scenes if
            `request.query` says where to cut chips.
        output_path: the file of the table; its suffix selects the format.
        request: options of the job.
        progress: called with the number of finished chips and the number of all chips.
        may_be_outside: whether the table may be empty because all positions lie outside
            of the scenes.

    Returns:
        The table, and what was rejected.

    Raises:
        RequestError: no bundle or no chips exist, options contradict each other, or the
            output cannot be written.
        WeightsError: the bundle cannot be used.
        DataError: a scene does not fulfill the contract, all chips were rejected, or
            all positions lie outside.

    Example:
        >>> out = Path("chips.gpkg")
        >>> result = predict(Path("runs/ships"), [Path("new_chips")], out)
        >>> sorted(result.counts)
        ['cargo', 'fishing', 'tanker']
    """
    if not isinstance(bundle, OpenedBundle):
        bundle = OpenedBundle(bundle, engines=0)
    warn_about_calibrator(bundle.bundle)
    with open_job(
        bundle.bundle, bundle.folder, inputs, output_path, request, progress
    ) as job:
        engine = run_job(job, bundle.load_engine)
        # the libraries that write the outputs take as much as a small network
        return_freed_memory()
        return write_result(job, engine, may_be_outside=may_be_outside)


def warn_about_calibrator(bundle: Bundle) -> None:
    """Log the warnings of the calibrator of a bundle."""
    if bundle.calibrator:
        for warning in bundle.calibrator.warnings(bundle.classes):
            _log.warning("%s", warning)


LoadEngine = Callable[[PredictionJob], LoadedEngine]


def run_job(job: PredictionJob, load: LoadEngine) -> UsedEngine:
    """Classify the chips of a job that are not in its journal yet.

    Each batch is recorded when it is finished.

    Args:
        job: the job.
        load: loads the engine.

    Returns:
        The engine that was used; empty if the job has no chips.

    Raises:
        RequestError: the requested engine cannot be used.
        WeightsError: the bundle cannot be used, or its logits are not finite.
    """
    request = job.request
    bundle = job.bundle
    journal = job.journal
    batches = pipeline.make_batches(job.plan.sources, request.batch_size)
    if not batches:
        return UsedEngine("", {})
    total = sum(len(batch.chips) for batch in batches)
    engine = load(job)
    finished = journal.finished_batches()
    remaining = [batch for batch in batches if batch.number not in finished]
    done = total - sum(len(batch.chips) for batch in remaining)
    prepare = partial(
        pipeline.prepare_batch,
        contract=engine.contract,
        thumbnails=request.html_path is not None,
        make_inputs=engine.make_inputs,
    )

    def compute(
        prepared: pipeline.PreparedBatch,
    ) -> tuple[pipeline.PreparedBatch, ClassifierOutputs | None]:
        return prepared, engine.infer(prepared.inputs) if prepared.numbers else None

    readers = pipeline.prefetch(prepare, remaining, request.readers or 1)
    with closing(readers) as prepared_batches:
        for prepared, outputs in pipeline.prefetch(
            compute, prepared_batches, engine.concurrency, ahead=engine.concurrency
        ):
            result = pipeline.batch_result(prepared, outputs, bundle)
            journal.record(prepared.batch.number, result)
            done += len(prepared.batch.chips)
            if job.progress:
                job.progress(done, total, "classifying")
    return UsedEngine(engine.summary, engine.metadata)
