"""`rsft ais match`: name the ships in a scene by their AIS messages."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rsft.cli.display.console import (
    console,
    emit_json_event,
    make_table,
    show_paths,
)
from rsft.cli.options import OUT, documented
from rsft.scenes.locators import MIN_CONFIDENCE
from rsft.scenes.options import Declaration
from rsft.scenes.query import CfarOptions
from rsft.utils.command_options import Access, Option

if TYPE_CHECKING:
    from rsft.plugins.ais.match import AisMatch

app = typer.Typer(
    name="ais",
    help="Match the AIS messages of ships to radar scenes.",
    no_args_is_help=True,
)


@app.callback()
def _group() -> None:
    """Match the AIS messages of ships to radar scenes."""


@app.command("match")
@documented
def ais_match(
    scene: str,
    ais: Annotated[list[Path], Option(metavar="FILE")],
    out: Annotated[Path, OUT],
    detector: CfarOptions,
    declaration: Declaration,
    at: Annotated[Path | None, Option(metavar="FILE", access=Access.OBJECTS)] = None,
    crs: str | None = None,
    time: Annotated[str | None, Option(metavar="TIME")] = None,
    min_confidence: float = MIN_CONFIDENCE,
    html: Annotated[Path | None, Option(metavar="PAGE", access=Access.WRITE)] = None,
    review: Annotated[Path | None, Option(metavar="FILE")] = None,
    *,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Find the ships in a radar scene, and name each one by its AIS messages.

    Tracks are interpolated to the time at which the radar saw each ship. Moving ships
    are shifted to where the radar shows them, and assigned to objects one to one. Pairs
    that are not sure are set aside with the reason.

    rsft ais match S1A_IW_GRDH_1SDV_20210119T031653.SAFE --ais AIS_2021_01_19.zip -o
    matches.gpkg

    Args:
        scene: Raster, .SAFE folder or .zip file of Sentinel-1, with a georeference.
        ais: Messages, as CSV (also .gz, .zst, .zip) or Parquet; repeatable. Columns are
            found by name: MMSI, time, latitude, longitude, and if there are any: SOG,
            COG, heading, length, width, A to D, ship type, name, IMO, call sign. Times
            without a zone are UTC.
        out: GeoPackage to write, with the layers matched, no_ais,
            ais_without_detection, ambiguous and shift.
        at: Positions of objects, as for `rsft predict --at` (default: detect bright
            objects).
        crs: Coordinate system of --at, if the file does not declare it, such as
            EPSG:32633 or pixel.
        time: Time of the acquisition in UTC, such as 2021-01-19T03:16:53Z (default:
            that of the product).
        min_confidence: Pairs with a smaller confidence, 0.5 to 1, are ambiguous.
        html: HTML page to write, on which you choose the ships of ambiguous objects.
        review: Your choices: the file that the page saves. Give the other options as
            before.
    """
    from rsft.cli.display.results import report_progress
    from rsft.inference.writers.tables import check_output_file
    from rsft.plugins.ais.choice_page import write_choice_page
    from rsft.plugins.ais.job import match_scene
    from rsft.plugins.ais.layers import write_match
    from rsft.plugins.ais.match import AisOptions

    options = AisOptions(time, min_confidence, review=review)
    check_output_file(out, (".gpkg",), overwrite)
    if html is not None:
        check_output_file(html, (".html", ".htm"), overwrite)
    paths = {"matches": out}
    with report_progress(as_json) as report:
        match = match_scene(
            scene,
            ais,
            options,
            at=at,
            crs=crs,
            detector=detector,
            declaration=declaration,
            progress=report,
        )
        if html is not None:
            if write_choice_page(match, html, _review_command(scene, ais, out)):
                paths["page"] = html
            else:
                match.notes.append(f"no object is ambiguous, so {html} was not written")
        metadata = {
            "scene": scene,
            "ais": [str(path) for path in ais],
            "min_confidence": str(min_confidence),
        }
        write_match(match, out, metadata, overwrite=overwrite)
    if as_json:
        details = {"left_out": match.left_out, "notes": match.notes}
        emit_json_event("done", {**paths, **match.counts, **details})
    else:
        show_match(match)
        show_paths(paths)


def _review_command(scene: str, ais: list[Path], out: Path) -> str:
    """Return the command that takes the choices of a review page."""
    words = ["rsft", "ais", "match", scene]
    words += [f"--ais={path}" for path in ais]
    words += ["-o", str(out), "--overwrite", "--review", "corrected.csv"]
    return shlex.join(words)


def show_match(match: AisMatch) -> None:
    """Print the counts by outcome, and the notes."""
    rows = [(name, f"{count:,}") for name, count in match.counts.items()]
    console.print(make_table("", ("objects and ships", "count"), rows))
    for name, count in match.left_out.items():
        if count:
            console.print(f"left out     {count:,}  {name}")
    for note in match.notes:
        console.print(f"note: {note}")
