"""Classify many scenes in processes, with one GeoPackage per scene.

Finished scenes are skipped; a failure does not stop others. A scene may run twice if
its process is lost: its output is written to a temporary file and renamed, and only one
process at a time can lock the journal that it is made from.

Scenes are planned while others run. A task is a block of small scenes, or one large
scene, and few tasks are in the executor at the same time. So the memory of this process
is a name per scene, and its time is linear in their number.
"""

import os
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from queue import SimpleQueue

import numpy as np

from rsft.data.imagery.reader import IMAGE_SUFFIXES
from rsft.data.imagery.scene_uri import SceneUri, file_state
from rsft.errors import NetworkError, RequestError, RsftError
from rsft.inference.options import PredictionRequest
from rsft.inference.predict.engine import choose_engine, load_engine
from rsft.inference.predict.job import OpenedBundle, predict
from rsft.inference.predict.open_job import JobKeys
from rsft.inference.scene_table import SceneResult, SceneTable, read_scenes
from rsft.inference.writers.columns import table_columns
from rsft.inference.writers.geopackage import read_geopackage_metadata
from rsft.inference.writers.tables import check_output_path
from rsft.models.bundle.bundle import Bundle
from rsft.scenes.inputs import find_scenes
from rsft.types import Progress
from rsft.utils.executor import Executor, TaskLostError, open_executor
from rsft.utils.journal import journal_path
from rsft.utils.operating_system import path_to_text
from rsft.utils.progress import limit_rate

SCENES_FILE = "scenes.csv"

FLAT_SCENES = 1000
"""Largest number of scenes whose outputs are written into one folder."""

SUBFOLDERS = 1000
"""Number of subfolders for the outputs of more scenes."""

BLOCK_SCENES = 100
"""Largest number of scenes of a task."""

BLOCK_BYTES = 2**28
"""Largest sum of the sizes of the scenes of a task, unless it has one scene."""

BLOCKS_PER_JOB = 8
"""Smallest number of tasks per process, so that all end at about the same time."""

ATTEMPTS = 3
"""Number of attempts at a scene if its job fails for a reason outside rsft, such as a
slow disk or a lack of memory."""

_IMAGE_SUFFIXES = tuple(IMAGE_SUFFIXES)
_PAUSE = 1.0  # seconds before the second attempt; doubled before each later one
_OTHER_OUTPUT = (
    "the existing output was made from another bundle, request, rsft version or state"
    " of the scene: give --overwrite, or another folder"
)


@dataclass(frozen=True)
class ArchiveResult:
    """Results of all scenes, in the order of the inputs, in the file scenes.csv."""

    summary_path: Path

    @property
    def scenes(self) -> Iterator[SceneResult]:
        """The results, read from the file one by one."""
        return read_scenes(self.summary_path)

    @property
    def counts(self) -> Counter[str]:
        """Number of scenes by status."""
        return Counter(result.status for result in self.scenes)


Block = list[SceneResult]
"""Scenes of a task, or their results."""

OpenBundle = Callable[[], OpenedBundle]


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
    return open_executor("auto" if ray else None, jobs, gpus=gpus, modules=[__name__])


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
    check_output_path(
        output_dir / "any.gpkg", table_columns(bundle.classes), overwrite=True
    )
    scenes = _find_different_scenes(inputs)
    folders = _OutputFolders(output_dir.absolute(), len(scenes))
    archive = ArchiveResult(output_dir / SCENES_FILE)
    table = SceneTable(archive.summary_path)
    report = limit_rate(progress) if progress else None
    try:
        planned = _plan(scenes, folders, bundle, request, table)
        largest = len(scenes) // (executor.jobs * BLOCKS_PER_JOB)
        blocks = _make_blocks(planned, min(largest, BLOCK_SCENES))
        results = _run(blocks, bundle, bundle_dir, request, executor)
        for done, result in enumerate(results, 1):
            table.add(result)
            if report:
                report(done, len(scenes), "scenes")
    finally:
        table.finish(
            (path_to_text(SceneUri(scene)) for scene in scenes),
            lambda position: _describe_pending(SceneUri(scenes[position]), folders),
        )
    return archive


