"""Where chips are cut in scenes: the options that locate objects.

The command line imports this module for its help, so it imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, get_args

from rsft.errors import RequestError
from rsft.scenes.locators import describe_locators
from rsft.utils.command_options import Access, Option

_scene = partial(Option, panel="Where to cut chips in a scene")
_detection = partial(Option, panel="Detection")

LandKeyword = Literal["auto", "brightness", "none"]
"""A keyword of `--land`."""

LandSource = Path | LandKeyword
"""Where the mask of land comes from: a file of polygons, or a keyword of `--land`."""

LAND_KEYWORDS: tuple[LandKeyword, ...] = get_args(LandKeyword)


def parse_land(text: str) -> LandSource:
    """Return the value of `--land`: a keyword, or a path; `./none` is a file."""
    return next((keyword for keyword in LAND_KEYWORDS if keyword == text), Path(text))


@dataclass(frozen=True)
class CfarOptions:
    """Options of the detector of bright objects.

    With land "auto", the shorelines of roaring-landmask are used if it is installed and
    the scene has a georeference, else "brightness", which treats large bright regions
    as land. "none" searches everywhere.
    """

    pfa: Annotated[
        float,
        _detection(
            "Probability of a false alarm per pixel of water, in the detection."
        ),
    ] = 1e-6
    land: Annotated[
        LandSource,
        _detection(
            "Land, where nothing is detected: a file of polygons, brightness (large"
            " bright regions), none, or auto (shorelines of OpenStreetMap if"
            " rsft\\[land] is installed, else brightness).",
            metavar="FILE",
            parse=parse_land,
        ),
    ] = "auto"

    def __post_init__(self) -> None:
        if not 0 < self.pfa < 0.1:
            raise RequestError(
                f"the false alarm rate of {self.pfa:g} is not between 0 and 0.1",
                "--pfa",
                "give a rate such as 1e-6",
            )


@dataclass(frozen=True)
class ObjectQuery:
    """Where objects are, and what is known about them.

    Attributes:
        sources: files of locators by their names, see `rsft.scenes.locators`.
    """

    at: Annotated[
        Path | None,
        _scene(
            "Positions or labels of objects: a layer, a table, or labels (DOTA, YOLO,"
            " COCO, Pascal VOC, CVAT, LabelMe, Label Studio, xView3); or a folder with"
            " one file per scene.",
            metavar="FILE",
            access=Access.OBJECTS,
        ),
    ] = None
    crs: Annotated[
        str | None,
        _scene(
            "Coordinate system of --at, if the file does not declare it: EPSG:32633, or"
            " pixel."
        ),
    ] = None
    layer: Annotated[str | None, _scene("Layer of --at, if the file has several.")] = (
        None
    )
    columns: Annotated[
        str | None,
        _scene(
            "Columns of --at by their role, if their names do not tell it:"
            " lon=X,lat=Y,class=kind."
        ),
    ] = None
    sources: Annotated[
        Mapping[str, Path], _scene("", metavar="FILE", each=describe_locators)
    ] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for option in ("crs", "layer", "columns"):
            if getattr(self, option) is not None and self.at is None:
                raise _missing_option(option, "--at")


def _missing_option(option: str, needed: str) -> RequestError:
    return RequestError(
        f"--{option} needs {needed}", f"--{option}", f"give {needed} as well"
    )


@dataclass(frozen=True)
class Query(ObjectQuery):
    """Where chips are cut in scenes.

    Without `at`, `grid` and `detect` the inputs are chips.
    """

    grid: Annotated[
        int | None, _scene("Tile the scene; size of a tile in chip pixels.", min=1)
    ] = None
    stride: Annotated[
        int | None,
        _scene(
            "Step between tiles in chip pixels (default: the tile size, no overlap).",
            min=1,
        ),
    ] = None
    detect: Annotated[
        CfarOptions | None,
        _detection(
            "Detect bright objects on dark water with CA-CFAR; not all are ships."
        ),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        names = ("at", "grid", "detect")
        options = [f"--{name}" for name in names if getattr(self, name) is not None]
        if len(options) > 1:
            raise RequestError(
                f"{' and '.join(options)} cannot be used together",
                hint="choose one of --at, --grid and --detect",
            )
        for name in self.sources:
            if options in ([], ["--grid"]):
                raise _missing_option(name, "--at or --detect")
        if self.stride is not None and self.grid is None:
            raise _missing_option("stride", "--grid")

    def files(self) -> list[Path]:
        """Return the files that say where objects are, and of which class."""
        paths = [self.at, self.detect and self.detect.land, *self.sources.values()]
        return [path for path in paths if isinstance(path, Path)]

    @property
    def reads_scenes(self) -> bool:
        """Whether the inputs are scenes."""
        return (self.at, self.grid, self.detect) != (None, None, None)
