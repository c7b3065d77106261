"""Name the ship of each object by the tracks of ships, or say why it has none."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rsft.errors import RequestError
from rsft.plugins.ais.choices import keep_choices
from rsft.plugins.ais.displacement import POSITION_SIGMA, Acquisition, RadarView
from rsft.plugins.ais.matching import (
    Assignment,
    Objects,
    Pairs,
    assign,
    find_pairs,
)
from rsft.plugins.ais.tracks import ShipStates, Tracks, locate_ships
from rsft.plugins.ais.units import KNOT
from rsft.scenes.locations import SceneLocations
from rsft.scenes.locators import MATCHED, MIN_CONFIDENCE
from rsft.scenes.raster import RasterScene

AMBIGUOUS = "ambiguous"
NO_AIS = "no AIS"
NO_DETECTION = "no detection"
"""What became of an object (`MATCHED`, `AMBIGUOUS` or `NO_AIS`), or of a ship
(`MATCHED`, `AMBIGUOUS` or `NO_DETECTION`)."""


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
            raise RequestError(
                f"the confidence {self.min_confidence:g} is not between 0.5 and 1",
                "--min-confidence",
                "give 0.5 to accept every best pair, or up to 0.999",
            )


DEFAULT_OPTIONS = AisOptions()
"""The time of the scene, and pairs with a confidence of 0.9."""


@dataclass
class AisMatch:
    """Objects and ships of a scene, and which belong together.

    Attributes:
        objects: one row per object, in the order of the positions: `status` ("matched",
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
        positions: where the objects are in it.
    """

    objects: pd.DataFrame
    ships: pd.DataFrame
    candidates: pd.DataFrame
    notes: list[str]
    left_out: Counter[str] = field(default_factory=Counter)
    scene: RasterScene | None = None
    positions: SceneLocations = field(default_factory=SceneLocations)

    @property
    def counts(self) -> dict[str, int]:
        """Number of objects by status, and of ships without a detection."""
        statuses = self.objects["status"].tolist()
        counts = {name: statuses.count(name) for name in (MATCHED, AMBIGUOUS, NO_AIS)}
        return {
            **counts,
            "AIS without detection": self.ships["status"].tolist().count(NO_DETECTION),
        }


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
    ships = _make_ship_table(tracks, states, view)
    length = ships["ais_length_m"].to_numpy(np.float64, na_value=np.nan)
    pairs = find_pairs(objects, view, length, states.heading, area)
    if options.review is not None:
        pairs = keep_choices(
            pairs, tracks.ships["mmsi"].to_numpy(), choices, options.review
        )
    best = assign(pairs, len(objects.lon))
    best.confidence[list(choices)] = 1
    candidates = pd.DataFrame(
        {
            "object": pairs.objects,
            "score": pairs.score,
            "distance_m": pairs.distance,
            "sigmas": pairs.sigmas,
        }
    ).join(ships.iloc[pairs.ships].reset_index(drop=True))
    status = _find_statuses(pairs, best, options.min_confidence)
    table = _make_object_table(objects, candidates, best, status)
    table.loc[list(choices), "reason"] = "chosen in the review"
    notes = []
    if choices:
        notes.append(f"ships chosen in the review: {len(choices):,} objects")
    if acquisition.scene is None:
        notes.append(
            "moving ships are not shifted, because the product does not say how the"
            " radar moved"
        )
    _add_ship_statuses(ships, pairs, best, status)
    ships = ships.assign(
        lon=states.lon, lat=states.lat, radar_lon=view.lon, radar_lat=view.lat
    )
    return AisMatch(table, ships, candidates, notes)


def _make_ship_table(
    tracks: Tracks, states: ShipStates, view: RadarView
) -> pd.DataFrame:
    names = {
        "mmsi": "mmsi",
        "ais_class": "ais_class",
        "ship_type": "ship_type",
        "name": "ship_name",
        "imo": "imo",
        "call_sign": "call_sign",
        "length": "ais_length_m",
        "width": "ais_width_m",
    }
    ships = tracks.ships[list(names)].rename(columns=names).astype({"mmsi": "Int64"})
    return ships.assign(
        speed_kn=(states.speed / KNOT).round(1),
        course_deg=states.course.round(1),
        gap_s=states.gap.round(),
        sigma_m=np.hypot(view.along, view.across).round() / np.sqrt(2),
        shift_m=view.shift.round(1),
    )


def _find_statuses(pairs: Pairs, best: Assignment, min_confidence: float) -> Any:
    """Return the status of each object (N,).

    A ship of an ambiguous object may belong to another object as well. An object
    without a ship is then ambiguous, too.
    """
    has_ship = best.ship >= 0
    is_sure = best.confidence >= min_confidence
    status = np.select([~has_ship, is_sure], [NO_AIS, MATCHED], AMBIGUOUS)
    status = status.astype(object)
    is_open = status[pairs.objects] == AMBIGUOUS
    open_ships = np.setdiff1d(pairs.ships[is_open], best.ship[status == MATCHED])
    is_rival = ~has_ship[pairs.objects] & np.isin(pairs.ships, open_ships)
    status[pairs.objects[is_rival]] = AMBIGUOUS
    return status


def _make_object_table(
    objects: Objects, candidates: pd.DataFrame, best: Assignment, status: Any
) -> pd.DataFrame:
    count = len(status)
    near = np.bincount(candidates["object"], minlength=count)
    reason = np.select(
        [near == 0, status == NO_AIS, status == MATCHED, near > 1],
        [
            "no ship of AIS is near",
            "the ships near it belong to other objects",
            "",
            "several ships explain it almost equally well",
        ],
        "the ship is far, differs in size, or is another object as probably",
    )
    table = pd.DataFrame(
        {
            "lon": objects.lon,
            "lat": objects.lat,
            "length_m": objects.length,
            "heading_deg": objects.heading,
            "status": status,
            "confidence": np.where(best.ship < 0, np.nan, best.confidence.round(4)),
            "reason": reason,
            "candidates": _list_candidates(candidates).reindex(range(count)),
        }
    )
    ships = candidates.drop(columns=["object", "score"]).reindex(best.pair)
    ships = ships.round({"distance_m": 2, "sigmas": 2})
    return table.join(ships.reset_index(drop=True))


def _list_candidates(candidates: pd.DataFrame) -> "pd.Series[str]":
    """Return ship and distance of the candidates by object, the best one first."""
    ranked = candidates.sort_values("score", ascending=False, kind="stable")
    distances = ranked["distance_m"].map(" at {:.0f} m".format)
    texts = ranked["mmsi"].astype(str).str.cat(distances).astype(object)
    return texts.groupby(ranked["object"]).agg("; ".join)


def _add_ship_statuses(
    ships: pd.DataFrame, pairs: Pairs, best: Assignment, object_status: Any
) -> None:
    numbers = np.arange(len(ships))
    is_near = np.isin(numbers, pairs.ships)
    is_open = object_status[pairs.objects] == AMBIGUOUS
    is_ambiguous = np.isin(numbers, pairs.ships[is_open])
    is_matched = np.isin(numbers, best.ship[object_status == MATCHED])
    outcomes = [is_matched, is_ambiguous]
    status = np.select(outcomes, [MATCHED, AMBIGUOUS], NO_DETECTION)
    reason = np.select(
        [*outcomes, is_near],
        [
            "",
            "see the layer of ambiguous objects",
            "the objects near it belong to other ships",
        ],
        "no object is near where the radar would show it",
    )
    ships.insert(1, "status", status)
    ships.insert(2, "reason", reason)
