"""Many scenes, one GeoPackage each: what is done is not done again, and what fails does not stop the rest."""

from __future__ import annotations

import csv
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from rsft.errors import RequestError, RsftError
from rsft.inference.engines.engines import torch_engine
from rsft.inference.inputs.chip_source import text
from rsft.inference.inputs.discovery import find_scenes
from rsft.inference.predict.job import job_key, journal_of, predict
from rsft.inference.predict.request import Request, columns
from rsft.inference.writers.geopackage import read_metadata
from rsft.inference.writers.tables import check_output
from rsft.models.bundle.bundle import Bundle
from rsft.types import Progress
from rsft.utils.atomic_files import replacing

SUMMARY = "scenes.csv"

ATTEMPTS = 3
"""At a scene whose job ends by a fault that is none of rsft's: a disk that does not answer, a want of memory."""

_PAUSE = 1.0  # seconds before the second attempt, and twice as long before each next


@dataclass(frozen=True)
class Outcome:
    """What became of a scene.

    Attributes:
        scene: its path.
        status: done, failed, skipped (done by an earlier call) or left (not reached).
        chips: that were classified.
        refused: chips that were not.
        seconds: of the job.
        resumed: whether it went on with a job that was stopped.
        output: the GeoPackage.
        job: hash of all that decides what is in it, which its metadata have as well.
        reason: why it failed.
    """

    scene: str
    status: str
    chips: int = 0
    refused: int = 0
    seconds: float = 0.0
    resumed: bool = False
    output: str = ""
    job: str = ""
    reason: str = ""


Spread = Callable[[Sequence[Outcome], Path, Request], Iterator[Outcome]]
"""Gives scenes that are left, with bundle and request, to processes that call `classify_scene`; yields what it returns,
in any order. A scene that is not told of was lost.
"""


@dataclass(frozen=True)
class Archive:
    """What became of all, in the order given, and the table that says so."""

    outcomes: list[Outcome]
    summary: Path

    @property
    def counts(self) -> Counter[str]:
        """Scenes by status."""
        return Counter(outcome.status for outcome in self.outcomes)


def predict_archive(
    bundle_dir: Path,
    inputs: Sequence[Path],
    folder: Path,
    request: Request,
    spread: Spread,
    progress: Progress | None = None,
) -> Archive:
    """Classify scenes, each into `folder`/<its name>.gpkg, and write `folder`/scenes.csv, whatever ends the call.

    A scene is skipped where its output is there and was made of the same scene, bundle and request by the same rsft.

    Raises:
        RequestError: no bundle, two scenes of one name, or a request that archives do not take.
        WeightsError: a bundle that cannot be used here.
    """
    if not request.look.is_for_scenes:
        raise RequestError("an archive is one of scenes", fix="say where to look: --at, --grid or --detect")
    if request.html is not None:
        raise RequestError("no page of a whole archive", "--html", "make it of the scenes that you want to look at")
    bundle, request = Bundle.load(bundle_dir), _settled(request)
    check_output(folder / "any.gpkg", columns(bundle.classes), overwrite=True)
    scenes = dict.fromkeys(scene.absolute() for scene in find_scenes(inputs))
    found = _planned(list(scenes), folder.absolute(), bundle, request)
    todo = [outcome for outcome in found.values() if outcome.status == "left"]
    archive = Archive([], folder / SUMMARY)
    try:
        if todo:
            torch_engine(bundle, "cpu")  # what is wrong with all of them is told before the first
            for outcome in spread(todo, bundle_dir, request):
                found[outcome.scene] = outcome
                if progress:
                    progress(len(found) - sum(each.status == "left" for each in found.values()), len(found), "scenes")
            lost = {outcome.scene: outcome for outcome in todo if found[outcome.scene].status == "left"}
            found |= {scene: replace(outcome, status="failed", reason=_LOST) for scene, outcome in lost.items()}
    finally:
        archive.outcomes.extend(found.values())
        _write(archive)
    return archive


_LOST = f"its process was killed {ATTEMPTS} times, perhaps for want of memory"


def classify_scene(left: Outcome, bundle_dir: Path, request: Request) -> Outcome:
    """The job of one scene, in whatever process; whatever goes wrong with it is in what it returns."""
    began, out = time.monotonic(), Path(left.output)
    if (made := _made(left, "done")) is not None:  # its process was killed after the last byte
        return made
    resumed = journal_of(out).exists()
    for attempt in range(ATTEMPTS):
        try:
            result = predict(bundle_dir, [Path(left.scene)], out, request)
            chips, refused, fault = len(result.table), len(result.rejected), ""
            break
        except RsftError as error:  # it would say the same again
            chips, refused, fault = 0, 0, str(error)
            break
        except Exception as error:  # of a library or the system: this scene fails, not the archive
            chips, refused, fault = 0, 0, f"{type(error).__name__}: {error}"
            time.sleep(_PAUSE * 2**attempt if attempt + 1 < ATTEMPTS else 0)
    return replace(
        left,
        status="failed" if fault else "done",
        chips=chips,
        refused=refused,
        seconds=round(time.monotonic() - began, 1),
        resumed=resumed,
        reason=" ".join(fault.split()),
    )


def _made(left: Outcome, status: str) -> Outcome | None:
    """What the output says, if it is there and of this very job."""
    out = Path(left.output)
    told = read_metadata(out)
    if told.get("job") != left.job:
        return None
    journal_of(out).unlink(missing_ok=True)  # of a process that was killed just before it would have removed it
    return replace(left, status=status, chips=int(told["chips"]), refused=int(told["refused"]))


def _settled(request: Request) -> Request:
    """The same from whatever folder the call is made again."""
    look, chips = request.look, request.chips
    if look.at is not None:
        look = replace(look, at=look.at.absolute())
    if look.detect is not None and look.detect.land is not None:
        look = replace(look, detect=replace(look.detect, land=look.detect.land.absolute()))
    return replace(request, look=look, chips=chips and chips.absolute(), empty=True)


def _planned(scenes: list[Path], folder: Path, bundle: Bundle, request: Request) -> dict[str, Outcome]:
    names = Counter(scene.stem for scene in scenes)
    twice = sorted(name for name, count in names.items() if count > 1)
    if twice:
        raise RequestError(
            f"{len(twice)} names are those of several scenes, such as {twice[0]}",
            fix="outputs are called as scenes: rename them, or give them to several folders",
        )
    found = {}
    for scene in scenes:
        out = folder / f"{scene.stem}.gpkg"
        left = Outcome(text(scene), "left", output=text(out), job=job_key(bundle, [scene], {}, request))
        outcome = _made(left, "skipped") or left
        if outcome is left and out.exists() and not request.overwrite:
            outcome = replace(left, status="failed", reason=_ANOTHER)
        found[outcome.scene] = outcome
    return found


_ANOTHER = (
    "there is an output of another bundle, request, rsft or state of the scene: give --overwrite, or another folder"
)


def _write(archive: Archive) -> None:
    rows: list[dict[str, Any]] = [asdict(outcome) for outcome in archive.outcomes]
    with replacing(archive.summary) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, [field.name for field in fields(Outcome)])
        table.writeheader()
        table.writerows(rows)
