"""Where in scenes to look, and the sources that come of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from rsft.data.imagery.contract import Contract
from rsft.errors import RequestError
from rsft.inference.detection.detector import Detector, detect
from rsft.inference.inputs.discovery import Declared
from rsft.inference.inputs.scene_chips import SceneChips, check_scene
from rsft.inference.predict.resume_journal import Journal
from rsft.inference.scenes.chip_window import Framing, Wishes, framing, spacing_of
from rsft.inference.scenes.locations import Place, Places, tiles
from rsft.inference.scenes.position_files import read_positions
from rsft.inference.scenes.raster import Scene, open_scene
from rsft.types import Progress


@dataclass(frozen=True)
class Look:
    """What to look at in a scene; without any of the three, inputs are loose chips.

    Attributes:
        at: a file of positions, see `read_positions`.
        crs: its coordinate system, where it does not say it.
        grid: side of tiles in pixels of the chip.
        stride: from one tile to the next; the side if None.
        detect: find bright objects on dark water.
    """

    at: Path | None = None
    crs: str | None = None
    grid: int | None = None
    stride: int | None = None
    detect: Detector | None = None

    def __post_init__(self) -> None:
        ways = [name for name in ("at", "grid", "detect") if getattr(self, name) is not None]
        if len(ways) > 1:
            raise RequestError(f"--{' and --'.join(ways)} at once", fix="choose one of --at, --grid and --detect")
        if self.stride is not None and self.grid is None:
            raise RequestError("a stride without a grid", "--stride", "give --grid as well")
        if self.crs is not None and self.at is None:
            raise RequestError("a coordinate system without positions", "--at-crs", "give --at as well")

    @property
    def is_for_scenes(self) -> bool:
        """Whether the inputs are scenes."""
        return self.at is not None or self.grid is not None or self.detect is not None


class Found(NamedTuple):
    """Sources, scene by scene, with what was left out and what the reader should know."""

    sources: list[SceneChips]
    scenes: list[Scene]
    rejected: list[tuple[str, int, str]]
    notes: list[str]


def look(
    paths: Sequence[Path],
    wanted: Look,
    wishes: Wishes,
    declared: Declared,
    contract: Contract,
    *,
    journal: Journal,
    keep: Path | None = None,
    progress: Progress | None = None,
) -> Found:
    """The places of scenes as sources; what was detected is in the journal, and need not be detected twice.

    Raises:
        RequestError: an option that does not fit.
        DataError: a scene that cannot be read, or breaks the contract.
    """
    scenes = [open_scene(path) for path in paths]
    names = [scene.name for scene in scenes]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RequestError(f"two scenes are called {twice[0]}", fix="classify them one by one, or rename one")
    found = Found([], scenes, [], [])
    pixels = all(scene.place is None for scene in scenes)
    for scene in scenes:
        check_scene(scene, contract, declared)
        places, frame = _places(scene, wanted, wishes, declared, contract, journal, progress)
        spacing = spacing_of(scene.spacing, wishes)
        if spacing is not None:
            spacing = spacing[0] * frame.scale[0], spacing[1] * frame.scale[1]
        tiled = wanted.grid is not None
        source = SceneChips(
            scene, places.places, contract, frame, spacing, declared=declared, pixels=pixels, tiled=tiled, keep=keep
        )
        found.sources.append(source)
        found.rejected.extend(places.rejected)
        found.notes.extend(_of_scene(scene, spacing, contract) + places.notes)
        if source.over_the_edge:
            found.notes.append(f"chips of {scene.path.name} that reach over its edge: {source.over_the_edge:,}")
    return found


def _places(
    scene: Scene,
    wanted: Look,
    wishes: Wishes,
    declared: Declared,
    contract: Contract,
    journal: Journal,
    progress: Progress | None,
) -> tuple[Places, Framing]:
    if wanted.at is not None:
        places = read_positions(wanted.at, scene, wanted.crs)
        return places, framing(contract, scene, wishes, any(place.box is None for place in places.places))
    if wanted.grid is not None:
        if contract.crop not in (None, wanted.grid):
            what = f"tiles of {wanted.grid} pixels, but the model looks at the middle {contract.crop} of a chip"
            raise RequestError(what, "--grid", f"give --grid {contract.crop}")
        frame = framing(contract, scene, Wishes(wanted.grid, None, wishes.resample_to, wishes.spacing), points=False)
        side, stride = (
            (size * frame.scale[0], size * frame.scale[1]) for size in (wanted.grid, wanted.stride or wanted.grid)
        )
        return tiles(scene, side, stride), frame
    assert wanted.detect is not None
    frame = framing(contract, scene, wishes, points=True)
    name = f"detected in {scene.name}"
    known = journal.noted(name)
    if known is None:
        places = detect(scene, wanted.detect, frame, declared, contract, progress)
        known = json.dumps(asdict(places))
        journal.note(name, known)
    return _again(known), frame


def _again(text: str) -> Places:
    """Places as `asdict` and JSON keep them."""
    kept = json.loads(text)
    places = [Place(**place | {"box": tuple(place["box"])}) for place in kept["places"]]
    return Places(places, [], kept["notes"])


def _of_scene(scene: Scene, spacing: tuple[float, float] | None, contract: Contract) -> list[str]:
    name, notes = scene.path.name, []
    if scene.place is None:
        notes.append(f"{name} has no georeference: places are in its pixels")
    else:
        notes.append(f"{name} lies by {scene.place.how}")
    if spacing is None and contract.spacing_m is not None:
        notes.append(
            f"the pixel spacing of {name} is not known, and not compared with the model's {contract.spacing_m:g} m"
        )
    return notes
