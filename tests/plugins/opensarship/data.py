"""Write small OpenSARShip scenes of noise in the published layout: python data.py
FOLDER."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning

GRD = "S1A_IW_GRDH_1SDV_20150902T102505_20150902T102534_007535_00A699_2D00"
SLC = "S1A_IW_SLC__1SDV_20160606T221231_20160606T221258_011596_011B8A_3FF3"
SINGLE = "S1A_IW_SLC__1SSV_20150217T204257_20150217T204324_004668_005C34_2DC9"

RECORD = """\t<ship>
\t\t<SARShipInformation><Center_x>{x}</Center_x><Center_y>{y}</Center_y>
\t\t<Center_longitude>1.145977e+02</Center_longitude><Center_latitude>NaN</Center_latitude>
\t\t<Incidence>34.5</Incidence></SARShipInformation>
\t\t<AISShipInformation><MMSI>477207300</MMSI><Ship_Type>{code}</Ship_Type><Length>0</Length>
\t\t<Width>32</Width></AISShipInformation>
\t\t<MarineTrafficInformation><Elaborated_type>{marinetraffic}</Elaborated_type></MarineTrafficInformation>
\t</ship>
"""


def write_tiff(path: Path, pixels: np.ndarray) -> None:
    """Write pixels (B, H, W) without a georeference."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = pixels.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        shape = {
            "width": width,
            "height": height,
            "count": count,
            "dtype": pixels.dtype.name,
        }
        with rasterio.open(path, "w", driver="GTiff", **shape) as file:
            file.write(pixels)


def write_scene(
    root: Path,
    scene: str,
    ships: dict[str, int],
    end: str = r"<\ShipList>",
    more: str = "",
    seed: int = 0,
    types: dict[str, str] | None = None,
) -> Path:
    """Write a scene; `ships` maps names such as Cargo_x3_y4 to AIS codes, and `types`
    to types of MarineTraffic."""
    folder = root / scene
    rng = np.random.default_rng(seed)
    bands = 2 if "SDV" in scene else 1
    records = []
    for side, (name, code) in enumerate(ships.items(), 9):
        x, y = name.split("_x")[1].split("_y")
        records.append(
            RECORD.format(
                x=x, y=y, code=code, marinetraffic=(types or {}).get(name, "NA")
            )
        )
        complex_ = rng.normal(0, 100, (bands, 2, side, side)).astype(np.float32)
        amplitude = np.hypot(complex_[:, 0], complex_[:, 1])
        patch = complex_.reshape(-1, side, side) if "SLC" in scene else amplitude
        write_tiff(folder / f"Patch/{name}.tif", patch)
        write_tiff(folder / f"Patch_Cal/{name}.tif", amplitude**2 / 1e6)
        for band, suffix in zip(
            amplitude, ("_vh", "_vv") if bands == 2 else ("",), strict=True
        ):
            path = folder / f"Patch_Uint8/Visual_{name}{suffix}.tif"
            write_tiff(path, np.clip(band, 0, 255).astype(np.uint8)[None])
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\r\n<ShipList>\r\n'
        + "".join(records)
        + more
        + end
    )
    (folder / "Ship.xml").write_text(text)
    return folder


if __name__ == "__main__":
    for name in (GRD, SLC, SINGLE):
        write_scene(
            Path(sys.argv[1]),
            name,
            {"Cargo_x3_y4": 70, "Tanker_x5_y6": 80, "Other Type_x7_y8": 0},
        )
