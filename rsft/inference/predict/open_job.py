"""Open a prediction job: check the outputs, find the chips, open the journal."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from rsft.data.imagery.products.options import DEFAULT_OPTIONS
from rsft.data.imagery.scene_uri import SceneUri, file_state
from rsft.errors import RequestError
from rsft.inference.options import PredictionRequest
from rsft.inference.predict.batch_journal import BatchJournal
from rsft.inference.predict.chip_files import PredictionPlan, open_chips
from rsft.inference.writers.columns import table_columns
from rsft.inference.writers.table_format import find_table_format
from rsft.inference.writers.tables import (
    check_output_file,
    check_output_path,
)
from rsft.models.bundle.bundle import Bundle
from rsft.scenes.inputs import find_chips, find_scenes
from rsft.scenes.options import Declaration
from rsft.types import Progress
from rsft.utils.journal import has_note, journal_path
from rsft.utils.operating_system import path_to_text
from rsft.version import __version__


@dataclass(frozen=True)
class PredictionJob:
    """One bundle, the chips to classify, and the output.

    Attributes:
        replaces_outputs: whether existing outputs may be replaced: on request, or
            because this job has written them before it was interrupted.
        skipped_files: number of files in input folders that are not images.
        progress: called with the number of finished chips and the number of all chips.
        bundle_dir: where the bundle is.
        writes_files: whether the outputs are written.
    """

    bundle: Bundle
    bundle_dir: Path
    request: PredictionRequest
    plan: PredictionPlan
    journal: BatchJournal
    output_path: Path
    replaces_outputs: bool
    skipped_files: int = 0
    progress: Progress | None = None
    writes_files: bool = True


@contextmanager
def open_job(
    bundle: Bundle,
    bundle_dir: Path,
    inputs: Sequence[str | Path],
    output_path: Path,
    request: PredictionRequest,
    progress: Progress | None = None,
    *,
    writes_files: bool = True,
) -> Iterator[PredictionJob]:
    """Check the output, find the inputs and open the journal.

    Delete the journal if the block ends without an error.

    Args:
        bundle: the bundle.
        bundle_dir: where it is.
        inputs: see `rsft.inference.predict.job.predict`.
        output_path: the file of the table.
        request: options of the job.
        progress: called with numbers of windows of a scene while objects are detected,
            then with numbers of chips.
        writes_files: whether the outputs are written.

    Yields:
        The job.

    Raises:
        RequestError: no chips exist, options contradict each other, or the output
            cannot be written.
        DataError: a scene cannot be read or does not fulfill the contract.
    """
    path = journal_path(output_path)
    has_journal = path.is_file()
    _check_options(output_path, request)
    _check_outputs(bundle, output_path, request, request.overwrite or has_journal)
    scenes = []
    chips: dict[str, Declaration] = {}
    skipped_files = 0
    if request.query.reads_scenes:
        scenes = list(find_scenes(inputs))
    else:
        chips, skipped_files = find_chips(inputs, request.declaration)
    key = job_key(bundle, scenes, chips, request)
    replaces_outputs = request.overwrite or (
        has_journal and has_note(path, key, *writing_note(output_path, request))
    )
    _check_outputs(bundle, output_path, request, replaces_outputs)
    journal = BatchJournal(path, key, bundle.classes)
    is_finished = False
    try:
        with ExitStack() as stack:
            if request.query.reads_scenes:
                from rsft.inference.predict.scene_chips import plan_scenes
                from rsft.scenes.raster import gdal_environment

                stack.enter_context(gdal_environment())
                plan = plan_scenes(scenes, request, bundle.contract, journal, progress)
            else:
                source = open_chips(chips, bundle.contract, request.chip_options)
                plan = PredictionPlan([source])
            for source in plan.sources:
                stack.callback(source.close)
            yield PredictionJob(
                bundle,
                bundle_dir,
                request,
                plan,
                journal,
                output_path,
                replaces_outputs,
                skipped_files,
                progress,
                writes_files,
            )
        is_finished = True
    finally:
        journal.close(is_finished)


def writing_note(output_path: Path, request: PredictionRequest) -> tuple[str, str]:
    """Return the note of a job that has begun to write its table, page and map.

    The next call finishes them all.
    """
    paths = (output_path, request.html_path, request.picture_path)
    return "outputs", json.dumps([str(path.absolute()) for path in paths if path])


class JobKeys:
    """Computes the keys of jobs that have a bundle and a request in common.

    Args:
        bundle: the bundle.
        request: options. Fields with `compare=False` do not change the results.
    """

    def __init__(self, bundle: Bundle, request: PredictionRequest) -> None:
        options = [
            getattr(request, field.name) for field in fields(request) if field.compare
        ]
        has_thumbnails = request.html_path is not None
        states = [(file, file_state(file)) for file in request.query.files()]
        common = [__version__, bundle.sha256, options, has_thumbnails, states]
        self._hash = hashlib.sha256(_encode(common).encode())

    def compute(self, inputs: Iterable[tuple[object, ...]]) -> str:
        """Return a hash of everything that determines the results of a job.

        The metadata of the output has it as `job`.

        Args:
            inputs: each scene or chip as text, its state, and what the user declares of
                a chip.
        """
        digest = self._hash.copy()
        for item in inputs:
            digest.update(_encode(item).encode())
        return digest.hexdigest()


def job_key(
    bundle: Bundle,
    scenes: Sequence[SceneUri],
    chips: Mapping[str, Declaration],
    request: PredictionRequest,
) -> str:
    """Return the key of one job, see `JobKeys`.

    Raises:
        NetworkError: a web server does not send a scene.
    """
    inputs: list[tuple[object, ...]] = [
        (path_to_text(scene), scene.state()) for scene in scenes
    ]
    for path, declaration in chips.items():
        inputs.append((path_to_text(path), file_state(Path(path)), declaration))
    return JobKeys(bundle, request).compute(inputs)


def _to_json(value: Any) -> Any:
    """Return an option as JSON; a path means the same in every folder."""
    if isinstance(value, Path):
        return path_to_text(value.absolute())
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return path_to_text(value)


_encode = json.JSONEncoder(default=_to_json).encode


def _check_options(output_path: Path, request: PredictionRequest) -> None:
    """Raise a RequestError if an option needs scenes or objects that are detected."""
    if request.truth_path and not request.query.detect:
        raise RequestError(
            "--truth only works with --detect", "--truth", "give --detect as well"
        )
    if request.query.reads_scenes:
        return
    needs_scenes = {
        str(output_path): find_table_format(output_path).has_boxes,
        "--picture": request.picture_path,
        "--read": request.product_options != DEFAULT_OPTIONS,
        "--chips": request.chips_dir,
    }
    for option, is_given in needs_scenes.items():
        if is_given:
            raise RequestError(
                f"{option} needs scenes, but the inputs are chips",
                option,
                "give --at, --grid or --detect as well",
            )


def _check_outputs(
    bundle: Bundle, output_path: Path, request: PredictionRequest, overwrite: bool
) -> None:
    """Raise a RequestError if table, review page or map cannot be written."""
    check_output_path(
        output_path,
        table_columns(bundle.classes),
        overwrite=overwrite,
    )
    if request.html_path:
        check_output_file(request.html_path, (".html", ".htm"), overwrite)
    if request.picture_path:
        check_output_file(request.picture_path, (".png",), overwrite)
