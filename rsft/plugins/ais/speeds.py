"""Compare the speeds of AIS messages with the distances between their positions."""

from typing import Any

import numpy as np
import pandas as pd

from rsft.errors import RequestError
from rsft.plugins.ais.units import EARTH, KNOT

_UNKNOWN_SPEEDS = (102.3, 1023.0)  # "not available", also in tenths
_MIN_PAIRS = 5
_MIN_METERS = 200.0  # the rounding of positions does not matter
_MIN_SECONDS = 20.0
_STEP = 120.0  # seconds; of messages that follow each other faster, one is taken
_MAX_SECONDS = 600.0  # a ship does not turn back in between
_MAX_TURN = 15.0  # degrees
_AGREEMENT = np.log(1.35)  # of most pairs with the median, and of speeds with knots


def check_speeds(table: pd.DataFrame, location: str) -> None:
    """Check that speeds are knots, by pairs of messages of ships on one course.

    Args:
        table: messages in order of MMSI and time, with `sog` as the feed has it.
        location: the files of the messages.

    Raises:
        RequestError: the speeds contradict the positions, as those of another unit do.
    """
    pairs = _find_pairs(table)
    if len(pairs) < _MIN_PAIRS:
        return
    ratios = np.asarray(pairs["sog"] / pairs["knots"], np.float64)
    logs = np.log(np.maximum(ratios, 1e-3))
    middle = float(np.median(logs))
    is_common = float(np.mean(np.abs(logs - middle) < _AGREEMENT)) >= 0.5
    if abs(middle) < _AGREEMENT or not is_common:
        return
    examples = [
        f"MMSI {row.mmsi}: {row.sog:.3g}, but {row.knots:.3g} knots by its positions"
        for row in pairs.drop_duplicates("mmsi")[:3].itertuples()
    ]
    raise RequestError(
        f"the speeds of the AIS messages are {np.exp(middle):.3g} times those in knots,"
        f" by {len(pairs):,} pairs of messages: {'; '.join(examples)}",
        location,
        "convert the column of the speed (1 knot is 1.852 km/h, 0.5144 m/s or 10"
        " tenths), or remove it",
    )


def _find_pairs(table: pd.DataFrame) -> pd.DataFrame:
    """Return reported speeds and those by positions, of ships on one course."""
    steps = table.assign(step=table["time"] // _STEP)
    table = table[~steps.duplicated(["mmsi", "step"])]
    first = table[:-1].reset_index(drop=True)
    last = table[1:].reset_index(drop=True)
    seconds = last["time"] - first["time"]
    ends: list[Any] = [first["lon"], first["lat"], last["lon"], last["lat"]]
    meters = EARTH.inv(*[end.to_numpy(np.float64) for end in ends])[2]
    turns = (last["cog"] - first["cog"] + 180).mod(360).sub(180).abs()
    is_known = ~(first["sog"].isin(_UNKNOWN_SPEEDS) | last["sog"].isin(_UNKNOWN_SPEEDS))
    is_steady = turns.fillna(0) <= _MAX_TURN
    is_pair = (first["mmsi"] == last["mmsi"]) & is_known & is_steady
    is_pair &= seconds.between(_MIN_SECONDS, _MAX_SECONDS) & (meters >= _MIN_METERS)
    pairs = pd.DataFrame(
        {
            "mmsi": first["mmsi"],
            "sog": (first["sog"] + last["sog"]) / 2,
            "knots": meters / seconds / KNOT,
        }
    )
    kept: pd.DataFrame = pairs[is_pair]
    return kept.dropna()
