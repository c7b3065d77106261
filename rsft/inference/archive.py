"""Classify many scenes in processes of Ray Data, on this machine or on a cluster, with one GeoPackage per scene.

Finished scenes are skipped; a failure does not stop others. Each scene is a separate
block, so Ray repeats only this scene if its process or machine is lost. Ray may also
run a block twice. The output is still complete: it is written to a temporary file and
renamed, and only one process at a time can lock the journal that it is made from.
"""

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import pandas as pd
import ray
import ray.data

from rsft.data.imagery.scene_uri import SceneUri
from rsft.errors import NetworkError, RequestError, RsftError
from rsft.inference.engines.base import REFERENCE
from rsft.inference.options import PredictionRequest
from rsft.inference.predict.batch_journal import journal_path
from rsft.inference.predict.bundles import reject_scene_outputs
from rsft.inference.predict.inputs import find_scenes
from rsft.inference.predict.job import job_key, predict
from rsft.inference.selection.fastest import load_engine
from rsft.inference.writers.columns import table_columns
from rsft.inference.writers.geopackage import read_geopackage_metadata
from rsft.inference.writers.tables import check_output_path
from rsft.models.bundle.bundle import Bundle
from rsft.types import Progress
from rsft.utils.operating_system import path_to_text
from rsft.utils.ray_cluster.session import ray_session
from rsft.utils.tables import write_csv_table

SCENES_FILE = "scenes.csv"

ATTEMPTS = 3
"""Number of attempts at a scene if its job fails for a reason outside rsft, such as a
slow disk or a lack of memory."""

_PAUSE = 1.0  # seconds before the second attempt; doubled before each later one

_KILLED = f"its process was killed {ATTEMPTS} times, perhaps for lack of memory"
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


SceneExecutor = Callable[
    [Sequence[SceneResult], Path, PredictionRequest], Iterator[SceneResult]
]
"""Distributes scenes to processes that call `classify_scene`, and yields the results in
any order.

Its arguments are the scenes with the status pending, the bundle's folder and the
request. If a scene has no result, its process was killed."""


@dataclass(frozen=True)
class ArchiveResult:
    """Results of all scenes, in the order of the inputs, and the path of scenes.csv."""

    scenes: list[SceneResult]
    summary_path: Path

    @property
    def counts(self) -> Counter[str]:
        """Number of scenes by status."""
        return Counter(result.status for result in self.scenes)


