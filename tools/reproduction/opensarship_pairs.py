"""Give the pairs of OpenSARShip back: match its AIS messages to the centers of its chips.

    python -m tools.reproduction.opensarship_pairs OPENSARSHIP

OPENSARSHIP contains one folder per scene with Ship.xml, which lists for each ship the
center of its chip, and one AIS message with position, time, speed, course, heading and
length. Each message becomes a track of one message; times differ from that of the scene
by up to 9 minutes. The centers become objects with the length that was measured in the
image. Angles and speeds are in tenths. Line times, flight direction and incidence are
fitted to the list, and the slant range follows from the incidence, because the products
are not part of the data set.
"""

import argparse
import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
from pyproj import CRS, Transformer

from rsft.data.imagery.products.product import Product, RadarMotion
from rsft.plugins.ais.displacement import Acquisition
from rsft.plugins.ais.feed_files import TEXTS
from rsft.plugins.ais.feeds import AisMessages
from rsft.plugins.ais.match import (
    AMBIGUOUS,
    NO_AIS,
    AisOptions,
    match_tracks,
)
from rsft.plugins.ais.matching import Objects
from rsft.plugins.ais.tracks import ShipStates, make_tracks
from rsft.plugins.ais.units import EARTH, KNOT
from rsft.scenes.georeference import Georeference
from rsft.scenes.locators import MATCHED
from rsft.types import Floats
from rsft.utils.untrusted.documents import read_regular
from tools.errors import explained_errors

_VELOCITY = 7590.0
_BEAM_SPEED = 6800.0  # meters per second
_EARTH = 6.371e6
_ORBIT = 7.071e6  # radii in meters
_AREA = 250e3 * 170e3  # square meters


def read_ships(path: Path) -> pd.DataFrame:
    """Read the numbers of all ships of a Ship.xml, whose last tag may be damaged."""
    text = read_regular(path, 2**24).decode(errors="replace")
    rows = [
        dict(re.findall(r"<(\w+)>([^<]*)</\1>", block))
        for block in text.split("<ship>")[1:]
    ]
    table: pd.DataFrame = pd.DataFrame(rows).apply(pd.to_numeric, errors="coerce")
    return table


def match_folder(folder: Path, sigma: float, *, with_shift: bool) -> Counter[str]:
    """Match the ships of one scene, and count right, wrong and ambiguous objects and those without AIS."""
    values = read_ships(folder / "Ship.xml")
    lon = values["Center_longitude"].to_numpy()
    lat = values["Center_latitude"].to_numpy()
    table = pd.DataFrame(
        {"mmsi": values["MMSI"].astype(np.int64), "time": values["Time"], "lat": values["Latitude"],
         "lon": values["Longitude"], "sog": values["Sog"] / 10, "cog": values["Cog"] / 10}
    ).assign(heading=values["True_Head"])  # fmt: skip
    sizes = dict.fromkeys(("bow", "stern", "port", "starboard"), np.nan)
    static = table[["mmsi"]].assign(
        length=values["Length"], width=values["Width"], **sizes, **dict.fromkeys(TEXTS)
    )
    static["length"] = static["length"].where(static["length"] > 0)
    tracks = make_tracks(AisMessages(table, static.set_index("mmsi"), Counter(), []))
    acquisition = fit_acquisition(folder.name, values)
    if not with_shift:
        middle = (acquisition.start + acquisition.end) / 2
        acquisition = Acquisition(acquisition.georeference, middle, middle, None, "")
    objects = Objects(
        lon,
        lat,
        values["Manual_Length"].to_numpy(np.float64),
        np.full(len(lon), np.nan),
    )
    result = match_tracks(
        acquisition, tracks, objects, _AREA, AisOptions(position_sigma=sigma)
    ).objects
    is_right = result["mmsi"] == values["MMSI"].astype("Int64")
    is_matched = (result["status"] == MATCHED).to_numpy()
    counts = {
        "pairs": len(result),
        "right": int((is_matched & is_right.fillna(False)).sum()),
    }
    counts["wrong"] = int(is_matched.sum()) - counts["right"]
    return Counter(
        counts
        | {name: int((result["status"] == name).sum()) for name in (AMBIGUOUS, NO_AIS)}
    )