def _find_different_scenes(inputs: Sequence[str | Path]) -> list[str]:
    """Return the text of each scene once, with an absolute path.

    The scenes themselves would need a third more memory.

    Raises:
        RequestError: two scenes have the same name.
    """
    scenes = [scene.absolute().text for scene in find_scenes(inputs)]
    # the names themselves would need as much memory as the scenes
    hashes = np.fromiter((hash(SceneUri(scene).stem) for scene in scenes), np.int64)
    if len(np.unique(hashes)) == len(scenes):
        return scenes
    scenes = list(dict.fromkeys(scenes))
    counts = Counter(SceneUri(scene).stem for scene in scenes)
    repeated = sorted(name for name, count in counts.items() if count > 1)
    if repeated:
        raise RequestError(
            f"{len(repeated)} names belong to several scenes, such as {repeated[0]}",
            hint="outputs are named after scenes: rename the scenes, or write them into"
            " several folders",
        )
    return scenes


class _OutputFolders:
    """Decides in which folder the output of a scene is.

    It is a subfolder if the scenes are many. The subfolder is always the same for a
    name, and an earlier output stays where it is.

    Args:
        folder: folder of the outputs, as an absolute path.
        count: number of scenes.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self._folder = folder
        self._is_flat = count <= FLAT_SCENES
        self._earlier = {path.name for path in folder.glob("*.gpkg")}

    def output_path(self, stem: str) -> str:
        """Return the output of the scene with a name."""
        name = f"{stem}.gpkg"
        subfolder = f"{zlib.crc32(os.fsencode(name)) % SUBFOLDERS:03}"
        path = f"{self._folder}{os.sep}{subfolder}{os.sep}{name}"
        is_new = self._is_flat and not Path(path).exists()
        if name in self._earlier or is_new:
            path = f"{self._folder}{os.sep}{name}"
        return path_to_text(path)


def _reject_outputs_of_one_job(request: PredictionRequest) -> None:
    """Raise a RequestError if a job has a review page, a map or a truth."""
    if request.html_path or request.picture_path or request.truth_path:
        raise RequestError(
            "review page, map and truth are for one job, not for an archive",
            "--html, --picture, --truth",
            "leave them out",
        )


def _make_blocks(
    planned: Iterable[tuple[SceneResult, int]], largest: int
) -> Iterator[Block]:
    """Yield blocks of pending scenes; each other scene is a block of its own.

    Args:
        planned: scenes, and their sizes in bytes.
        largest: largest number of scenes of a block.
    """
    block: Block = []
    total = 0
    for result, size in planned:
        if result.status != "pending":
            yield [result]
            continue
        if block and (len(block) >= largest or total + size > BLOCK_BYTES):
            yield block
            block = []
            total = 0
        block.append(result)
        total += size
    if block:
        yield block


def _run(
    blocks: Iterator[Block],
    bundle: Bundle,
    bundle_dir: Path,
    request: PredictionRequest,
    executor: Executor,
) -> Iterator[SceneResult]:
    """Classify blocks of scenes, and yield the results as they finish.

    Two blocks per process are in the executor. The scenes of a lost block are run once
    more, one by one, so that a scene that crashes its process does not stop others.
    """
    running: dict[Future[Block], Block] = {}
    finished: SimpleQueue[Future[Block]] = SimpleQueue()
    lost: list[Block] = []
    repeated: set[str] = set()
    is_checked = False
    while True:
        while len(running) < 2 * executor.jobs:
            block = lost.pop() if lost else next(blocks, [])
            if not block:
                break
            if block[0].status != "pending":
                yield from block
                continue
            if not is_checked:  # raises an error that would make every scene fail
                name = choose_engine(
                    bundle, bundle_dir, request.engine, request.precision, "cpu"
                )
                load_engine(bundle, bundle_dir, name, request.precision)
                is_checked = True
            future = executor.submit(classify_scenes, block, bundle_dir, request)
            running[future] = block
            future.add_done_callback(finished.put)
        if not running:
            return
        future = finished.get()
        block = running.pop(future)
        try:
            yield from future.result()
        except TaskLostError as error:
            if block[0].output in repeated:
                yield block[0]._replace(status="failed", reason=f"{error} (twice)")
                continue
            lost += [[scene] for scene in block]
            repeated.update(scene.output for scene in block)


def classify_scenes(
    planned: Block, bundle_dir: Path, request: PredictionRequest
) -> Block:
    """Classify scenes one after another, see `classify_scene`."""
    # a bundle that cannot be opened is a fault of each scene
    open_bundle = lru_cache(maxsize=1)(partial(OpenedBundle, bundle_dir))
    return [classify_scene(scene, open_bundle, request) for scene in planned]


def classify_scene(
    planned: SceneResult, open_bundle: OpenBundle, request: PredictionRequest
) -> SceneResult:
    """Classify one scene in any process.

    Args:
        planned: scene, output and job, with the status pending.
        open_bundle: returns the bundle.
        request: options of the job.

    Returns:
        A result that is done, or failed with the reason.
    """
    start = time.monotonic()
    finished = _read_output(planned, "done")
    if finished:  # an earlier process was killed right after its work
        return finished
    resumed = journal_path(Path(planned.output)).exists()
    reason = _try_to_predict(planned, open_bundle, request)
    result = None if reason else _read_output(planned, "done")
    if not result:
        reason = reason or "the scene or another input changed during the job"
        result = planned._replace(status="failed", reason=reason)
    seconds = round(time.monotonic() - start, 1)
    return result._replace(seconds=seconds, resumed=resumed)


def _try_to_predict(
    planned: SceneResult, open_bundle: OpenBundle, request: PredictionRequest
) -> str:
    """Classify a scene, and return why it fails; "" if it does not."""
    scene = planned.address or planned.scene
    reason = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(_PAUSE * 2 ** (attempt - 1))
        try:
            predict(
                open_bundle(),
                [scene],
                Path(planned.output),
                request,
                may_be_outside=True,  # positions may lie in other scenes
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
    state = file_state(out)
    metadata = read_geopackage_metadata(out)
    if not state or metadata.get("job") != planned.job:
        return None
    # left behind if the process was killed just before it removed this file
    journal_path(out).unlink(missing_ok=True)
    return planned._replace(
        status=status,
        chips=int(metadata["chips"]),
        rejected=int(metadata["rejected"]),
        ood=int(metadata["ood"]),
        class_sets="withheld" if int(metadata["withheld"]) else "",
        modified=state[1],
    )


def _plan(
    scenes: list[str],
    folders: _OutputFolders,
    bundle: Bundle,
    request: PredictionRequest,
    table: SceneTable,
) -> Iterator[tuple[SceneResult, int]]:
    """Yield the status of each scene before it is run, and its size in bytes.

    It is pending, skipped, or failed because of another output. An output is not opened
    if scenes.csv has its job, and it was not modified since.
    """
    keys = JobKeys(bundle, request)
    for scene in map(SceneUri, scenes):
        try:
            state = scene.state()
        except NetworkError as error:
            result = _describe_pending(scene, folders)
            yield result._replace(status="failed", reason=str(error)), 0
            continue
        result = _describe_pending(scene, folders)
        job = keys.compute([(result.scene, state)])
        result = result._replace(job=job)
        output_state = file_state(result.output)
        if output_state:
            finished = table.find(result.scene)
            identity = job, output_state[1]
            if finished and (finished.job, finished.modified) == identity:
                finished = finished._replace(status="skipped")
            else:
                finished = _read_output(result, "skipped")
            if finished:
                result = finished
            elif not request.overwrite:
                result = result._replace(status="failed", reason=_OTHER_OUTPUT)
        yield result, _count_bytes(scene, state)


def _describe_pending(scene: SceneUri, folders: _OutputFolders) -> SceneResult:
    return SceneResult(
        path_to_text(scene),
        "pending",
        output=folders.output_path(scene.stem),
        address=scene.text,
    )


def _count_bytes(scene: SceneUri, state: tuple[object, ...] | None) -> int:
    """Return the size of an image file, and that of a block for other scenes.

    Folders, and files that name others, do not tell how large a scene is.
    """
    size = state[0] if state else None
    if isinstance(size, int) and scene.text.lower().endswith(_IMAGE_SUFFIXES):
        return size
    return BLOCK_BYTES
