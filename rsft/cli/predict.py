"""`rsft predict`: classify chips or scenes, and write a table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rsft.cli.display.console import progress, quiet_console, show_paths, warn_about_licenses
from rsft.cli.options import BundleArgument, DeviceOption, OverwriteOption, band_names, unit_name
from rsft.errors import RequestError
from rsft.inference.engines.base import ENGINES

if TYPE_CHECKING:
    from rsft.data.imagery.products.product import ProductOptions
    from rsft.inference.detection.options import CfarOptions
    from rsft.inference.predict.request import PredictionRequest
    from rsft.inference.predict.scene_plan import SceneQuery
    from rsft.inference.scenes.chip_window import ChipOptions
    from rsft.types import Progress

app = typer.Typer()

_LOCATIONS, _PIXELS, _JOB = "Where to cut chips in a scene", "Pixels of the input", "Job"
_ARCHIVE, _ENGINE = "Many scenes", "Engine"


InputsArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT...",
        help="Chips: files, folders, globs, @list. With --at, --grid or --detect, scenes: rasters, .SAFE folders, "
        ".zip files, https:// and s3:// addresses, /vsi names, subdatasets (NETCDF:file:variable), STAC items.",
    ),
]
OutOption = Annotated[
    Path, typer.Option("--out", "-o", help="Output table: .gpkg, .geojson, .parquet or .csv. With --ray: a folder.")
]


def _option(panel: str, help_text: str, *names: str, **limits: Any) -> Any:
    return typer.Option(*names, help=help_text, rich_help_panel=panel, **limits)


At = Annotated[
    Path | None,
    _option(
        _LOCATIONS, "Positions of objects: .gpkg, .geojson, .csv; DOTA or YOLO .txt, or a folder of them; COCO .json."
    ),
]
AtCrs = Annotated[
    str | None, _option(_LOCATIONS, "Coordinate system of --at, if the file does not declare it: EPSG:32633, or pixel.")
]
Layer = Annotated[str | None, _option(_LOCATIONS, "Layer of --at, if the file has several.")]
Grid = Annotated[int | None, _option(_LOCATIONS, "Tile the scene; size of a tile in chip pixels.", min=1)]
Stride = Annotated[
    int | None, _option(_LOCATIONS, "Step between tiles in chip pixels (default: the tile size, no overlap).", min=1)
]
Detect = Annotated[
    bool, _option(_LOCATIONS, "Detect bright objects on dark water with CA-CFAR; not all are ships.", "--detect")
]
Pfa = Annotated[float, _option(_LOCATIONS, "Probability of a false alarm per pixel of water, for --detect.")]
Land = Annotated[
    str,
    _option(
        _LOCATIONS,
        "Land, where --detect does not search: a file of polygons, brightness (large bright regions), none, or auto "
        "(shorelines of OpenStreetMap if rsft\\[land] is installed, else brightness).",
        metavar="FILE",
    ),
]
Side = Annotated[int | None, _option(_PIXELS, "Chip size in pixels (default: the bundle's).", min=1)]
Margin = Annotated[int | None, _option(_PIXELS, "Cut chips along boxes, with this margin in pixels.", min=0)]
Unit = Annotated[
    str | None,
    _option(
        _PIXELS, "Unit, if the files do not declare it: amplitude, intensity, sigma0, db, gamma0, gamma0_db or beta0."
    ),
]
Bands = Annotated[
    str | None,
    _option(_PIXELS, "Bands in the order of the file, such as VH,VV (default: as the file or the bundle names them)."),
]
Spacing = Annotated[
    float | None, _option(_PIXELS, "Pixel spacing in meters, if a file has no georeference.", min=0.001)
]
ResampleTo = Annotated[float | None, _option(_PIXELS, "Resample chips to this pixel spacing in meters.", min=0.001)]
Modulus = Annotated[
    bool,
    _option(
        _PIXELS,
        "Take the modulus |z| of complex scenes (SLC). It is amplitude, unless the product has a calibration.",
        "--modulus",
    ),
]
Calibrate = Annotated[
    float | None,
    _option(
        _PIXELS,
        "Calibration factor F of a scene in digital numbers DN: sigma0 = F * DN^2. Its provider states F "
        "(10^(dB / 10), if in dB). Sentinel-1, Capella and ICEYE products contain their calibration.",
        metavar="F",
    ),
]
KeepNoise = Annotated[
    bool,
    _option(
        _PIXELS,
        "Do not subtract the thermal noise that a Sentinel-1 product lists: for models of chips that contain it.",
        "--keep-noise",
    ),
]
Asset = Annotated[
    str | None,
    _option(_PIXELS, "Assets of a STAC item, such as vv or vv,vh (default: those with the role data).", metavar="NAME"),
]
Chips = Annotated[Path | None, _option(_JOB, "Folder in which chips cut from scenes are saved as GeoTIFF.")]
Html = Annotated[Path | None, _option(_JOB, "HTML page to write, for reviewing and correcting labels.")]
Picture = Annotated[
    Path | None,
    _option(_JOB, "PNG to write: a map of the scene with the classified objects, legend, scale and north arrow."),
]
Truth = Annotated[
    Path | None,
    _option(
        _LOCATIONS,
        "Positions and classes (column class) of the true objects, as for --at. Prints how many --detect found.",
    ),
]
Json = Annotated[bool, _option(_JOB, "Print progress and result as JSON, one object per line.", "--json")]
DiscardCorrections = Annotated[
    bool,
    _option(_JOB, "With --overwrite: replace even a table that contains corrected classes.", "--discard-corrections"),
]
Strict = Annotated[bool, _option(_JOB, "Exit with status 1 if anything was rejected.", "--strict")]
BatchSize = Annotated[int, _option(_JOB, "Number of chips in a batch.", min=1)]
Readers = Annotated[int, _option(_JOB, "Number of threads that read chips.", min=1)]
Ray = Annotated[bool, _option(_ARCHIVE, "Classify scenes in parallel by Ray Data, with one .gpkg per scene.", "--ray")]
VerifyKey = Annotated[
    Path | None,
    _option(_JOB, "Public key: stop unless its owner signed the bundle (`rsft bundle sign`).", metavar="FILE"),
]
Address = Annotated[str | None, _option(_ARCHIVE, "Address of a Ray cluster, such as auto (default: this machine).")]
Jobs = Annotated[int | None, _option(_ARCHIVE, "Maximum number of parallel scenes.", min=1)]
Engine = Annotated[
    str,
    _option(
        _ENGINE,
        f"auto (the fastest that is exact), {', '.join(ENGINES)}, or an export of this bundle (`rsft export`).",
        metavar="ENGINE",
    ),
]
Precision = Annotated[
    str | None,
    _option(_ENGINE, "fp32, bf16 or int8 (default: fp32; with auto, any exact one). Not every engine supports all."),
]
Also = Annotated[
    list[Path] | None,
    _option(
        _JOB,
        "Another bundle on the same backbone. Its table is OUT with the recipe name before the suffix.",
        metavar="BUNDLE",
    ),
]


@app.command()
def predict(
    bundle: BundleArgument,
    inputs: InputsArgument,
    out: OutOption,
    at: At = None,
    at_crs: AtCrs = None,
    layer: Layer = None,
    grid: Grid = None,
    stride: Stride = None,
    detect: Detect = False,
    pfa: Pfa = 1e-6,
    land: Land = "auto",
    side: Side = None,
    margin: Margin = None,
    unit: Unit = None,
    bands: Bands = None,
    spacing: Spacing = None,
    resample_to: ResampleTo = None,
    modulus: Modulus = False,
    calibrate: Calibrate = None,
    keep_noise: KeepNoise = False,
    asset: Asset = None,
    chips: Chips = None,
    html: Html = None,
    picture: Picture = None,
    truth: Truth = None,
    strict: Strict = False,
    overwrite: OverwriteOption = False,
    discard_corrections: DiscardCorrections = False,
    batch_size: BatchSize = 32,
    readers: Readers = 1,
    device: DeviceOption = "auto",
    engine: Engine = "auto",
    precision: Precision = None,
    also: Also = None,
    verify_key: VerifyKey = None,
    ray: Ray = False,
    address: Address = None,
    jobs: Jobs = None,
    as_json: Json = False,
) -> None:
    """Classify chips or scenes; reject and list chips that cannot be read or do not fulfill the bundle's contract.

    Run the same command again to resume an interrupted job.
    """
    from rsft.inference.inputs.discovery import Declaration
    from rsft.inference.predict.request import PredictionRequest

    _check_options(land, detect, also, ray, address, jobs)
    _check_signatures([bundle, *(also or [])], verify_key)
    make_request = partial(PredictionRequest, batch_size=batch_size, readers=readers, device=device)
    replacing = partial(make_request, overwrite=overwrite, discard_corrections=discard_corrections)
    with_outputs = partial(replacing, chips_dir=chips, html_path=html, picture_path=picture, truth_path=truth)
    request = with_outputs(
        query=_scene_query(at, at_crs, grid, stride, _cfar_options(pfa, land) if detect else None, layer),
        declaration=Declaration(unit_name(unit), band_names(bands)),
        chip_options=_chip_options(side, margin, resample_to, spacing),
        product_options=_product_options(modulus, calibrate, keep_noise, asset),
        engine=engine,
        precision=precision,
    )
    run = partial(_archive, address=address, jobs=jobs) if ray else partial(_predict, also=also or [])
    run(bundle, inputs, out, request, strict=strict, as_json=as_json)


def _check_signatures(bundles: list[Path], key: Path | None) -> None:
    if key is None:
        return
    from rsft.models.bundle.signature import check_signature

    for bundle in bundles:
        check_signature(bundle, key)


def _scene_query(*options: Any) -> SceneQuery:
    from rsft.inference.predict.scene_plan import SceneQuery

    return SceneQuery(*options)


def _chip_options(*options: Any) -> ChipOptions:
    from rsft.inference.scenes.chip_window import ChipOptions

    return ChipOptions(*options)


def _product_options(*options: Any) -> ProductOptions:
    from rsft.data.imagery.products.product import ProductOptions

    return ProductOptions(*options)


def _cfar_options(pfa: float, land: str) -> CfarOptions:
    from rsft.inference.detection.options import CfarOptions, parse_land

    return CfarOptions(pfa, parse_land(land))


def _check_options(
    land: str, detect: bool, also: list[Path] | None, ray: bool, address: str | None, jobs: int | None
) -> None:
    if land != "auto" and not detect:
        raise RequestError("--land only works with --detect", "--land", "give --detect as well")
    if ray and also:
        raise RequestError("--ray takes one bundle", "--also", "run the command once per bundle")
    if not ray and (address is not None or jobs is not None):
        raise RequestError("--address and --jobs only work with --ray", "--address, --jobs", "give --ray as well")


def _predict(
    bundle: Path,
    inputs: list[str],
    out: Path,
    request: PredictionRequest,
    *,
    also: list[Path],
    strict: bool,
    as_json: bool,
) -> None:
    from rsft.cli.display.results import emit_predictions, show_checks, show_predictions
    from rsft.inference.predict.job import predict as predict_table
    from rsft.inference.predict.job import predict_bundles
    from rsft.utils.process_pool import retain_freed_memory

    retain_freed_memory()
    bundles = [bundle, *also]
    with _report_progress(as_json) as report:
        warn_about_licenses(bundles)
        if len(bundles) > 1:
            results = predict_bundles(bundles, inputs, out, request, report)
        else:
            results = [predict_table(bundles[0], inputs, out, request, report)]
    outputs = {"chips": request.chips_dir, "page": request.html_path, "map": request.picture_path}
    paths = {name: path for name, path in outputs.items() if path is not None}
    if as_json:
        for result in results:
            emit_predictions(result, paths)
    else:
        for result in results:
            show_predictions(result)
        show_paths(paths)
        for result in results:
            show_checks(result)
    if strict and any(result.rejected for result in results):
        raise typer.Exit(1)


def _archive(
    bundle: Path,
    inputs: list[str],
    out: Path,
    request: PredictionRequest,
    *,
    address: str | None,
    jobs: int | None,
    strict: bool,
    as_json: bool,
) -> None:
    from rsft.cli.display.results import emit_archive, show_archive
    from rsft.inference.archive import predict_archive
    from rsft.utils.dependencies import check_installed

    check_installed("ray", "ray")
    from rsft.inference.archive import ray_executor

    with _report_progress(as_json) as report:
        warn_about_licenses([bundle])
        archive = predict_archive(bundle, inputs, out, request, ray_executor(address, jobs), report)
    (emit_archive if as_json else show_archive)(archive)
    if strict and any(outcome.status == "failed" or outcome.rejected for outcome in archive.scenes):
        raise typer.Exit(1)


@contextmanager
def _report_progress(as_json: bool) -> Iterator[Progress]:
    """Show bars, or print JSON lines for progress and errors."""
    from rsft.cli.display.results import json_progress

    with quiet_console(quiet=False, as_json=as_json), progress() as report:
        yield json_progress() if as_json else report
