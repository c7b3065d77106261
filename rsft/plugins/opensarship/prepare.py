"""Build chip stores of OpenSARShip."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rsft.data.prepare.registry import data_set, format_prepare_command
from rsft.errors import DataError, RequestError

if TYPE_CHECKING:
    from rsft.data.chips.record import ChipRecord
    from rsft.data.chips.store import ChipStore
    from rsft.plugins.opensarship.opensarship import OpenSARShipChip, OpenSARShipProduct
    from rsft.types import Pixels, Progress

PRODUCT_UNITS = {"uint8": "uint8", "cal": "sigma0", "patch": "amplitude"}
"""Unit of each product.

uint8 is stretched for display, sigma0 is linear and calibrated, amplitude is digital
numbers (|re + i im| for SLC).
"""
_SPACING_M = {"GRDH": 10.0}
"""Pixel spacing by Sentinel-1 product type, in meters. SLC has no single one: 2.3 m in
slant range, 14 m in azimuth."""

THREE_CLASSES = ("Cargo", "Tanker", "Other")
"""Three classes of all ships; "Other" contains every kind but the first two."""

MERCHANT_CLASSES = ("Bulk Carrier", "Container Ship", "Tanker")
"""The three classes that most papers use, which need the types of MarineTraffic;
"Tanker" contains all tankers."""


def describe_labels(store: ChipStore, arguments: Mapping[str, Any]) -> Iterator[str]:
    """Yield the number of chips by source of the label, and the contradictions between AIS and MarineTraffic.

    Args:
        store: a store of `prepare_opensarship`.
        arguments: its arguments; `label` is the source of the label.
    """
    from rsft.plugins.opensarship.opensarship import ship_kind

    is_known = store.table["marinetraffic_type"].notna()
    chips = f"{is_known.sum():,} of {len(is_known):,} chips"
    if arguments["label"] == "ais":
        yield f"labels: AIS for all chips; MarineTraffic has a type for {chips}"
    else:
        yield (
            f"labels: MarineTraffic for {chips}, AIS for those without a type of"
            " MarineTraffic"
        )
    conflicts = store.table[
        store.table["flags"].fillna("").str.contains("label-conflict")
    ]
    kinds = zip(
        conflicts["ais_type"],
        conflicts["marinetraffic_type"].map(ship_kind),
        strict=True,
    )
    for (ais, marinetraffic), count in Counter(kinds).most_common():
        yield (
            f"contradiction: {count:,}  {ais} by AIS, {marinetraffic} by MarineTraffic"
        )


@data_set("opensarship", notes=describe_labels)
def prepare_opensarship(
    source: Path | None,
    root: Path,
    product: Literal["uint8", "cal", "patch"] = "uint8",
    classes: Literal["3", "merchant", "typed"] = "3",
    label: Literal["marinetraffic", "ais"] = "marinetraffic",
    bands: tuple[str, ...] | None = None,
    val: float = 0.1,
    test: float = 0.2,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ChipStore:
    """Build a chip store of OpenSARShip, Sentinel-1 ships in VH and VV; no scene is in two splits.

    Without `bands`, chips of other polarization modes than the most common one are
    skipped. `val` and `test` are approximate. A class is in every split if it is in at
    least as many scenes as there are splits. README.md of the store lists the classes
    that a split lacks.

    Args:
        source: Folder or archive of OpenSARShip that contains the scenes (default:
            search in ROOT, beside it and in raw/).
        product: uint8 (stretched for display), cal (linear sigma0) or patch
            (amplitude).
        classes: 3 (Cargo, Tanker, Other); merchant (Bulk Carrier, Container Ship,
            Tanker, as in most papers, without other ships); or typed (all ship types).
        label: marinetraffic (the ship type of MarineTraffic, and that of AIS where it
            is unknown), or ais.
        bands: Bands to store, such as VV, which all scenes have (default: the most
            common bands).
        val: Share of each class for validation, by whole scenes.
        test: Share of each class for the test split, by whole scenes.

    Raises:
        RequestError: `source` is missing, ambiguous or has no scene with this product,
            `root` is not empty, or an argument is out of range.
        DataError: no chip can be used.
    """
    from rsft.data.chips.builder import build_store, find_finished_store
    from rsft.data.chips.record import StoreDescription, describe_rejections
    from rsft.data.datasets.archive_search import locate_source
    from rsft.data.datasets.source_errors import (
        explain_wrong_source,
        translate_dataset_errors,
    )
    from rsft.data.datasets.splits import split_groups
    from rsft.plugins.opensarship.archives import OPENSARSHIP_ARCHIVE
    from rsft.plugins.opensarship.opensarship import OpenSARShip
    from rsft.utils.source_tree import open_source_tree

    root, source = locate_source(OPENSARSHIP_ARCHIVE, root, source, overwrite)
    options: dict[str, object] = {
        "product": product,
        "classes": classes,
        "label": label,
        "bands": bands,
    }
    options |= {"val": val, "test": test, "seed": seed}
    command = format_prepare_command("opensarship", source, root=root, **options)
    finished = find_finished_store(root, command, overwrite)
    if finished:
        return finished
    _check_opensarship_choices(product, classes, label, bands)
    if not (val >= 0 and test >= 0 and val + test < 1):
        raise RequestError(
            f"the shares are {val} and {test}",
            "--val, --test",
            "give shares >= 0 with a sum < 1",
        )
    with open_source_tree(source, root, progress) as folder:
        hint = (
            "give the folder that contains the scenes, each with"
            f" {OpenSARShip.products[product]}/ and Ship.xml"
        )
        title = f"an OpenSARShip scene with chips of product {product}"
        with (
            explain_wrong_source(OPENSARSHIP_ARCHIVE, folder),
            translate_dataset_errors(title, folder, hint),
        ):
            dataset = OpenSARShip(folder, product, label=label)
        if not dataset.chips:
            hint = describe_rejections(dataset.rejected) or "the folders are empty"
            raise DataError("no chip can be used", source, hint)
        chips, skipped = _select_chips(dataset.chips, bands, source)
        labels = [opensarship_class(chip.ship_type(label), classes) for chip in chips]
        count = labels.count("")
        if count:
            skipped[f"no {', '.join(MERCHANT_CLASSES)}"] = count
        chips = [chip for chip, name in zip(chips, labels, strict=True) if name]
        labels = [name for name in labels if name]
        shares = {"train": 1 - val - test, "val": val, "test": test}
        split_of = split_groups(labels, [chip.scene for chip in chips], shares, seed)
        title = f"OpenSARShip, {dataset.products[product]}"
        names = {"3": THREE_CLASSES, "merchant": MERCHANT_CLASSES}.get(
            classes, sorted(set(labels))
        )
        rejected = dataset.rejected
        description = StoreDescription(
            title,
            names,
            command,
            None,
            skipped,
            rejected,
            columns=_opensarship_columns(),
        )
        columns = zip(chips, labels, strict=True)
        records = [
            _make_record(chip, label, split_of[chip.scene], product, bands)
            for chip, label in columns
        ]
        return build_store(
            root, records, description, overwrite=overwrite, progress=progress
        )


def _check_opensarship_choices(
    product: str, classes: str, label: str, bands: tuple[str, ...] | None
) -> None:
    from rsft.data.imagery.bands import check_bands
    from rsft.plugins.opensarship.opensarship import OpenSARShip

    choices = {
        "--product": (product, tuple(OpenSARShip.products)),
        "--classes": (classes, ("3", "merchant", "typed")),
        "--label": (label, OpenSARShip.labels),
    }
    for option, (value, allowed) in choices.items():
        if value not in allowed:
            raise RequestError(
                f"unknown value {value}", option, f"choose one of {', '.join(allowed)}"
            )
    if classes == "merchant" and label == "ais":
        raise RequestError(
            "AIS has no bulk carriers", "--classes, --label", "leave out --label ais"
        )
    check_bands(bands or ())


def opensarship_class(ship_type: str, classes: str) -> str:
    """Return the class of a ship.

    Args:
        ship_type: its type by AIS or MarineTraffic.
        classes: see `prepare_opensarship`.

    Returns:
        The class, which can name a folder; "" for a ship that is left out.
    """
    from rsft.plugins.opensarship.opensarship import ship_kind

    kind = ship_kind(ship_type)
    if classes == "3":
        if kind in THREE_CLASSES:
            return kind
        return "Other"
    if classes == "merchant":
        name = kind if kind == "Tanker" else ship_type
        if name in MERCHANT_CLASSES:
            return name
        return ""
    return ship_type.replace("/", "-")


def _opensarship_columns() -> dict[str, Any]:
    import pyarrow as pa

    texts = dict.fromkeys(("ais_type", "marinetraffic_type"), pa.string())
    return texts | dict.fromkeys(("ais_length_m", "ais_beam_m"), pa.float64())


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
        others = [
            (names, count)
            for names, count in counts.items()
            if not set(bands) <= set(names)
        ]
        reason = f"without {','.join(bands)}"
        selected = [chip for chip in chips if set(bands) <= set(chip.bands)]
    if not selected:
        available = ", ".join(sorted({band for names in counts for band in names}))
        raise RequestError(
            f"no chip has {', '.join(bands or ())}",
            source,
            f"choose --bands from {available}",
        )
    return selected, Counter(
        {f"{','.join(names)}, {reason}": count for names, count in others}
    )


def _make_record(
    chip: OpenSARShipChip,
    label: str,
    split: str,
    product: OpenSARShipProduct,
    bands: tuple[str, ...] | None,
) -> ChipRecord:
    from rsft.data.chips.record import ChipRecord

    name = (
        f"{chip.scene}__{chip.paths[0].stem.removeprefix('Visual_').replace(' ', '-')}"
    )
    columns: dict[str, object] = {
        "unit": PRODUCT_UNITS[product],
        "group_key": chip.scene,
        "source": "OpenSARShip",
    }
    columns |= {
        "sensor": chip.sensor,
        "spacing_m": _SPACING_M.get(chip.sensor.split()[-1]),
    }
    columns |= {
        "polarisation": ",".join(bands or chip.bands),
        "incidence_deg": chip.incidence_deg,
    }
    columns |= {"mmsi": chip.mmsi, "flags": ",".join(chip.flags)}
    columns |= {
        "ais_type": chip.category,
        "marinetraffic_type": chip.marinetraffic_type,
    }
    columns |= {"ais_length_m": chip.length_m, "ais_beam_m": chip.beam_m}
    path, *others = chip.paths
    read = partial(_read_pixels, chip, product)
    return ChipRecord(
        name, split, label, path, read, 0, chip.bands, columns, tuple(others), bands
    )


def _read_pixels(chip: OpenSARShipChip, product: OpenSARShipProduct) -> Pixels:
    """Read the pixels of a chip; raise DataError if they cannot be used."""
    from rsft.data.imagery.rasters import mask_nodata
    from rsft.data.imagery.reader import check_values
    from rsft.plugins.opensarship.opensarship import read_opensarship_pixels

    path = chip.paths[0]
    try:
        pixels = read_opensarship_pixels(chip, product)
    except OSError as error:
        is_absent = isinstance(error, FileNotFoundError)
        raise DataError(
            (
                "the file cannot be read"
                if is_absent
                else "the file is truncated or damaged"
            ),
            path,
        ) from error
    except ValueError as error:
        raise DataError(str(error), path) from error
    mask_nodata(pixels, None, path)
    check_values(pixels, path)
    return pixels
