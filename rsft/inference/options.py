"""The options of a prediction job. Each field with an `Option` is an option of `rsft predict`, and says what it does.

The command line imports this module for its help, so it imports nothing heavy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, get_args

from rsft.data.imagery.products.options import DEFAULT_OPTIONS, ProductOptions
from rsft.errors import RequestError
from rsft.inference.engines.base import ENGINES
from rsft.utils.command_options import Option

_SCENES, _DETECTION, _PIXELS = "Where to cut chips in a scene", "Detection", "Pixels of the input"
_OUTPUTS, _SPEED = "Outputs", "Speed"

LandKeyword = Literal["auto", "brightness", "none"]
"""A keyword of `--land`."""

LandSource = Path | LandKeyword
"""Where the mask of land comes from: a file of polygons, or a keyword of `--land`."""

LAND_KEYWORDS: tuple[LandKeyword, ...] = get_args(LandKeyword)


def parse_land(text: str) -> LandSource:
    """Return the value of `--land`: a keyword, or the path of a file.

    Args:
        text: the text on the command line. `./none` is a file.
    """
    return next((keyword for keyword in LAND_KEYWORDS if keyword == text), Path(text))


@dataclass(frozen=True)
class CfarOptions:
    """Options of the detector of bright objects.

    With land "auto", the shorelines of roaring-landmask are used if it is installed and the scene has a georeference,
    else "brightness", which treats large bright regions as land. "none" searches everywhere.
    """

    pfa: Annotated[
        float, Option("Probability of a false alarm per pixel of water, for --detect.", panel=_DETECTION)
    ] = 1e-6
    land: Annotated[
        LandSource,
        Option(
            "Land, where --detect does not search: a file of polygons, brightness (large bright regions), none, or "
            "auto (shorelines of OpenStreetMap if rsft\\[land] is installed, else brightness).",
            panel=_DETECTION,
            metavar="FILE",
        ),
    ] = "auto"

    def __post_init__(self) -> None:
        if not 0 < self.pfa < 0.1:
            message = f"the false alarm rate of {self.pfa:g} is not between 0 and 0.1"
            raise RequestError(message, "--pfa", "give a rate such as 1e-6")


@dataclass(frozen=True)
class SceneQuery:
    """Where chips are cut in scenes. Without `at`, `grid` and `detect` the inputs are chips."""

    at: Annotated[
        Path | None,
        Option(
            "Positions of objects: .gpkg, .geojson, .csv; DOTA or YOLO .txt, or a folder of them; COCO .json.",
            panel=_SCENES,
        ),
    ] = None
    crs: Annotated[
        str | None,
        Option(
            "Coordinate system of --at, if the file does not declare it: EPSG:32633, or pixel.", "--at-crs", _SCENES
        ),
    ] = None
    grid: Annotated[int | None, Option("Tile the scene; size of a tile in chip pixels.", panel=_SCENES, min=1)] = None
    stride: Annotated[
        int | None,
        Option("Step between tiles in chip pixels (default: the tile size, no overlap).", panel=_SCENES, min=1),
    ] = None
    detect: Annotated[
        CfarOptions | None,
        Option("Detect bright objects on dark water with CA-CFAR; not all are ships.", panel=_DETECTION),
    ] = None
    layer: Annotated[str | None, Option("Layer of --at, if the file has several.", panel=_SCENES)] = None

    def __post_init__(self) -> None:
        options = [name for name in ("at", "grid", "detect") if getattr(self, name) is not None]
        if len(options) > 1:
            message = f"--{' and --'.join(options)} cannot be used together"
            raise RequestError(message, hint="choose one of --at, --grid and --detect")
        if self.stride is not None and self.grid is None:
            raise RequestError("--stride needs --grid", "--stride", "give --grid as well")
        for option, value in {"--at-crs": self.crs, "--layer": self.layer}.items():
            if value is not None and self.at is None:
                raise RequestError(f"{option} needs positions", option, "give --at as well")

    @property
    def reads_scenes(self) -> bool:
        """Whether the inputs are scenes."""
        return self.at is not None or self.grid is not None or self.detect is not None


@dataclass(frozen=True)
class Declaration:
    """Properties of the pixels of a file, as the user or a chip store declares them; None if not declared.

    Attributes:
        unit: unit of the pixels, such as "sigma0".
        bands: names of the bands, in the order of the file.
        spacing_m: pixel spacing in meters.
    """

    unit: Annotated[
        str | None,
        Option(
            "Unit, if the files do not declare it: amplitude, intensity, sigma0, db, gamma0, gamma0_db or beta0.",
            panel=_PIXELS,
        ),
    ] = None
    bands: Annotated[
        tuple[str, ...] | None,
        Option(
            "Bands in the order of the file, such as VH,VV (default: as the file or the bundle names them).",
            panel=_PIXELS,
        ),
    ] = None
    spacing_m: float | None = None

    def merge(self, other: Declaration) -> Declaration:
        """Return a copy whose missing fields are taken from another declaration."""
        return Declaration(self.unit or other.unit, self.bands or other.bands, self.spacing_m or other.spacing_m)


UNDECLARED = Declaration()
"""A declaration without any property."""


@dataclass(frozen=True)
class ChipOptions:
    """Size of chips and of their pixels. None takes a value from the contract or the file.

    With a margin, each chip is as large as its box and this margin.
    """

    side: Annotated[int | None, Option("Chip size in pixels (default: the bundle's).", panel=_PIXELS, min=1)] = None
    margin: Annotated[
        int | None, Option("Cut chips along boxes, with this margin in pixels.", panel=_PIXELS, min=0)
    ] = None
    resample_to: Annotated[
        float | None, Option("Resample chips to this pixel spacing in meters.", panel=_PIXELS, min=0.001)
    ] = None
    spacing: Annotated[
        float | None, Option("Pixel spacing in meters, if a file has no georeference.", panel=_PIXELS, min=0.001)
    ] = None


@dataclass(frozen=True)
class PredictionRequest:
    """Options of a prediction job, apart from bundle, inputs and output.

    Attributes:
        query: where to cut chips in scenes; by default the inputs are chips.
        declaration: unit, bands and pixel spacing of all inputs. Missing values come from the manifest of a chip store
            or from the files.
        chip_options: size of chips and of their pixels.
        product_options: how the values of scenes are read.
        precision: None leaves the choice to the engine.
    """

    query: SceneQuery = field(default_factory=SceneQuery)
    declaration: Declaration = UNDECLARED
    chip_options: ChipOptions = field(default_factory=ChipOptions)
    product_options: ProductOptions = DEFAULT_OPTIONS
    chips_dir: Annotated[
        Path | None, Option("Folder in which chips cut from scenes are saved as GeoTIFF.", "--chips", _OUTPUTS)
    ] = None
    html_path: Annotated[
        Path | None, Option("HTML page to write, for reviewing and correcting labels.", "--html", _OUTPUTS)
    ] = None
    picture_path: Annotated[
        Path | None,
        Option(
            "PNG to write: a map of the scene with the classified objects, legend, scale and north arrow.",
            "--picture",
            _OUTPUTS,
        ),
    ] = None
    truth_path: Annotated[
        Path | None,
        Option(
            "Positions and classes (column class) of the true objects, as for --at. Prints how many --detect found.",
            "--truth",
            _DETECTION,
        ),
    ] = None
    overwrite: Annotated[bool, Option("Replace existing output.")] = False
    discard_corrections: Annotated[
        bool, Option("With --overwrite: replace even a table that contains corrected classes.", panel=_OUTPUTS)
    ] = False
    batch_size: Annotated[int, Option("Number of chips in a batch.", panel=_SPEED, min=1)] = 32
    readers: Annotated[int, Option("Number of threads that read chips.", panel=_SPEED, min=1)] = 1
    device: Annotated[str, Option("Device: auto, cpu or cuda.")] = "auto"
    engine: Annotated[
        str,
        Option(
            f"auto (the fastest that is exact), {', '.join(ENGINES)}, or an export of this bundle (`rsft export`).",
            panel=_SPEED,
            metavar="ENGINE",
        ),
    ] = "auto"
    precision: Annotated[
        str | None,
        Option(
            "fp32, bf16 or int8 (default: fp32; with auto, any exact one). Not every engine supports all.",
            panel=_SPEED,
        ),
    ] = None


DEFAULT_REQUEST = PredictionRequest()
"""A request for chips with default options."""
