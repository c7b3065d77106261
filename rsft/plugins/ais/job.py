"""Match AIS messages to the objects of a scene, which a detector or a file names."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd

from rsft.errors import RequestError
from rsft.plugins.ais.choices import read_choices
from rsft.plugins.ais.displacement import Acquisition
from rsft.plugins.ais.feeds import SearchArea, read_messages
from rsft.plugins.ais.match import (
    DEFAULT_OPTIONS,
    NO_DETECTION,
    AisMatch,
    AisOptions,
    match_tracks,
)
from rsft.plugins.ais.matching import Objects
from rsft.plugins.ais.tracks import make_tracks
from rsft.plugins.ais.units import EARTH, KNOT
from rsft.scenes.detection import detect_objects
from rsft.scenes.georeference import Georeference
from rsft.scenes.lengths import box_sides, measured_length
from rsft.scenes.locations import Location, SceneLocations
from rsft.scenes.options import UNDECLARED, Declaration
from rsft.scenes.positions import read_positions
from rsft.scenes.query import CfarOptions
from rsft.scenes.raster import RasterScene, open_scene
from rsft.types import Progress, Spacing

TIME_MARGIN = 30 * 60.0
"""Seconds before and after the scene from which messages are used."""

_SPEED_MARGIN = 30 * KNOT  # meters per second of ships that enter the scene
_LONG_BOX = 1.8  # length by width above which the direction of a box is a heading


def list_message_files(path: Path) -> list[Path]:
    """Return a file of messages, or the .csv and .parquet files of a folder.

    Raises:
        RequestError: the folder contains none.
    """
    if not path.is_dir():
        return [path]
    files = [file for file in path.iterdir() if file.suffix in (".csv", ".parquet")]
    if not files:
        hint = "give .csv or .parquet files, or name the file"
        raise RequestError("the folder contains no messages", path, hint)
    return sorted(files)


def match_scene(
    name: Path | str,
    ais_paths: Sequence[Path],
    options: AisOptions = DEFAULT_OPTIONS,
    *,
    at: Path | None = None,
    crs: str | None = None,
    detector: CfarOptions | None = None,
    declaration: Declaration = UNDECLARED,
    progress: Progress | None = None,
) -> AisMatch:
    """Find the objects of a scene, and match AIS messages to them.

    Args:
        name: the scene, see `open_scene`.
        ais_paths: files or folders of messages, see `read_messages`.
        options: time and confidence.
        at: file of the positions of objects; None detects bright objects.
        crs: coordinate system of `at`, if the file names none.
        detector: options of the detector.
        declaration: unit and bands of the scene, if the file does not name them.
        progress: called with numbers of windows and of megabytes.

    Raises:
        RequestError: the scene has no georeference or time, or the messages cannot be
            used; see `read_messages`.
        DataError: the scene cannot be read.
    """
    scene = open_scene(name)
    if at is not None:
        locate = partial(read_positions, at, scene, crs)
    else:
        detector = detector or CfarOptions()
        locate = partial(detect_objects, scene, detector, declaration, progress)
    match = match_ais(scene, locate, ais_paths, options, progress)
    positions = match.positions
    if at is not None and positions.outside and not positions.locations:
        raise RequestError(
            f"no position lies in the scene: {positions.outside_note}",
            at,
            "check the coordinate system of the positions, and --crs",
        )
    return match


def match_ais(
    scene: RasterScene,
    locate: Callable[[], SceneLocations],
    ais_paths: Sequence[Path],
    options: AisOptions = DEFAULT_OPTIONS,
    progress: Progress | None = None,
) -> AisMatch:
    """Match AIS messages to objects of a scene.

    Args:
        scene: the scene.
        locate: returns the objects, of a file or a detector. It is called when there
            are messages for the scene, since a detection takes minutes.
        ais_paths: files or folders of messages, see `read_messages`.
        options: time and confidence.
        progress: called with megabytes of the files.

    Returns:
        The match. The rows of `AisMatch.objects` have the order of the locations.

    Raises:
        RequestError: the scene has no georeference or time, or the messages cannot be
            used; see `read_messages`.
    """
    acquisition = Acquisition.of(scene, options.time)
    files = list(chain.from_iterable(map(list_message_files, ais_paths)))
    messages = read_messages(files, search_area(scene, acquisition), progress)
    tracks = make_tracks(messages)
    positions = locate()
    if positions.file in files:
        raise RequestError(
            "the objects and the AIS messages are the same file",
            positions.file,
            "give positions that were seen in the scene, or leave out --at",
        )
    choices = {}
    if options.review is not None:
        choices = read_choices(options.review, positions.locations)
    area = scene.height * scene.width * float(np.prod(scene.spacing or (1, 1)))
    match = match_tracks(
        acquisition, tracks, _make_objects(scene, positions), area, options, choices
    )
    match.scene = scene
    match.positions = positions
    places = [(x.name, x.row, x.col) for x in positions.locations]
    match.objects = pd.DataFrame(places, columns=["object", "row", "col"]).join(
        match.objects
    )
    _drop_ships_outside(match, scene, acquisition.georeference)
    for name, count in messages.counts.items():
        if name not in ("rows", "kept"):
            match.left_out[f"messages {name}"] = count
    match.left_out += tracks.counts
    notes = [acquisition.note, *positions.notes, *messages.notes, *tracks.notes]
    match.notes = notes + match.notes
    return match


def _drop_ships_outside(
    match: AisMatch, scene: RasterScene, georeference: Georeference
) -> None:
    """Leave out ships without an object that the radar shows outside of the scene."""
    ships = match.ships
    pixels = georeference.lonlat_to_pixels(ships["radar_lon"], ships["radar_lat"])
    is_inside = ((pixels >= 0) & (pixels < (scene.height, scene.width))).all(axis=1)
    is_kept = is_inside | (ships["status"] != NO_DETECTION).to_numpy()
    match.ships = ships[is_kept].reset_index(drop=True)
    match.left_out["ships outside of the scene"] = len(ships) - len(match.ships)


def search_area(scene: RasterScene, acquisition: Acquisition) -> SearchArea:
    """Return where and when messages are useful.

    The scene has a margin for ships that enter or leave it.
    """
    rows, cols = np.meshgrid(
        np.linspace(0, scene.height, 5), np.linspace(0, scene.width, 5)
    )
    lon, lat = acquisition.georeference.pixels_to_lonlat(rows.ravel(), cols.ravel()).T
    middle = float(np.degrees(np.angle(np.exp(1j * np.radians(lon)).mean())))
    east = (lon - middle + 180) % 360 - 180
    margin = float(np.degrees(_SPEED_MARGIN * TIME_MARGIN / EARTH.b))
    meridian_scale = np.cos(np.radians(min(np.abs(lat).max(), 85)))
    half_width = float(np.abs(east).max() + margin / meridian_scale)
    return SearchArea(
        middle,
        float(lat.min() + lat.max()) / 2,
        min(half_width, 180.0),
        float(np.ptp(lat)) / 2 + margin,
        acquisition.start - TIME_MARGIN,
        acquisition.end + TIME_MARGIN,
    )


def _make_objects(scene: RasterScene, positions: SceneLocations) -> Objects:
    """Return places, lengths and headings of objects.

    Length and heading are those of a box. A column length_m of the file of positions
    has precedence.
    """
    georeference = scene.georeference
    assert georeference is not None and scene.spacing is not None
    rows = []
    for x in positions.locations:
        lon, lat = georeference.pixels_to_lonlat(x.row, x.col)[0]
        rows.append((lon, lat, *_measure_box(x, scene.spacing, georeference)))
    lon, lat, length, heading = np.array(rows, float).reshape(-1, 4).T
    attributes = positions.attributes
    if attributes is not None and "length_m" in attributes:
        given = pd.to_numeric(attributes["length_m"], errors="coerce")
        meters = given.to_numpy(np.float64, na_value=np.nan)
        length = np.where(meters > 0, meters, length)
    return Objects(lon, lat, length, heading)


def _measure_box(x: Location, spacing: Spacing, georeference: Georeference) -> Spacing:
    """Return the length in meters and the direction in degrees (0 to 180) of a box.

    Returns:
        NaN for a point, and for the direction of a box that is upright or not long.
    """
    if x.box is None:
        return np.nan, np.nan
    sides = box_sides(x.box, spacing, georeference)
    length = sides["length_m"]
    heading = sides.get("heading_deg", np.nan)
    if length < _LONG_BOX * sides["width_m"]:
        heading = np.nan
    if x.source_row is None:  # drawn around bright pixels
        length = measured_length(length, spacing, "detection")["length_m"]
    return length, heading
