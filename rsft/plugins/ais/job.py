"""Match AIS messages to the objects of a scene: detect objects or read their positions, and name the ship of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from rsft.errors import RequestError
from rsft.inference.predict.lengths import measured_length
from rsft.plugins.ais.choices import keep_choices, read_choices
from rsft.plugins.ais.displacement import POSITION_SIGMA, Acquisition, RadarView
from rsft.plugins.ais.feeds import SearchArea, read_messages
from rsft.plugins.ais.matching import (
    MIN_CONFIDENCE,
    Assignment,
    Objects,
    Pairs,
    assign,
    find_pairs,
)
from rsft.plugins.ais.tracks import (
    EARTH,
    KNOT,
    ShipStates,
    Tracks,
    locate_ships,
    make_tracks,
)
from rsft.scenes.detection import detect_objects
from rsft.scenes.georeference import Georeference
from rsft.scenes.locations import (
    Location,
    SceneLocations,
    read_positions,
)
from rsft.scenes.options import UNDECLARED, Declaration
from rsft.scenes.query import CfarOptions
from rsft.scenes.raster import RasterScene, open_scene
from rsft.types import Progress

TIME_MARGIN = 30 * 60.0
"""Seconds before and after the scene from which messages are used."""

MATCHED = "matched"
AMBIGUOUS = "ambiguous"
NO_AIS = "no AIS"
NO_DETECTION = "no detection"
"""What became of an object (the first three), or of a ship (all but "no AIS")."""

_SPEED_MARGIN = 30 * KNOT  # meters per second of ships that enter the scene
_NO_OBJECT = "no object is near where the radar would show it"
_LONG_BOX = 1.8  # length by width above which the direction of a box is a heading


@dataclass(frozen=True)
class AisOptions:
    """Options of a match.

    Attributes:
        time: time of the acquisition, ISO 8601; None takes that of the scene.
        min_confidence: pairs with a smaller confidence are ambiguous.
        position_sigma: standard deviation of the places of objects in meters, see
            `POSITION_SIGMA`.
        review: file of the ships that a reviewer chose, see `read_choices`.
    """

    time: str | None = None
    min_confidence: float = MIN_CONFIDENCE
    position_sigma: float = POSITION_SIGMA
    review: Path | None = None

    def __post_init__(self) -> None:
        if not 0.5 <= self.min_confidence < 1:
            message = f"the confidence {self.min_confidence:g} is not between 0.5 and 1"
            raise RequestError(
                message,
                "--min-confidence",
                "give 0.5 to accept every best pair, or up to 0.999",
            )
        if not 0 < self.position_sigma < 10_000:
            message = (
                f"the error of positions {self.position_sigma:g} m is not between 0 and"
                " 10,000 m"
            )
            raise RequestError(
                message,
                "--position-error",
                "give a standard deviation in meters, such as 20",
            )


DEFAULT_OPTIONS = AisOptions()
"""The time of the scene, and pairs with a confidence of 0.9."""


@dataclass
class AisMatch:
    """Objects and ships of a scene, and which belong together.

    Attributes:
        objects: one row per object, in the order of the locations: `status` ("matched",
            "ambiguous" or "no AIS"), `mmsi`, `ais_class`, `confidence` and `reason`,
            position, length, and what AIS says about the ship.
        ships: one row per ship in the scene: `status` ("matched", "ambiguous" or "no
            detection"), `reason`, the place that AIS reports (`lon`, `lat`), and where
            the radar shows it (`radar_lon`, `radar_lat`).
        candidates: one row per possible pair: `object` (row in `objects`), MMSI, class,
            name and length of the ship, `distance_m` and `score`.
        notes: remarks for the reader.
        left_out: number of messages and ships that were left out, by reason.
        scene: the scene.
        locations: where the objects are in it.
    """

    objects: pd.DataFrame
    ships: pd.DataFrame
    candidates: pd.DataFrame
    notes: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    scene: RasterScene | None = None
    locations: Sequence[Location] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Number of objects by status, and of ships without a detection."""
        status = self.objects["status"].value_counts()
        ships = int((self.ships["status"] == NO_DETECTION).sum())
        return {
            name: int(status.get(name, 0)) for name in (MATCHED, AMBIGUOUS, NO_AIS)
        } | {"AIS without detection": ships}


def list_message_files(path: Path) -> list[Path]:
    """Return a file of messages, or the .csv and .parquet files of a folder.

    Raises:
        RequestError: the folder contains none.
    """
    if not path.is_dir():
        return [path]
    files = sorted(
        file for file in path.iterdir() if file.suffix in (".csv", ".parquet")
    )
    if files:
        return files
    raise RequestError(
        "the folder contains no messages",
        path,
        "give .csv or .parquet files, or name the file",
    )


def match_scene(
    name: Path | str,
    ais_paths: Sequence[Path],
    options: AisOptions = DEFAULT_OPTIONS,
    *,
    at: Path | None = None,
    at_crs: str | None = None,
    detector: CfarOptions | None = None,
    declaration: Declaration = UNDECLARED,
    progress: Progress | None = None,
) -> AisMatch:
    """Find the objects of a scene, and match AIS messages to them.

    Args:
        name: the scene, see `open_scene`.
        ais_paths: files of messages, see `read_messages`.
        options: time and confidence.
        at: file of the positions of objects; None detects bright objects.
        at_crs: coordinate system of `at`, if the file names none.
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
        locate = partial(read_positions, at, scene, at_crs)
    else:
        locate = partial(
            detect_objects, scene, detector or CfarOptions(), declaration, progress
        )
    return match_ais(scene, locate, ais_paths, options, progress)


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
        ais_paths: files of messages, see `read_messages`.
        options: time and confidence.
        progress: called with megabytes of the files.

    Returns:
        The match. The rows of `AisMatch.objects` have the order of the locations.

    Raises:
        RequestError: the scene has no georeference or time, or the messages cannot be
            used; see `read_messages`.
    """
    acquisition = Acquisition.of(scene, options.time)
    messages = read_messages(ais_paths, search_area(scene, acquisition), progress)
    tracks = make_tracks(messages)
    locations = locate()
    objects = _objects(scene, locations)
    if options.review:
        choices = read_choices(options.review, locations.locations)
    else:
        choices = {}
    area = scene.height * scene.width * float(np.prod(scene.spacing or (1, 1)))
    match = match_tracks(acquisition, tracks, objects, area, options, choices)
    match.scene = scene
    match.locations = locations.locations
    places = pd.DataFrame(
        [(x.name, x.row, x.col) for x in match.locations],
        columns=["object", "row", "col"],
    )
    match.objects = pd.concat([places, match.objects], axis=1)
    inside = acquisition.georeference.lonlat_to_pixels(
        match.ships["radar_lon"], match.ships["radar_lat"]
    )
    is_inside = ((inside >= 0) & (inside < (scene.height, scene.width))).all(axis=1)
    is_kept = is_inside | (match.ships["status"] != NO_DETECTION).to_numpy()
    match.left_out["ships outside of the scene"] = int((~is_kept).sum())
    match.ships = match.ships[is_kept].reset_index(drop=True)
    left_out = {
        f"messages {name}": n
        for name, n in messages.counts.items()
        if name not in ("rows", "kept")
    }
    match.left_out += Counter(left_out) + tracks.counts
    match.notes = [
        acquisition.note,
        *locations.notes,
        *messages.notes,
        *tracks.notes,
        *match.notes,
    ]
    return match


def match_tracks(
    acquisition: Acquisition,
    tracks: Tracks,
    objects: Objects,
    area: float,
    options: AisOptions = DEFAULT_OPTIONS,
    choices: Mapping[int, int] = {},
) -> AisMatch:
    """Match tracks to objects.

    Args:
        acquisition: when and from where the radar saw the scene.
        tracks: the tracks.
        objects: the objects.
        area: area of the scene in square meters.
        options: confidence and error of positions.
        choices: MMSI by the number of the object, see `read_choices`.

    Raises:
        RequestError: a chosen ship is no candidate of its object.
    """
    states = locate_ships(
        tracks, acquisition.time_at, (acquisition.start + acquisition.end) / 2
    )
    view = acquisition.view(states, options.position_sigma)
    ships = _ship_table(tracks, states, view)
    length = ships["ais_length_m"].to_numpy(np.float64, na_value=np.nan)
    pairs = find_pairs(objects, view, length, states.heading, area)
    if options.review is not None:
        pairs = keep_choices(
            pairs, tracks.ships["mmsi"].to_numpy(), choices, options.review
        )
    best = assign(pairs, len(objects.lon))
    best.confidence[list(choices)] = 1
    values = {
        "object": pairs.objects,
        "score": pairs.score,
        "distance_m": pairs.distance,
        "sigmas": pairs.sigmas,
    }
    candidates = pd.concat(
        [pd.DataFrame(values), ships.iloc[pairs.ships].reset_index(drop=True)], axis=1
    )
    table = _object_table(objects, candidates, pairs, best, options.min_confidence)
    table.loc[list(choices), "reason"] = "chosen in the review"
    if choices:
        notes = [f"ships chosen in the review: {len(choices):,} objects"]
    else:
        notes = []
    if acquisition.scene is None:
        notes.append(
            "moving ships are not shifted, because the product does not say how the"
            " radar moved"
        )
    object_status = table["status"].to_numpy()
    status = np.full(len(ships), NO_DETECTION, object)
    reason = np.full(len(ships), _NO_OBJECT, object)
    reason[pairs.ships] = "the objects near it belong to other ships"
    status[pairs.ships[object_status[pairs.objects] == AMBIGUOUS]] = AMBIGUOUS
    status[best.ship[object_status == MATCHED]] = MATCHED
    reason[status == AMBIGUOUS] = "see the layer of ambiguous objects"
    reason[status == MATCHED] = ""
    ships.insert(1, "status", status)
    ships.insert(2, "reason", reason)
    places = {
        "lon": states.lon,
        "lat": states.lat,
        "radar_lon": view.lon,
        "radar_lat": view.lat,
    }
    return AisMatch(table, ships.assign(**places), candidates, notes)


def search_area(scene: RasterScene, acquisition: Acquisition) -> SearchArea:
    """Return where and when messages are useful: the scene, with a margin for ships that enter or leave it."""
    steps = np.linspace(0, 1, 5)
    edges = [
        (row, col) for row in steps for col in steps if row in (0, 1) or col in (0, 1)
    ]
    rows, cols = np.array(edges).T * [[scene.height], [scene.width]]
    lon, lat = acquisition.georeference.pixels_to_lonlat(rows, cols).T
    middle = float(np.degrees(np.angle(np.exp(1j * np.radians(lon)).mean())))
    margin = np.degrees(_SPEED_MARGIN * TIME_MARGIN / EARTH.b)
    poleward = np.radians(min(np.abs(lat).max(), 85))
    half_width = np.abs((lon - middle + 180) % 360 - 180).max() + margin / np.cos(
        poleward
    )
    center = float(lat.min() + lat.max()) / 2
    half_height = float(np.ptp(lat) / 2 + margin)
    times = acquisition.start - TIME_MARGIN, acquisition.end + TIME_MARGIN
    return SearchArea(middle, center, float(min(half_width, 180)), half_height, *times)


def _objects(scene: RasterScene, locations: SceneLocations) -> Objects:
    """Return positions, lengths and headings: of boxes, or in a column length_m of the file of positions."""
    georeference = scene.georeference
    assert georeference is not None and scene.spacing is not None
    items = locations.locations
    rows, cols = np.array([(x.row, x.col) for x in items]).reshape(-1, 2).T
    lon, lat = (
        georeference.pixels_to_lonlat(rows, cols).T if items else np.empty((2, 0))
    )
    length, heading = (
        np.array([_box_size(x, scene.spacing, georeference) for x in items])
        .reshape(-1, 2)
        .T
    )
    if locations.attributes is not None and "length_m" in locations.attributes:
        given = (
            pd.to_numeric(locations.attributes["length_m"], errors="coerce")
            .astype("float64")
            .to_numpy()
        )
        length = np.where(given > 0, given, length)
    return Objects(lon, lat, length, heading)


def _box_size(
    x: Location, spacing: tuple[float, float], georeference: Georeference
) -> tuple[float, float]:
    """Return the length in meters of a box, and its direction in degrees from 0 to 180; NaN if it has none."""
    if x.box is None:
        return np.nan, np.nan
    corners = np.reshape(x.box, (4, 2))
    sides = np.linalg.norm(np.diff(corners[:3], axis=0) * spacing, axis=1)
    long = int(sides.argmax())
    length = float(sides.max())
    is_detected = x.source_row is None  # drawn around bright pixels
    if is_detected:
        length = measured_length(length, spacing, "detection")["length_m"]
    else:
        length = round(length, 1)
    has_direction = sides.max() >= _LONG_BOX * sides.min()
    return length, (
        georeference.direction(corners[long], corners[long + 1]) % 180
        if has_direction
        else np.nan
    )


def _object_table(
    objects: Objects,
    candidates: pd.DataFrame,
    pairs: Pairs,
    best: Assignment,
    min_confidence: float,
) -> pd.DataFrame:
    """Return the table of objects."""
    is_sure = best.confidence >= min_confidence
    has_ship = best.ship >= 0
    status = np.select([~has_ship, is_sure], [NO_AIS, MATCHED], AMBIGUOUS).astype(
        object
    )
    is_open = (
        status[pairs.objects] == AMBIGUOUS
    )  # pairs of ambiguous objects, whose ships may belong to others
    open_ships = np.setdiff1d(pairs.ships[is_open], best.ship[status == MATCHED])
    status[
        pairs.objects[~has_ship[pairs.objects] & np.isin(pairs.ships, open_ships)]
    ] = AMBIGUOUS
    listed: list[list[str]] = [[] for _ in status]
    for number in np.argsort(-pairs.score, kind="stable"):
        listed[pairs.objects[number]].append(
            f"{candidates['mmsi'][number]} at {pairs.distance[number]:.0f} m"
        )
    reasons = [
        _reason(i, status[i], listed[i], pairs, best, min_confidence)
        for i in range(len(status))
    ]
    table = pd.DataFrame(
        {"lon": objects.lon, "lat": objects.lat, "length_m": objects.length, "heading_deg": objects.heading,
         "status": status, "confidence": np.where(has_ship, best.confidence.round(4), np.nan),
         "reason": pd.Series(reasons, dtype=object), "candidates": ["; ".join(names) or None for names in listed]}
    )  # fmt: skip
    ships = (
        candidates.drop(columns=["object", "score"])
        .round({"distance_m": 2, "sigmas": 2})
        .reindex(best.pair)
    )
    return pd.concat([table, ships.reset_index(drop=True)], axis=1)


def _reason(
    i: int,
    status: str,
    candidates: list[str],
    pairs: Pairs,
    best: Assignment,
    min_confidence: float,
) -> str:
    """Return why an object has its status."""
    if status == MATCHED:
        number = best.pair[i]
        return (
            f"{pairs.distance[number]:.0f} m ({pairs.sigmas[number]:.1f} sigma) from"
            " the ship"
        )
    if not candidates:
        return "no ship of AIS is near"
    if status == NO_AIS:
        return f"the ships near it belong to other objects: {'; '.join(candidates[:3])}"
    if best.pair[i] < 0:
        return f"another object may be its ship as well: {'; '.join(candidates[:3])}"
    if best.other[i] >= 0:
        return (
            f"several ships explain it almost equally well: {'; '.join(candidates[:3])}"
        )
    if 1 / (1 + np.exp(-pairs.score[best.pair[i]])) < min_confidence:
        return (
            f"the ship is far or differs in size: {candidates[0]}"
            f" ({pairs.sigmas[best.pair[i]]:.1f} sigma)"
        )
    return (
        f"another object near it explains the ship almost equally well: {candidates[0]}"
    )


def _ship_table(tracks: Tracks, states: ShipStates, view: RadarView) -> pd.DataFrame:
    ships = tracks.ships
    return pd.DataFrame(
        {"mmsi": ships["mmsi"].astype("Int64"), "ais_class": ships["ais_class"], "ship_type": ships["ship_type"],
         "ship_name": ships["name"], "imo": ships["imo"], "call_sign": ships["call_sign"],
         "ais_length_m": ships["length"], "ais_width_m": ships["width"],
         "speed_kn": (states.speed / KNOT).round(1), "course_deg": states.course.round(1),
         "gap_s": states.gap.round(), "position_from": states.method,
         "sigma_m": np.hypot(view.along, view.across).round() / np.sqrt(2), "shift_m": view.shift.round(1)}
    )  # fmt: skip