def measure_shifts(folder: Path) -> Floats:
    """Return the displacements of ships faster than 2 m/s along the flight direction (N, 2): measured and computed.

    The measured one is the distance of the center of the chip from the AIS position,
    extrapolated to the time of its line by speed and course.
    """
    values = read_ships(folder / "Ship.xml")
    acquisition = fit_acquisition(folder.name, values)
    values = values[values["Sog"] / 10 * KNOT > 2]
    lon = values["Center_longitude"].to_numpy()
    lat = values["Center_latitude"].to_numpy()
    speed = values["Sog"].to_numpy() / 10 * KNOT
    course = values["Cog"].to_numpy() / 10
    elapsed = acquisition.time_at(lon, lat) - values["Time"].to_numpy()
    reported = EARTH.fwd(
        values["Longitude"], values["Latitude"], course, speed * elapsed
    )
    zero = np.zeros(len(lon))
    view = acquisition.view(ShipStates(lon, lat, speed, course, course, zero, zero))
    azimuth, _, meters = EARTH.inv(
        np.asarray(reported[0]), np.asarray(reported[1]), lon, lat
    )
    return np.column_stack(
        [meters * np.cos(np.radians(azimuth - view.flight)), view.shift]
    )


def fit_acquisition(name: str, values: pd.DataFrame) -> Acquisition:
    """Fit the geometry of a scene to the pixels and positions of its ships.

    Args:
        name: name of the product, with the times of its first and last line.
        values: numbers of Ship.xml.
    """
    lon = values["Center_longitude"].to_numpy()
    lat = values["Center_latitude"].to_numpy()
    plane = CRS.from_proj4(
        f"+proj=aeqd +lat_0={lat.mean()} +lon_0={lon.mean()} +ellps=WGS84"
    )
    to_lonlat = Transformer.from_crs(plane, "EPSG:4326", always_xy=True)
    x, y = to_lonlat.transform(lon, lat, direction="INVERSE")
    design = np.column_stack(
        [values["Center_x"], values["Center_y"], np.ones(len(lon))]
    )
    a, b, c = np.linalg.lstsq(design, x, rcond=None)[0]
    d, e, f = np.linalg.lstsq(design, y, rcond=None)[0]
    spacing = np.hypot(b, e)
    angles = np.polyfit(values["Center_x"], values["Incidence"], 1)
    times = re.findall(r"\d{8}T\d{6}", name)
    start, end = (pd.Timestamp(text, tz="UTC").timestamp() for text in times[:2])

    def incidence(rows: Floats, cols: Floats) -> Floats:
        return np.asarray(np.polyval(angles, cols), np.float64)

    def slant_range(rows: Floats, cols: Floats) -> Floats:
        angle = np.radians(incidence(rows, cols))
        return np.asarray(
            np.sqrt(_ORBIT**2 - (_EARTH * np.sin(angle)) ** 2) - _EARTH * np.cos(angle),
            np.float64,
        )

    motion = RadarMotion(
        lambda rows, cols: np.asarray(rows) * spacing / _BEAM_SPEED,
        slant_range,
        _VELOCITY,
    )
    product: Any = SimpleNamespace(product=Product(motion=motion, incidence=incidence))
    georeference = Georeference("fit", plane.to_wkt(), affine=(a, b, c, d, e, f))
    return Acquisition(georeference, start, end, product, "")


def main(arguments: list[str] | None = None) -> None:
    """Print a table of all scenes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="folder with one folder per scene")
    parser.add_argument(
        "--sigma",
        type=float,
        default=20,
        help="error of the centers in meters (%(default)s)",
    )
    options = parser.parse_args(arguments)
    names = ("pairs", "right", "wrong", AMBIGUOUS, NO_AIS)
    print(f"| scene | shift | {' | '.join(names)} |\n|---|---|" + "---:|" * len(names))
    totals = {True: Counter[str](), False: Counter[str]()}
    for path in sorted(options.folder.glob("*/Ship.xml")):
        for with_shift, total in totals.items():
            counts = match_folder(path.parent, options.sigma, with_shift=with_shift)
            total.update(counts)
            cells = [f"{counts[name]:,}" for name in names]
            print(
                "|",
                " | ".join(
                    [path.parent.name[17:32], "yes" if with_shift else "no", *cells]
                ),
                "|",
            )
    for with_shift, total in totals.items():
        print(
            "|",
            " | ".join(
                [
                    "all",
                    "yes" if with_shift else "no",
                    *(f"{total[name]:,}" for name in names),
                ]
            ),
            "|",
        )


if __name__ == "__main__":
    with explained_errors():
        main()
