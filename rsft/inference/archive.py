"""Classify many scenes in processes, with one GeoPackage per scene.

Finished scenes are skipped; a failure does not stop others. A scene may run twice if
its process is lost: its output is written to a temporary file and renamed, and only one
process at a time can lock the journal that it is made from.
"""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, as_completed
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import pandas as pd

from rsft.data.imagery.scene_uri import SceneUri
from rsft.errors import NetworkError, RequestError, RsftError
from rsft.inference.options import PredictionRequest
from rsft.inference.predict.engine import choose_engine, load_engine
from rsft.inference.predict.job import predict
from rsft.inference.predict.open_job import job_key
from rsft.inference.writers.columns import table_columns
from rsft.inference.writers.geopackage import read_geopackage_metadata
from rsft.inference.writers.tables import check_output_path
from rsft.models.bundle.bundle import Bundle
from rsft.scenes.inputs import find_scenes
from rsft.types import Progress
from rsft.utils.executor import Executor, TaskLostError, open_executor
from rsft.utils.journal import journal_path
from rsft.utils.operating_system import path_to_text
from rsft.utils.tables import write_csv_table

SCENES_FILE = "scenes.csv"

ATTEMPTS = 3
"""Number of attempts at a scene if its job fails for a reason outside rsft, such as a
slow disk or a lack of memory."""

_PAUSE = 1.0  # seconds before the second attempt; doubled before each later one
_OTHER_OUTPUT = (
    "the existing output was made from another bundle, request, rsft version or state"
    " of the scene: give --overwrite, or another folder"
)


@dataclass(frozen=True)
class SceneResult:
    """Result of one scene. The fields are the columns of scenes.csv, except `address`.

    Attributes:
        status: done, failed, skipped (finished by an earlier call) or pending.
        chips: number of classified chips.
        rejected: number of rejected chips.
        ood: number of classified chips that are unlike the training chips.
        class_sets: "withheld" if the scene has no class sets, because most of its chips
            are unlike the training chips.
        resumed: whether the job continued an interrupted one.
        job: hash of everything that determines the output; it is also in the metadata
            of the GeoPackage.
        address: name under which the scene is opened: `scene`, with the signature of a
            signed address.
    """

    scene: str
    status: str
    chips: int = 0
    rejected: int = 0
    ood: int = 0
    class_sets: str = ""
    seconds: float = 0.0
    resumed: bool = False
    output: str = ""
    job: str = ""
    reason: str = ""
    address: str = ""


@dataclass(frozen=True)
class ArchiveResult:
    """Results of all scenes, in the order of the inputs, and the path of scenes.csv."""

    scenes: list[SceneResult]
    summary_path: Path

    @property
    def counts(self) -> Counter[str]:
        """Number of scenes by status."""
        return Counter(result.status for result in self.scenes)


def open_archive_executor(
    device: str, ray: bool = False, jobs: int | None = None
) -> Executor:
    """Return an executor for `predict_archive`, on this machine or on a Ray cluster.

    Args:
        device: device of the request; "auto" gives each scene a GPU if there are any.
        ray: use the Ray cluster of RAY_ADDRESS or of this machine, or start one.
        jobs: number of scenes at the same time (default: the number of cores, or of
            GPUs if the scenes use them).

    Raises:
        RequestError: Ray, its cluster or a GPU is missing.
    """
    gpus = {"auto": None, "cuda": 1.0}.get(device, 0.0)
    return open_executor(
        "auto" if ray else None, jobs, attempts=ATTEMPTS, gpus=gpus, modules=[__name__]
    )


def predict_archive(
    bundle_dir: Path,
    inputs: Sequence[str | Path],
    output_dir: Path,
    request: PredictionRequest,
    executor: Executor,
    progress: Progress | None = None,
) -> ArchiveResult:
    """Classify scenes into `output_dir`/<scene>.gpkg.

    A scene is skipped if its output was made by this version of rsft from the same
    scene, bundle and request. scenes.csv is written even after an interruption.

    Args:
        bundle_dir: folder of the bundle.
        inputs: scenes, folders, globs or lists (@file).
        output_dir: folder of the outputs.
        request: options of every scene's job.
        executor: runs the jobs of the scenes.
        progress: called after each scene.

    Returns:
        The results of all scenes.

    Raises:
        RequestError: no bundle, two scenes with the same name, or options that archives
            do not support.
        WeightsError: the bundle cannot be used on this machine.
    """
    if not request.query.reads_scenes:
        raise RequestError(
            "an archive consists of scenes",
            hint="say where to cut chips: give --at, --grid or --detect",
        )
    _reject_outputs_of_one_job(request)
    bundle = Bundle.load(bundle_dir)
    columns = table_columns(bundle.classes)
    check_output_path(output_dir / "any.gpkg", columns, overwrite=True)
    scenes = dict.fromkeys(scene.absolute() for scene in find_scenes(inputs))
    results = _plan(list(scenes), output_dir.absolute(), bundle, request)
    pending = [result for result in results.values() if result.status == "pending"]
    archive = ArchiveResult([], output_dir / SCENES_FILE)
    try:
        if pending:
            # raises an error that would make every scene fail
            name = choose_engine(
                bundle, bundle_dir, request.engine, request.precision, "cpu"
            )
            load_engine(bundle, bundle_dir, name, request.precision)
        done = len(results) - len(pending)
        for result in _run(pending, bundle_dir, request, executor):
            results[result.scene] = result
            done += 1
            if progress:
                progress(done, len(results), "scenes")
    finally:
        archive.scenes.extend(results.values())
        names = [field.name for field in fields(SceneResult)]
        rows = [asdict(result) for result in archive.scenes]
        table = pd.DataFrame(rows, columns=names).drop(columns="address")
        write_csv_table(table, archive.summary_path)
    return archive


