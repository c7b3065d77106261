"""`rsft detect`: objects in scenes, without a bundle."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from rsft.cli.display.console import console, emit_json_event, show_paths
from rsft.cli.options import OUT, documented
from rsft.scenes.options import ChipSize, Declaration
from rsft.scenes.query import CfarOptions
from rsft.utils.command_options import Access, Argument, Option

app = typer.Typer(add_completion=False)


@app.command("detect")
@documented
def detect(
    scenes: Annotated[list[Path], Argument(metavar="SCENE...")],
    out: Annotated[Path, OUT],
    detector: CfarOptions,
    declaration: Declaration,
    chips: Annotated[Path | None, Option(metavar="DIR", access=Access.WRITE)] = None,
    size: Annotated[
        ChipSize | None, Option(metavar="SIZE", parse=ChipSize.parse)
    ] = None,
    spacing: Annotated[float | None, Option(min=0.001)] = None,
    *,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Detect bright objects on dark water, and cut a chip of each one.

    This needs no bundle and no labels. Objects are detected as by `rsft predict
    --detect`; not all are ships. The layer is a file for `--at` of other commands. Name
    the classes of the chips on the page of `rsft data suggest`.

    rsft detect S1A_IW_GRDH_1SDV_20210119T031653.SAFE -o objects.gpkg --chips chips

    rsft data suggest chips -o classes.html

    Args:
        scenes: Scenes, folders of scenes, patterns, or @LIST: a text file with one
            scene per line.
        out: Layer to write: .gpkg, .geojson, .parquet, .csv or .xlsx.
        chips: Folder in which a chip of each object is saved as GeoTIFF.
        size: Chip size in pixels (64) or meters (640m), or box+8: along the box of
            each object, with a margin of 8 pixels. By default it fits the boxes.
        spacing: Pixel spacing in meters, if a file has no georeference.
    """
    from rsft.cli.display.results import report_progress
    from rsft.inference.writers.columns import table_columns
    from rsft.inference.writers.tables import check_output_path, write_prediction_table
    from rsft.plugins.detection.job import DetectionRequest, detect_in_scenes
    from rsft.scenes.detection import recorded_detector

    declaration = replace(declaration, spacing_m=spacing)
    request = DetectionRequest(detector, declaration, size, chips)
    check_output_path(out, table_columns(()), overwrite=overwrite)
    with (
        report_progress(as_json) as report,
        recorded_detector(out, detector, declaration, report) as find,
    ):
        layer = detect_in_scenes(scenes, request, find, report)
        write_prediction_table(layer, out, overwrite=overwrite)
    paths = {"objects": out}
    if chips is not None and len(layer.table):
        paths["chips"] = chips
    notes = layer.metadata["notes"]
    if as_json:
        fields = {"count": len(layer.table), "notes": notes}
        emit_json_event("done", {**paths, **fields})
        return
    for note in notes:
        console.print(f"note: {note}")
    show_paths(paths)
