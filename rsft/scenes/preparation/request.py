"""Options of `rsft prepare scenes`: which chips of scenes are stored.

The command line imports this module for its help, so it imports nothing heavy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from rsft.data.datasets.rare_classes import RareClasses
from rsft.data.prepare.store_build import parse_unit_option
from rsft.scenes.locators import MIN_CONFIDENCE
from rsft.scenes.options import ChipSize
from rsft.scenes.query import LandSource, ObjectQuery, parse_land
from rsft.utils.command_options import Option
from rsft.utils.licenses import UNKNOWN

SplitBy = Literal["scene", "vessel", "object", "given"]
"""What is divided between the splits; with "given", the labels say it."""

_objects = partial(Option, panel="Objects")
_chips = partial(Option, panel="Chips")
_splits = partial(Option, panel="Splits")


@dataclass(frozen=True)
class SceneStoreRequest:
    """Which chips of scenes are stored, and of which class and split they are.

    With a locator, objects are detected unless `objects.at` names them.

    Attributes:
        objects: where labeled objects are.
    """

    objects: ObjectQuery = field(default_factory=ObjectQuery)
    label_field: Annotated[
        str | None,
        _objects(
            "Field of the labels with the class (default: class, category, label, type"
            " ...).",
            "--field",
        ),
    ] = None
    types: Annotated[
        Path | None,
        _objects(
            "YAML file that maps types of the labels to classes: `cargo: [Cargo,"
            ' "70"]`. Other types are left out.',
            metavar="FILE",
        ),
    ] = None
    rare: Annotated[
        RareClasses | None,
        _objects(
            "Classes with fewer than 10 chips: keep them (the default), merge them to"
            " the class other, or drop them."
        ),
    ] = None
    min_confidence: Annotated[
        float,
        _objects("Matches with AIS of a smaller confidence, 0.5 to 1, are left out."),
    ] = MIN_CONFIDENCE
    land: Annotated[
        LandSource,
        _objects(
            "Land, where no objects are detected for --ais: a file of polygons,"
            " brightness, none, or auto, as for `rsft predict`.",
            metavar="FILE",
            parse=parse_land,
        ),
    ] = "auto"
    size: Annotated[
        ChipSize | None,
        _chips(
            "Chip size in pixels (64) or meters (640m), or box+8: along the box of each"
            " object, with a margin of 8 pixels. By default it fits the boxes.",
            metavar="SIZE",
            parse=ChipSize.parse,
        ),
    ] = None
    min_size: Annotated[
        int, _chips("Minimum side of a box in pixels; smaller objects are rejected.")
    ] = 1
    background: Annotated[
        int,
        _chips(
            "Number of chips per scene away from all objects, of the class background.",
            min=0,
        ),
    ] = 0
    unit: Annotated[
        str | None,
        _chips(
            "Unit, if the files do not declare it: amplitude, intensity, sigma0, db,"
            " gamma0, gamma0_db, beta0 or sentinel1_dn. Products with a calibration"
            " are read as sigma0 otherwise.",
            parse=parse_unit_option,
        ),
    ] = None
    bands: Annotated[
        tuple[str, ...] | None,
        _chips(
            "Bands to store, such as VV; for files that do not name their bands, the"
            " names of all bands. One name keeps one band of gray images stored as RGB."
        ),
    ] = None
    spacing: Annotated[
        float | None,
        _chips("Pixel spacing in meters, if a file has no georeference.", min=0.001),
    ] = None
    split: Annotated[
        SplitBy | None,
        _splits(
            "What is divided between train, val and test: scene, vessel (field mmsi) or"
            " object. With given, the field split of the labels gives it, or else the"
            " folder of the scene. By default scene, or object for too few scenes.",
        ),
    ] = None
    val: Annotated[float, _splits("Share of each class for validation.")] = 0.2
    test: Annotated[float, _splits("Share of each class for the test split.")] = 0.0
    license: Annotated[
        str,
        Option(
            "License of the images: an SPDX identifier, or a text with restrictions."
        ),
    ] = UNKNOWN


DEFAULT_REQUEST = SceneStoreRequest()
"""A request without labels."""
