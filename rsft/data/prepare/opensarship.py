"""Build a chip store of OpenSARShip; all chips of a scene are in one split."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Literal

from torchgeo.datasets import DatasetNotFoundError

from rsft.data.chips.builder import ChipRecord, StoreDescription, build_store, find_finished_store
from rsft.data.chips.store import ChipStore
from rsft.data.datasets.opensarship import (
    OpenSARShip,
    OpenSARShipChip,
    OpenSARShipProduct,
    read_opensarship_pixels,
)
from rsft.data.imagery.bands import check_bands
from rsft.data.imagery.reader import check_values, mask_nodata
from rsft.data.prepare.common import format_prepare_command, split_groups
from rsft.errors import DataError, RequestError
from rsft.types import Pixels, Progress
from rsft.utils.archives import open_source_tree

ClassScheme = Literal["3", "typed"]

PRODUCT_UNITS: dict[OpenSARShipProduct, str] = {"uint8": "uint8", "cal": "sigma0", "patch": "amplitude"}
"""Unit of each product.

uint8 is stretched for display, sigma0 is linear and calibrated, amplitude is digital numbers (|re + i im| for SLC).
"""
_SPACING_M = {"GRDH": 10.0}
"""Pixel spacing by Sentinel-1 product type, in meters. SLC has no single one: 2.3 m in slant range, 14 m in azimuth."""

THREE_CLASSES = ("Cargo", "Tanker", "Other")
"""The usual three classes; "Other" contains every type but the first two."""


def prepare_opensarship(
    src: Path,
    root: Path,
    *,
    product: OpenSARShipProduct = "uint8",
    classes: ClassScheme = "3",
    bands: tuple[str, ...] | None = None,
    val: float = 0.1,
    test: float = 0.2,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ChipStore:
    """Build a chip store of one product.

    Without `bands`, only chips with the most common bands are used; chips of other polarization modes are skipped.

    Args:
        src: folder or archive with the scenes.
        root: folder of the chip store.
        product: uint8 (stretched for display), cal (sigma0) or patch (amplitude).
        classes: "3" for `THREE_CLASSES`, "typed" for the ship types in the file names.
        bands: names of the bands to store, such as VV, which all scenes have.
        val: approximate share of each class for validation, by whole scenes.
        test: approximate share of each class for the test split, by whole scenes. A class is in every split if it is
            in at least as many scenes as there are splits. README.md of the store lists the classes that a split lacks.
        seed: seed of the splits.
        overwrite: replace an existing chip store at `root`.
        progress: called after each chip.

    Returns:
        The chip store.

    Raises:
        RequestError: `src` has no scene with this product, `root` is not empty, or an argument is out of range.
        DataError: no chip can be used.
    """
    command = format_prepare_command(
        "opensarship",
        src,
        root=root,
        product=product,
        classes=classes,
        bands=",".join(bands) if bands else None,
        val=val,
        test=test,
        seed=seed,
    )
    if finished := find_finished_store(root, command, overwrite):
        return finished
    _check_choice("--product", product, tuple(OpenSARShip.products))
    _check_choice("--classes", classes, ("3", "typed"))
    check_bands(bands or ())
    if not (val >= 0 and test >= 0 and val + test < 1):
        raise RequestError(f"the shares are {val} and {test}", "--val, --test", "give shares >= 0 with a sum < 1")
    with open_source_tree(src, root, progress) as folder:
        source = _open_dataset(folder, product)
        if not source.chips:
            reason = source.rejected[0][2] if source.rejected else "the folders are empty"
            raise DataError("no chip can be used", src, f"the first reason: {reason}")
        chips, skipped = _select_chips(source.chips, bands, src)
        labels = [chip.category if classes == "typed" or chip.category in THREE_CLASSES else "Other" for chip in chips]
        shares = {"train": 1 - val - test, "val": val, "test": test}
        split_of = split_groups(labels, [chip.scene for chip in chips], shares, seed)
        description = StoreDescription(
            name=f"OpenSARShip, {source.products[product]}",
            classes=THREE_CLASSES if classes == "3" else sorted(set(labels)),
            command=command,
            skipped=skipped,
            rejected=source.rejected,
        )
        records = [
            _make_record(chip, label, split_of[chip.scene], product, bands)
            for chip, label in zip(chips, labels, strict=True)
        ]
        return build_store(root, records, description, overwrite=overwrite, progress=progress)


def _open_dataset(folder: Path, product: OpenSARShipProduct) -> OpenSARShip:
    try:
        return OpenSARShip(folder, product)
    except DatasetNotFoundError as error:
        hint = f"give the folder that contains the scenes, each with {OpenSARShip.products[product]}/ and Ship.xml"
        raise RequestError(f"no OpenSARShip scene with chips of product {product}", folder, hint) from error


def _select_chips(
    chips: list[OpenSARShipChip], bands: tuple[str, ...] | None, src: Path
) -> tuple[list[OpenSARShipChip], Counter[str]]:
    """Return the chips that have `bands`, by default the most common ones, and the number of the others by reason."""
    if bands is not None:
        missing = Counter(chip.bands for chip in chips if not set(bands) <= set(chip.bands))
        if missing.total() == len(chips):
            available = ", ".join(sorted({band for chip in chips for band in chip.bands}))
            raise RequestError(f"no chip has {', '.join(bands)}", src, f"choose --bands from {available}")
        skipped = Counter({f"{','.join(x)}, without {','.join(bands)}": count for x, count in missing.items()})
        return [chip for chip in chips if set(bands) <= set(chip.bands)], skipped
    (common, _), *others = Counter(chip.bands for chip in chips).most_common()
    skipped = Counter({f"{','.join(bands)}, but most chips have {','.join(common)}": count for bands, count in others})
    return [chip for chip in chips if chip.bands == common], skipped


def _make_record(
    chip: OpenSARShipChip, label: str, split: str, product: OpenSARShipProduct, bands: tuple[str, ...] | None
) -> ChipRecord:
    name = f"{chip.scene}__{chip.paths[0].stem.removeprefix('Visual_').replace(' ', '-')}"
    columns = {
        "unit": PRODUCT_UNITS[product],
        "group_key": chip.scene,
        "source": "OpenSARShip",
        "sensor": chip.sensor,
        "spacing_m": _SPACING_M.get(chip.sensor.split()[-1]),
        "polarisation": ",".join(bands or chip.bands),
        "incidence_deg": chip.incidence_deg,
        "mmsi": chip.mmsi,
        "flags": ",".join(chip.flags),
    }
    read_pixels = partial(_read_pixels, chip, product)
    first, *others = chip.paths
    return ChipRecord(
        *(name, split, label, first, read_pixels),
        bands=chip.bands,
        selected_bands=bands,
        extra_columns=columns,
        image_paths=tuple(others),
    )


def _read_pixels(chip: OpenSARShipChip, product: OpenSARShipProduct) -> Pixels:
    """Read the pixels of a chip; raise DataError if they cannot be used."""
    path = chip.paths[0]
    try:
        pixels = read_opensarship_pixels(chip, product)
    except FileNotFoundError as error:
        raise DataError("the file cannot be read", path) from error
    except OSError as error:
        raise DataError("the file is truncated or damaged", path) from error
    except ValueError as error:
        raise DataError(str(error), path) from error
    mask_nodata(pixels, None, path)
    check_values(pixels, path)
    return pixels


def _check_choice(option: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise RequestError(f"unknown value {value}", option, f"choose one of {', '.join(choices)}")
