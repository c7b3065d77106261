"""Build a chip store of OpenSARShip; all chips of a scene are in one split."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rsft.data.prepare.registry import data_set, format_prepare_command
from rsft.errors import DataError, RequestError

if TYPE_CHECKING:
    from rsft.data.chips.record import ChipRecord
    from rsft.data.chips.store import ChipStore
    from rsft.data.datasets.opensarship import OpenSARShipChip, OpenSARShipProduct
    from rsft.types import Pixels, Progress

PRODUCT_UNITS = {"uint8": "uint8", "cal": "sigma0", "patch": "amplitude"}
"""Unit of each product.

uint8 is stretched for display, sigma0 is linear and calibrated, amplitude is digital numbers (|re + i im| for SLC).
"""
_SPACING_M = {"GRDH": 10.0}
"""Pixel spacing by Sentinel-1 product type, in meters. SLC has no single one: 2.3 m in slant range, 14 m in azimuth."""

THREE_CLASSES = ("Cargo", "Tanker", "Other")
"""The usual three classes; "Other" contains every type but the first two."""


@data_set("opensarship")
def prepare_opensarship(
    source: Path,
    root: Path,
    product: Literal["uint8", "cal", "patch"] = "uint8",
    classes: Literal["3", "typed"] = "3",
    bands: tuple[str, ...] | None = None,
    val: float = 0.1,
    test: float = 0.2,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ChipStore:
    """Build a chip store of OpenSARShip, Sentinel-1 ships in VH and VV; no scene is in two splits.

    Without `bands`, chips of other polarization modes than the most common one are skipped. `val` and `test` are
    approximate. A class is in every split if it is in at least as many scenes as there are splits. README.md of the
    store lists the classes that a split lacks.

    Args:
        source: Folder or archive of OpenSARShip that contains the scenes.
        product: uint8 (stretched for display), cal (linear sigma0) or patch (amplitude).
        classes: 3 (Cargo, Tanker, Other), or typed (the ship types in the file names).
        bands: Bands to store, such as VV, which all scenes have (default: the most common bands).
        val: Share of each class for validation, by whole scenes.
        test: Share of each class for the test split, by whole scenes.

    Raises:
        RequestError: `source` has no scene with this product, `root` is not empty, or an argument is out of range.
        DataError: no chip can be used.
    """
    from torchgeo.datasets.errors import DatasetNotFoundError

    from rsft.data.chips.builder import build_store, find_finished_store
    from rsft.data.chips.record import StoreDescription
    from rsft.data.datasets.common import split_groups
    from rsft.data.datasets.opensarship import OpenSARShip
    from rsft.data.imagery.bands import check_bands
    from rsft.utils.archives import open_source_tree

    options = {"product": product, "classes": classes, "bands": bands, "val": val, "test": test, "seed": seed}
    command = format_prepare_command("opensarship", source, root=root, **options)
    if finished := find_finished_store(root, command, overwrite):
        return finished
    for option, value, choices in (
        ("--product", product, tuple(OpenSARShip.products)),
        ("--classes", classes, ("3", "typed")),
    ):
        if value not in choices:
            raise RequestError(f"unknown value {value}", option, f"choose one of {', '.join(choices)}")
    check_bands(bands or ())
    if not (val >= 0 and test >= 0 and val + test < 1):
        raise RequestError(f"the shares are {val} and {test}", "--val, --test", "give shares >= 0 with a sum < 1")
    with open_source_tree(source, root, progress) as folder:
        try:
            dataset = OpenSARShip(folder, product)
        except DatasetNotFoundError as error:
            hint = f"give the folder that contains the scenes, each with {OpenSARShip.products[product]}/ and Ship.xml"
            raise RequestError(f"no OpenSARShip scene with chips of product {product}", folder, hint) from error
        if not dataset.chips:
            reason = dataset.rejected[0][2] if dataset.rejected else "the folders are empty"
            raise DataError("no chip can be used", source, f"the first reason: {reason}")
        chips, skipped = _select_chips(dataset.chips, bands, source)
        labels = [chip.category if classes == "typed" or chip.category in THREE_CLASSES else "Other" for chip in chips]
        shares = {"train": 1 - val - test, "val": val, "test": test}
        split_of = split_groups(labels, [chip.scene for chip in chips], shares, seed)
        description = StoreDescription(
            name=f"OpenSARShip, {dataset.products[product]}",
            classes=THREE_CLASSES if classes == "3" else sorted(set(labels)),
            command=command,
            skipped=skipped,
            rejected=dataset.rejected,
        )
        records = [
            _make_record(chip, label, split_of[chip.scene], product, bands)
            for chip, label in zip(chips, labels, strict=True)
        ]
        return build_store(root, records, description, overwrite=overwrite, progress=progress)


def _select_chips(
    chips: list[OpenSARShipChip], bands: tuple[str, ...] | None, source: Path
) -> tuple[list[OpenSARShipChip], Counter[str]]:
    """Return the chips that have `bands`, by default the most common ones, and the number of the others by reason."""
    counts = Counter(chip.bands for chip in chips)
    if bands is None:
        (common, _), *others = counts.most_common()
        reason = f"but most chips have {','.join(common)}"
        selected = [chip for chip in chips if chip.bands == common]
    else:
        others = [(names, count) for names, count in counts.items() if not set(bands) <= set(names)]
        reason = f"without {','.join(bands)}"
        selected = [chip for chip in chips if set(bands) <= set(chip.bands)]
    if not selected:
        available = ", ".join(sorted({band for names in counts for band in names}))
        raise RequestError(f"no chip has {', '.join(bands or ())}", source, f"choose --bands from {available}")
    return selected, Counter({f"{','.join(names)}, {reason}": count for names, count in others})


def _make_record(
    chip: OpenSARShipChip, label: str, split: str, product: OpenSARShipProduct, bands: tuple[str, ...] | None
) -> ChipRecord:
    from rsft.data.chips.record import ChipRecord

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
    return ChipRecord(
        *(name, split, label, chip.paths[0], partial(_read_pixels, chip, product)),
        bands=chip.bands,
        selected_bands=bands,
        extra_columns=columns,
        image_paths=chip.paths[1:],
    )


def _read_pixels(chip: OpenSARShipChip, product: OpenSARShipProduct) -> Pixels:
    """Read the pixels of a chip; raise DataError if they cannot be used."""
    from rsft.data.datasets.opensarship import read_opensarship_pixels
    from rsft.data.imagery.reader import check_values, mask_nodata

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
