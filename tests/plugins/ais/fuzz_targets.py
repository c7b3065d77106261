"""Messages of ships in all formats of `--ais`, and the choices of a reviewer."""

from __future__ import annotations

import gzip
import io
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from rsft.plugins.ais.choices import read_choices
from rsft.plugins.ais.job import match_ais
from rsft.plugins.ais.layers import write_match
from rsft.plugins.ais.match import AisOptions
from rsft.scenes.locations import Location, SceneLocations
from rsft.scenes.raster import open_scene
from tests.fuzz.mutate import (
    Mutator,
    mutate_bytes,
    mutate_parquet,
    mutate_text,
    mutate_zip,
)
from tests.fuzz.target import Target
from tests.helpers.scenes import UTM, write_geotiff

MARINE_CADASTRE = (
    "MMSI,BaseDateTime,LAT,LON,SOG,COG,Heading,VesselName,IMO,CallSign,VesselType,Length,Width\n"
    "219000001,2026-03-14T11:58:00,45.1501,15.0003,5.4,90.0,91,DEL"
    " MONTE,IMO9869693,V7A4893,70,192,30\n"
    "219000001,2026-03-14T12:02:00,45.1501,15.0043,5.4,90.0,91,DEL"
    " MONTE,IMO9869693,V7A4893,70,192,30\n"
    "219000002,2026-03-14T12:00:00,45.1515,15.0031,0.0,360.0,511.0,,,,31,,\n"
)
DMA = (
    "# Timestamp;MMSI;Latitude;Longitude;SOG;COG;Heading;Name;Ship type;A;B;C;D\n"
    "14/03/2026 11:58:00;219000001;45,1501;15,0003;5,4;90;91;FREJA;Fishing;16;8;3;4\n"
    "14/03/2026 12:02:00;219000001;45,1501;15,0043;5,4;90;91;FREJA;Fishing;16;8;3;4\n"
    "14/03/2026 12:00:00;219000002;45,1515;15,0031;;;;;Tug;;;;\n"
)
SPIRE = (
    "timestamp,mmsi,latitude,longitude,speed,course,heading,name,ship_type,length,width\n"
    "2026-03-14T11:59:00.500Z,219000005,45.1501,15.0003,1.5,90.0,91,,,,\n"
    "1773489600,219000005,,,,,,ODIN,Tanker,183,32\n"
)
CHOICES = (
    "path,class,verdict,predicted,scene,at,row,col,chip,table\n"
    '"","219000001 cargo","class","","scene.tif","","20","25","a",""\n'
    '"","","not a target","","scene.tif","","30.5","12","b",""\n'
)
OBJECTS = [
    Location(20, 25, None, "a"),
    Location(30.5, 12, (29, 8, 29, 16, 32, 16, 32, 8), "b"),
]
OPTIONS = AisOptions(time="2026-03-14T12:00:00Z")


def _write_parquet(path: Path) -> None:
    table = pd.read_csv(io.StringIO(MARINE_CADASTRE), parse_dates=["BaseDateTime"])
    table.to_parquet(path, index=False)


def _write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("AIS_2026_03_14.csv", MARINE_CADASTRE)


def _build(name: str, content: str | bytes | partial[None], folder: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (60, 80), np.uint8)
    write_geotiff(folder / "scene.tif", pixels, crs="EPSG:32633", transform=UTM)
    if isinstance(content, partial):
        content(folder / name)
    else:
        (folder / name).write_bytes(
            content.encode() if isinstance(content, str) else content
        )


def _match(name: str, writes: bool, folder: Path) -> None:
    scene = open_scene(folder / "scene.tif")
    match = match_ais(scene, lambda: SceneLocations(OBJECTS), [folder / name], OPTIONS)
    if writes:
        write_match(match, folder / "out.gpkg", {}, overwrite=True)


def _read_choices(folder: Path) -> None:
    read_choices(folder / "choices.csv", OBJECTS)


def _target(
    name: str,
    file: str,
    content: str | bytes | partial[None],
    mutator: Mutator,
    writes: bool = False,
) -> Target:
    read = partial(_match, file, writes)
    outputs = ("out.gpkg",) if writes else ()
    return Target(name, partial(_build, file, content), {file: mutator}, read, outputs)


TARGETS = [
    _target("ais_csv", "ais.csv", MARINE_CADASTRE, mutate_text),
    _target("ais_semicolons", "ais.csv", DMA, mutate_text),
    _target("ais_static", "ais.csv", SPIRE, mutate_text),
    _target("ais_parquet", "ais.parquet", partial(_write_parquet), mutate_parquet),
    _target(
        "ais_gzip",
        "ais.csv.gz",
        gzip.compress(MARINE_CADASTRE.encode()),
        mutate_bytes,
    ),
    _target("ais_zip", "ais.zip", partial(_write_zip), mutate_zip(mutate_text)),
    _target("ais_layers", "ais.csv", MARINE_CADASTRE, mutate_text, writes=True),
    Target(
        "ais_choices",
        partial(_build, "choices.csv", CHOICES),
        {"choices.csv": mutate_text},
        _read_choices,
    ),
]
