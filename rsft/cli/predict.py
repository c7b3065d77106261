"""`rsft predict`: from new chips or scenes to a table of classes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rsft.cli.display.console import progress, show_paths, show_predictions
from rsft.cli.options import BundleArgument, DeviceOption, OverwriteOption, band_names

if TYPE_CHECKING:
    from rsft.inference.predict.request import Request

app = typer.Typer()

_PLACES, _PIXELS, _JOB, _ARCHIVE = "Where to look in a scene", "What the pixels are", "The job", "Many scenes"
_ENGINE = "How it is computed"


InputsArgument = Annotated[
    list[Path],
    typer.Argument(
        metavar="INPUT...", help="Chips: files, folders, globs, @list. With --at, --grid or --detect: scenes."
    ),
]
OutOption = Annotated[
    Path, typer.Option("--out", "-o", help="Table to write: .gpkg, .geojson, .parquet or .csv. With --ray: a folder.")
]


def _option(panel: str, help_text: str, *names: str, **limits: Any) -> Any:
    return typer.Option(*names, help=help_text, rich_help_panel=panel, **limits)


At = Annotated[
    Path | None,
    _option(_PLACES, "Positions: .gpkg, .geojson, .csv; DOTA or YOLO .txt, or a folder; COCO .json."),
]
AtCrs = Annotated[str | None, _option(_PLACES, "Their coordinate system, where they do not say: EPSG:32633, or pixel.")]
Grid = Annotated[int | None, _option(_PLACES, "Tiles of so many pixels.", min=1)]
Stride = Annotated[int | None, _option(_PLACES, "From tile to tile; side by side if left out.", min=1)]
Detect = Annotated[bool, _option(_PLACES, "Bright objects on dark water (CA-CFAR), ships or not.", "--detect")]
Pfa = Annotated[float, _option(_PLACES, "False alarms a pixel of --detect.")]
Land = Annotated[Path | None, _option(_PLACES, "Polygons that --detect leaves out.")]
Side = Annotated[int | None, _option(_PIXELS, "Of a chip in pixels; the bundle's if left out.", min=1)]
Margin = Annotated[int | None, _option(_PIXELS, "Cut boxes as they are, with so many pixels around.", min=0)]
Unit = Annotated[str | None, _option(_PIXELS, "Where files do not say: amplitude, intensity, sigma0, db.")]
Bands = Annotated[str | None, _option(_PIXELS, "In their order, such as VH,VV; else the file's own, or the bundle's.")]
Spacing = Annotated[float | None, _option(_PIXELS, "Metres a pixel, where files do not say.", min=0.001)]
ResampleTo = Annotated[float | None, _option(_PIXELS, "Bring chips to so many metres a pixel.", min=0.001)]
Chips = Annotated[Path | None, _option(_JOB, "Folder to keep the cut chips in, as GeoTIFF.")]
Html = Annotated[Path | None, _option(_JOB, "Page to look through the chips and to correct them.")]
Strict = Annotated[bool, _option(_JOB, "Exit with 1 if anything was refused.", "--strict")]
BatchSize = Annotated[int, _option(_JOB, "Chips in a pass.", min=1)]
Readers = Annotated[int, _option(_JOB, "Threads that read ahead.", min=1)]
Ray = Annotated[bool, _option(_ARCHIVE, "Scenes over processes and machines by Ray Data, a .gpkg each.", "--ray")]
Address = Annotated[str | None, _option(_ARCHIVE, "Of a Ray cluster, such as auto; this machine if left out.")]
Jobs = Annotated[int | None, _option(_ARCHIVE, "Scenes at once, at most.", min=1)]
Engine = Annotated[
    str,
    _option(
        _ENGINE,
        "auto (measured here, exact), torch, onnx, openvino, or an export of this bundle (`rsft export`).",
        metavar="ENGINE",
    ),
]
Precision = Annotated[
    str | None,
    _option(_ENGINE, "fp32; bf16 of torch or openvino; int8 of onnx or openvino, if it keeps the accuracy."),
]
Also = Annotated[
    list[Path] | None,
    _option(
        _JOB,
        "Another bundle on the same backbone; chips are read once. Its table is OUT with its name before the suffix.",
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
    grid: Grid = None,
    stride: Stride = None,
    detect: Detect = False,
    pfa: Pfa = 1e-6,
    land: Land = None,
    side: Side = None,
    margin: Margin = None,
    unit: Unit = None,
    bands: Bands = None,
    spacing: Spacing = None,
    resample_to: ResampleTo = None,
    chips: Chips = None,
    html: Html = None,
    strict: Strict = False,
    overwrite: OverwriteOption = False,
    batch_size: BatchSize = 32,
    readers: Readers = 1,
    device: DeviceOption = "auto",
    engine: Engine = "auto",
    precision: Precision = None,
    also: Also = None,
    ray: Ray = False,
    address: Address = None,
    jobs: Jobs = None,
) -> None:
    """Classify new chips, or places of scenes. What cannot be read or breaks the bundle's contract is listed.

    A job that was stopped goes on where it was if the same command is run again.
    """
    from rsft.errors import RequestError
    from rsft.inference.detection.detector import Detector
    from rsft.inference.inputs.discovery import Declared
    from rsft.inference.predict.job import predict as classify
    from rsft.inference.predict.multi_bundle import predict_together
    from rsft.inference.predict.request import Request
    from rsft.inference.predict.scene_plan import Look
    from rsft.inference.scenes.chip_window import Wishes
    from rsft.utils.malloc import keep_freed_memory

    if land is not None and not detect:
        raise RequestError("land without a detector", "--land", "give --detect as well")
    request = Request(
        look=Look(at, at_crs, grid, stride, Detector(pfa, land) if detect else None),
        declared=Declared(unit, band_names(bands)),
        wishes=Wishes(side, margin, resample_to, spacing),
        chips=chips,
        html=html,
        overwrite=overwrite,
        batch_size=batch_size,
        readers=readers,
        device=device,
        engine=engine,
        precision=precision,
    )
    if ray:
        if also:
            raise RequestError("an archive is classified by one bundle", "--also", "call it once for each")
        _archive(bundle, inputs, out, request, address, jobs, strict)
        return
    if address is not None or jobs is not None:
        raise RequestError("without --ray there is one process", "--address, --jobs", "give --ray as well")
    keep_freed_memory()
    with progress() as report:
        if also:
            results = predict_together([bundle, *also], inputs, out, request, report)
        else:
            results = [classify(bundle, inputs, out, request, report)]
    for result in results:
        show_predictions(result)
    show_paths({name: path for name, path in (("chips", chips), ("page", html)) if path is not None})
    if strict and any(result.rejected for result in results):
        raise typer.Exit(1)


def _archive(
    bundle: Path, inputs: list[Path], out: Path, request: Request, address: str | None, jobs: int | None, strict: bool
) -> None:
    from rsft.cli.display.console import show_archive
    from rsft.inference.archive.archive import predict_archive
    from rsft.utils.ray_cluster import require

    require("ray", "ray")
    from rsft.inference.archive.ray_executor import on_ray

    with progress() as report:
        archive = predict_archive(bundle, inputs, out, request, on_ray(address, jobs), report)
    show_archive(archive)
    if strict and any(outcome.status == "failed" or outcome.refused for outcome in archive.outcomes):
        raise typer.Exit(1)