def _reject_outputs_of_one_job(request: PredictionRequest) -> None:
    """Raise a RequestError if a job has a review page, a map or a truth."""
    options = {
        "--html": request.html_path,
        "--picture": request.picture_path,
        "--truth": request.truth_path,
    }
    for option, path in options.items():
        if path is not None:
            raise RequestError(
                "review page, map and truth are for one job, not for an archive",
                option,
                f"leave out {option}, or run the job without it first",
            )


def _run(
    pending: Sequence[SceneResult],
    bundle_dir: Path,
    request: PredictionRequest,
    executor: Executor,
) -> Iterator[SceneResult]:
    """Classify scenes, and yield their results in the order in which they finish."""
    scenes: dict[Future[SceneResult], SceneResult] = {}
    for planned in pending:
        future = executor.submit(classify_scene, planned, bundle_dir, request)
        scenes[future] = planned
    for future in as_completed(scenes):
        try:
            yield future.result()
        except TaskLostError as error:
            reason = f"{error} ({ATTEMPTS} attempts)"
            yield replace(scenes[future], status="failed", reason=reason)


def classify_scene(
    planned: SceneResult, bundle_dir: Path, request: PredictionRequest
) -> SceneResult:
    """Classify one scene in any process.

    Args:
        planned: scene, output and job, with the status pending.
        bundle_dir: folder of the bundle.
        request: options of the job.

    Returns:
        A result that is done, or failed with the reason.
    """
    start = time.monotonic()
    finished = _read_output(planned, "done")
    if finished is not None:  # an earlier process was killed right after its work
        return finished
    resumed = journal_path(Path(planned.output)).exists()
    reason = _try_to_predict(planned, bundle_dir, request)
    result = None if reason else _read_output(planned, "done")
    if result is None:
        reason = reason or "the scene or another input changed during the job"
        result = replace(planned, status="failed", reason=reason)
    seconds = round(time.monotonic() - start, 1)
    return replace(result, seconds=seconds, resumed=resumed)


def _try_to_predict(
    planned: SceneResult, bundle_dir: Path, request: PredictionRequest
) -> str:
    """Classify a scene, and return why it fails; "" if it does not."""
    scene = planned.address or planned.scene
    reason = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(_PAUSE * 2 ** (attempt - 1))
        try:
            # positions may lie in other scenes
            predict(
                bundle_dir, [scene], Path(planned.output), request, may_be_outside=True
            )
            return ""
        except RsftError as error:  # another attempt would end in the same way
            return " ".join(str(error).split())
        except Exception as error:
            # expected: faults of disks, networks and memory, which GDAL, SQLite, Arrow
            # and PyTorch report by exceptions of their own; scenes.csv names them
            reason = " ".join(f"{type(error).__name__}: {error}".split())
    return reason


def _read_output(planned: SceneResult, status: str) -> SceneResult | None:
    """Return the result of an existing output; None if another job made it."""
    out = Path(planned.output)
    metadata = read_geopackage_metadata(out)
    if metadata.get("job") != planned.job:
        return None
    # left behind if the process was killed just before it removed this file
    journal_path(out).unlink(missing_ok=True)
    return replace(
        planned,
        status=status,
        chips=int(metadata["chips"]),
        rejected=int(metadata["rejected"]),
        ood=int(metadata["ood"]),
        class_sets="withheld" if int(metadata["withheld"]) else "",
    )


def _plan(
    scenes: list[SceneUri], folder: Path, bundle: Bundle, request: PredictionRequest
) -> dict[str, SceneResult]:
    """Return the status of every scene before the call.

    It is pending, skipped, or failed because of another output.
    """
    counts = Counter(scene.stem for scene in scenes)
    repeated = sorted(name for name, count in counts.items() if count > 1)
    if repeated:
        raise RequestError(
            f"{len(repeated)} names belong to several scenes, such as {repeated[0]}",
            hint="outputs are named after scenes: rename the scenes, or write them into"
            " several folders",
        )
    results = {}
    for scene in scenes:
        out = folder / f"{scene.stem}.gpkg"
        result = SceneResult(
            path_to_text(scene), "pending", output=path_to_text(out), address=scene.text
        )
        try:
            result = replace(result, job=job_key(bundle, [scene], {}, request))
        except NetworkError as error:
            result = replace(result, status="failed", reason=str(error))
        else:
            finished = _read_output(result, "skipped")
            if finished is not None:
                result = finished
            elif out.exists() and not request.overwrite:
                result = replace(result, status="failed", reason=_OTHER_OUTPUT)
        results[result.scene] = result
    return results
