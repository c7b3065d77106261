"""Headers of products of sensors."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.fuzz.classes.scenes import read_scene
from tests.fuzz.mutate import mutate_json, mutate_text
from tests.fuzz.target import Target
from tests.plugins.sensors.test_alos2 import write_product as write_alos2
from tests.plugins.sensors.test_gaofen3 import STEM as STEM_GAOFEN3
from tests.plugins.sensors.test_gaofen3 import write_product as write_gaofen3
from tests.plugins.sensors.test_processed import write_dimap
from tests.plugins.sensors.test_radarsat import write_radarsat2, write_rcm
from tests.plugins.sensors.test_terrasar import write_product as write_terrasar
from tests.plugins.sensors.test_vendor_folders import (
    CAPELLA,
    ICEYE,
    UMBRA,
    capella,
    iceye_xml,
    umbra,
)


def _target(name: str, write: Callable[[Path], object], *headers: str) -> Target:
    """Return the class of a product that `write` writes into a folder."""
    mutators = {}
    for header in headers:
        is_json = header.endswith(".json")
        mutators[f"{name}/{header}"] = mutate_json if is_json else mutate_text
    return Target(
        name,
        lambda folder: write(folder / name),
        mutators,
        partial(read_scene, name),
    )


TARGETS = [
    _target("radarsat2", write_radarsat2, "product.xml", "lutSigma.xml"),
    _target(
        "rcm",
        write_rcm,
        "metadata/product.xml",
        "metadata/calibration/incidenceAngles.xml",
    ),
    _target("terrasar", write_terrasar, "terrasar.xml", "ANNOTATION/GEOREF.xml"),
    _target("gaofen3", write_gaofen3, f"{STEM_GAOFEN3.format('HHHV')}.meta.xml"),
    _target("alos2", write_alos2, "summary.txt"),
    _target("capella", capella, f"{CAPELLA}_extended.json"),
    _target("iceye", iceye_xml, f"{ICEYE}.xml"),
    _target("umbra", umbra, f"{UMBRA}_METADATA.json"),
    Target(
        "dimap",
        lambda folder: write_dimap(folder / "dimap", ["Gamma0_VV"]),
        {"dimap/S1.dim": mutate_text},
        partial(read_scene, "dimap"),
    ),
]
"""All classes of input of this plug-in."""