def predict_archive(
    bundle_dir: Path,
    inputs: Sequence[str | Path],
    output_dir: Path,
    request: PredictionRequest,
    executor: SceneExecutor,
    progress: Progress | None = None,
) -> ArchiveResult:
    """Classify scenes into `output_dir`/<scene>.gpkg, and write scenes.csv there even if interrupted.

    A scene is skipped if its output was made by this version of rsft from the same
    scene, bundle and request.

    Args:
        bundle_dir: folder of the bundle.
        inputs: scenes, folders, globs or lists (@file).
        output_dir: folder of the outputs.
        request: options of every scene's job.
        executor: distributes the scenes to processes.
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
    reject_scene_outputs(
        request, "review page, map and truth are for one job, not for an archive"
    )
    bundle = Bundle.load(bundle_dir)
    chips_dir = request.chips_dir
    request = replace(
        request,
        query=request.query.absolute(),
        chips_dir=chips_dir and chips_dir.absolute(),
    )
    check_output_path(
        output_dir / "any.gpkg", table_columns(bundle.classes), overwrite=True
    )
    scenes = dict.fromkeys(scene.absolute() for scene in find_scenes(inputs))
    results = _plan(list(scenes), output_dir.absolute(), bundle, request)
    remaining = [result for result in results.values() if result.status == "pending"]
    archive = ArchiveResult([], output_dir / SCENES_FILE)
    try:
        if remaining:
            load_engine(
                bundle, REFERENCE, "cpu"
            )  # raises an error that would make every scene fail
            for result in executor(remaining, bundle_dir, request):
                results[result.scene] = result
                if progress:
                    progress(
                        sum(x.status != "pending" for x in results.values()),
                        len(results),
                        "scenes",
                    )
            for planned in remaining:
                if results[planned.scene].status == "pending":
                    results[planned.scene] = replace(
                        planned, status="failed", reason=_KILLED
                    )
    finally:
        archive.scenes.extend(results.values())
        names = [field.name for field in fields(SceneResult)]
        table = pd.DataFrame(
            [asdict(result) for result in archive.scenes], columns=names
        ).drop(columns="address")
        write_csv_table(table, archive.summary_path)
    return archive


def classify_scene(
    planned: SceneResult, bundle_dir: Path, request: PredictionRequest
) -> SceneResult:
    """Classify one scene in any process, and return a result that is done or failed, with the error.

    Args:
        planned: scene, output and job, with the status pending.
        bundle_dir: folder of the bundle.
        request: options of the job.
    """
    start = time.monotonic()
    out = Path(planned.output)
    finished = _read_output(planned, "done")
    if finished is not None:  # an earlier process was killed right after its work
        return finished
    resumed = journal_path(out).exists()
    scene = planned.address or planned.scene
    reason = ""
    for attempt in range(ATTEMPTS):
        try:
            predict(
                bundle_dir, [scene], out, request, may_be_outside=True
            )  # positions may lie in other scenes
            reason = ""
            break
        except RsftError as error:  # another attempt would end in the same way
            reason = str(error)
            break
        except (
            Exception
        ) as error:  # from a library or the system; other scenes are not affected
            reason = f"{type(error).__name__}: {error}"
            time.sleep(_PAUSE * 2**attempt if attempt + 1 < ATTEMPTS else 0)
    result = None if reason else _read_output(planned, "done")
    reason = (
        " ".join(reason.split()) or "the scene or another input changed during the job"
    )
    result = result or replace(planned, status="failed", reason=reason)
    return replace(result, seconds=round(time.monotonic() - start, 1), resumed=resumed)


def _read_output(planned: SceneResult, status: str) -> SceneResult | None:
    """Return the result of an existing output; None if it does not exist, or if another job made it."""
    out = Path(planned.output)
    metadata = read_geopackage_metadata(out)
    if metadata.get("job") != planned.job:
        return None
    journal_path(out).unlink(
        missing_ok=True
    )  # left behind if the process was killed just before it removed this file
    chips = int(metadata["chips"])
    rejected = int(metadata["rejected"])
    ood = int(metadata["ood"])
    withheld = int(metadata["withheld"])
    return replace(
        planned,
        status=status,
        chips=chips,
        rejected=rejected,
        ood=ood,
        class_sets="withheld" if withheld else "",
    )


def _plan(
    scenes: list[SceneUri], folder: Path, bundle: Bundle, request: PredictionRequest
) -> dict[str, SceneResult]:
    """Return the status of every scene before the call: pending, skipped, or failed because of another output."""
    counts = Counter(scene.stem for scene in scenes)
    repeated = sorted(name for name, count in counts.items() if count > 1)
    if repeated:
        raise RequestError(
            f"{len(repeated)} names belong to several scenes, such as {repeated[0]}",
            hint=(
                "outputs are named after scenes: rename the scenes, or write them into"
                " several folders"
            ),
        )
    results = {}
    for scene in scenes:
        out = folder / f"{scene.stem}.gpkg"
        planned = SceneResult(
            path_to_text(scene), "pending", output=path_to_text(out), address=scene.text
        )
        try:
            planned = replace(planned, job=job_key(bundle, [scene], {}, request))
        except NetworkError as error:
            results[planned.scene] = replace(
                planned, status="failed", reason=str(error)
            )
            continue
        result = _read_output(planned, "skipped") or planned
        if result is planned and out.exists() and not request.overwrite:
            result = replace(planned, status="failed", reason=_OTHER_OUTPUT)
        results[result.scene] = result
    return results


def ray_executor(address: str | None = None, jobs: int | None = None) -> SceneExecutor:
    """Return an executor that distributes scenes over a cluster or over this machine.

    All machines must see the working directory, bundle, scenes and outputs under the
    same paths.

    Args:
        address: address of the cluster; None for this machine.
        jobs: number of scenes at the same time (default: the number of cores, or of
            GPUs if the request uses them).

    Returns:
        The executor, which starts Ray when it is called and stops it at the end.
    """

    def execute(
        scenes: Sequence[SceneResult], bundle_dir: Path, request: PredictionRequest
    ) -> Iterator[SceneResult]:
        working_dir = Path.cwd()

        def classify(row: dict[str, Any]) -> dict[str, Any]:
            os.chdir(
                working_dir
            )  # so that relative paths mean the same as in the parent process
            return asdict(classify_scene(SceneResult(**row), bundle_dir, request))

        os.environ["RAY_TASK_MAX_RETRIES"] = str(
            ATTEMPTS - 1
        )  # of a task whose process is killed
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        with ray_session(address):
            context: Any = ray.data.DataContext.get_current()
            context.enable_progress_bars = context.print_on_execution_start = False
            context.max_errored_blocks = (
                -1
            )  # continue with other scenes if Ray gives up on one
            resources: Any = ray.cluster_resources  # not typed
            uses_gpu = request.device == "cuda" or (
                request.device == "auto" and "GPU" in resources()
            )
            rows = ray.data.from_items(
                [asdict(scene) for scene in scenes], override_num_blocks=len(scenes)
            )
            function: Any = classify
            for row in rows.map(
                function, num_cpus=1, num_gpus=int(uses_gpu), concurrency=jobs
            ).iter_rows():
                yield SceneResult(**row)

    return execute
