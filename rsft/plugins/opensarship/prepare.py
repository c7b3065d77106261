"""Build chip stores of OpenSARShip."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rsft.data.prepare.registry import data_set
from rsft.data.prepare.store_build import StoreBuild, builds_store
from rsft.errors import DataError, RequestError

if TYPE_CHECKING:
    from rsft.data.chips.record import ChipRecord
    from rsft.data.chips.store import ChipStore
    from rsft.plugins.opensarship.ship_files import OpenSARShipChip, OpenSARShipProduct
    from rsft.types import Bands, JsonObject, Pixels, Progress

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
    """Yield the sources of the labels, and where AIS and MarineTraffic contradict.

    Args:
        store: a store of `prepare_opensarship`.
        arguments: its arguments; `label` is the source of the label.
    """
    from rsft.plugins.opensarship.opensarship import ship_kind

    table = store.table
    is_known = table["marinetraffic_type"].notna()
    chips = f"{is_known.sum():,} of {len(is_known):,} chips"
    if arguments["label"] == "ais":
        yield f"labels: AIS for all chips; MarineTraffic has a type for {chips}"
    else:
        yield (
            f"labels: MarineTraffic for {chips}, AIS for those without a type of"
            " MarineTraffic"
        )
    has_conflict = table["flags"].fillna("").str.contains("label-conflict")
    conflicts = table[has_conflict]
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
@builds_store("opensarship")
def prepare_opensarship(
    build: StoreBuild,
    source: Path | None,
    root: Path,
    product: Literal["uint8", "cal", "patch"] = "uint8",
    classes: Literal["3", "merchant", "typed"] = "3",
    label: Literal["marinetraffic", "ais"] = "marinetraffic",
    bands: tuple[str, ...] | None = None,
    val: float = 0.1,
    test: float = 0.2,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ChipStore:
    """Build a chip store of OpenSARShip, Sentinel-1 ships in VH and VV.

    No scene is in two splits. Without `bands`, chips of other polarization modes than
    the most common one are skipped. `val` and `test` are approximate. A class is in
    every split if it is in at least as many scenes as there are splits. README.md of
    the store lists the classes that a split lacks.

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
    from rsft.data.chips.record import StoreDescription, describe_rejections
    from rsft.data.datasets.source_errors import open_source
    from rsft.data.imagery.bands import check_bands
    from rsft.plugins.opensarship.archives import OPENSARSHIP_ARCHIVE
    from rsft.plugins.opensarship.opensarship import OpenSARShip

    if classes == "merchant" and label == "ais":
        raise RequestError(
            "AIS has no bulk carriers", "--classes, --label", "leave out --label ais"
        )
    check_bands(bands or ())
    if not (val >= 0 and test >= 0 and val + test < 1):
        raise RequestError(
            f"the shares are {val} and {test}",
            "--val, --test",
            "give shares >= 0 with a sum < 1",
        )
    title = f"an OpenSARShip scene with chips of product {product}"
    with build.open_source() as folder:
        dataset = open_source(
            OPENSARSHIP_ARCHIVE,
            folder,
            title,
            lambda folder: OpenSARShip(folder, product, label=label),
        )
        if not dataset.chips:
            hint = describe_rejections(dataset.rejected) or "the folders are empty"
            raise DataError("no chip can be used", build.source_path, hint)
        chips, skipped = _select_chips(dataset.chips, bands, build.source_path)
        labels = [opensarship_class(chip.ship_type(label), classes) for chip in chips]
        without_class = labels.count("")
        if without_class:
            skipped[f"no {', '.join(MERCHANT_CLASSES)}"] = without_class
        shares = {"train": 1 - val - test, "val": val, "test": test}
        records = _list_records(chips, labels, shares, product, bands)
        names = {"3": THREE_CLASSES, "merchant": MERCHANT_CLASSES}
        description = StoreDescription(
            f"OpenSARShip, {dataset.products[product]}",
            names.get(classes, sorted({*labels} - {""})),
            build.command,
            skipped=skipped,
            rejected=dataset.rejected,
            columns=_further_columns(),
        )
        return build.write(records, description)


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
    if classes == "typed":
        return ship_type.replace("/", "-")
    if classes == "merchant":
        name = kind if kind == "Tanker" else ship_type
        return name if name in MERCHANT_CLASSES else ""
    return kind if kind in THREE_CLASSES else "Other"


def _further_columns() -> JsonObject:
    import pyarrow as pa

    return {
        "ais_type": pa.string(),
        "marinetraffic_type": pa.string(),
        "ais_length_m": pa.float64(),
        "ais_beam_m": pa.float64(),
    }


def _select_chips(
    chips: list[OpenSARShipChip], bands: Bands | None, source: Path
) -> tuple[list[OpenSARShipChip], Counter[str]]:
    """Return the chips that have `bands`, and the number of the others by reason.

    By default, the bands are the most common ones.
    """
    counts = Counter(chip.bands for chip in chips)
    if bands is None:
        [(common, _)] = counts.most_common(1)
        usable = {common}
        reason = f"but most chips have {','.join(common)}"
    else:
        usable = {names for names in counts if set(bands) <= set(names)}
        reason = f"without {','.join(bands)}"
    if not usable:
        available = ", ".join(sorted(set().union(*counts)))
        raise RequestError(
            f"no chip has {', '.join(bands or ())}",
            source,
            f"choose --bands from {available}",
        )
    others = [names for names in counts if names not in usable]
    skipped = Counter(
        {f"{','.join(names)}, {reason}": counts[names] for names in others}
    )
    return [chip for chip in chips if chip.bands in usable], skipped


def _list_records(
    chips: list[OpenSARShipChip],
    labels: list[str],
    shares: Mapping[str, float],
    product: OpenSARShipProduct,
    bands: Bands | None,
) -> list[ChipRecord]:
    """Make the records of the chips whose label is not "", split by whole scenes."""
    from rsft.data.chips.group_splits import split_groups
    from rsft.data.chips.record import ChipRecord

    labeled = [pair for pair in zip(chips, labels, strict=True) if pair[1]]
    scenes = [chip.scene for chip, _ in labeled]
    split_of = split_groups([label for _, label in labeled], scenes, shares, seed=0)
    records = []
    for chip, label in labeled:
        path, *others = chip.paths
        name = path.stem.removeprefix("Visual_").replace(" ", "-")
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
            "ais_type": chip.category,
            "marinetraffic_type": chip.marinetraffic_type,
            "ais_length_m": chip.length_m,
            "ais_beam_m": chip.beam_m,
        }
        record = ChipRecord(
            f"{chip.scene}__{name}",
            split_of[chip.scene],
            label,
            path,
            partial(_read_pixels, chip, product),
            bands=chip.bands,
            extra_columns=columns,
            image_paths=tuple(others),
            selected_bands=bands,
        )
        records.append(record)
    return records


def _read_pixels(chip: OpenSARShipChip, product: OpenSARShipProduct) -> Pixels:
    """Read the pixels of a chip; raise DataError if they cannot be used."""
    from rsft.data.imagery.raster_values import mask_nodata
    from rsft.data.imagery.reader import check_values
    from rsft.plugins.opensarship.ship_files import read_opensarship_pixels

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
