"""OpenSARShip into a chip store: no scene in two splits."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Literal

from rsft.data.chips.builder import Plan, Record, build_store, check_free
from rsft.data.chips.store import ChipStore
from rsft.data.datasets.opensarship import FOLDERS, UNITS, OpenSARShip, OpenSARShipChip, Product, read_pixels
from rsft.data.prepare._command import prepare_command
from rsft.data.prepare.group_splits import split_groups
from rsft.errors import DataError, RequestError
from rsft.types import Progress
from rsft.utils.archives.source_tree import unpacked

Classes = Literal["3", "typed"]

THREE = ("Cargo", "Tanker", "Other")
"""The usual classes: every type but the first two is Other."""


def prepare_opensarship(
    src: Path,
    root: Path,
    *,
    product: Product = "uint8",
    classes: Classes = "3",
    val: float = 0.1,
    test: float = 0.2,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ChipStore:
    """Write the chips of one product of the scenes in the folder or archive `src` into the chip store `root`.

    Only chips of the commonest bands are taken: those of single-polarisation scenes are left out of a set of two.

    Args:
        classes: "3" for THREE, "typed" for the types as the files name them.
        val, test: shares of each class to come near to; a scene goes to one split with all its ships. Each class is in
            every split if it is in as many scenes; README.md of the store names those that a split lacks.

    Raises:
        RequestError: `src` has no such scene, `root` is taken, or an argument is out of range.
        DataError: no chip can be used.
    """
    check_free(root, overwrite)
    _check_choice("--product", product, tuple(FOLDERS))
    _check_choice("--classes", classes, ("3", "typed"))
    if not (val >= 0 and test >= 0 and val + test < 1):
        raise RequestError(f"shares of {val} and {test}", "--val, --test", "give shares of 0 or more, in all under 1")
    with unpacked(src, root, progress) as folder:
        source = OpenSARShip(folder, product)
        if not source.chips:
            reason = source.rejected[0][2] if source.rejected else "the folders are empty"
            raise DataError("no chip can be used", src, f"the first reason: {reason}")
        chips, skipped = _of_commonest_bands(source.chips)
        labels = [chip.category if classes == "typed" or chip.category in THREE else "Other" for chip in chips]
        shares = {"train": 1 - val - test, "val": val, "test": test}
        split_of = split_groups(labels, [chip.scene for chip in chips], shares, seed)
        plan = Plan(
            name=f"OpenSARShip, {FOLDERS[product]}",
            classes=THREE if classes == "3" else sorted(set(labels)),
            command=prepare_command(
                "opensarship", src, root=root, product=product, classes=classes, val=val, test=test, seed=seed
            ),
            skipped=skipped,
            rejected=source.rejected,
        )
        records = [
            _record(chip, label, split_of[chip.scene], product) for chip, label in zip(chips, labels, strict=True)
        ]
        return build_store(root, records, plan, overwrite=overwrite, progress=progress)


def _of_commonest_bands(chips: list[OpenSARShipChip]) -> tuple[list[OpenSARShipChip], Counter[str]]:
    (kept, _), *others = Counter(chip.bands for chip in chips).most_common()
    skipped = Counter({f"{','.join(bands)}, where most chips have {','.join(kept)}": count for bands, count in others})
    return [chip for chip in chips if chip.bands == kept], skipped


def _record(chip: OpenSARShipChip, label: str, split: str, product: Product) -> Record:
    name = f"{chip.scene}__{chip.paths[0].stem.removeprefix('Visual_').replace(' ', '-')}"
    facts = {
        "unit": UNITS[product],
        "group_key": chip.scene,
        "source": "OpenSARShip",
        "sensor": chip.sensor,
        "spacing_m": chip.spacing_m,
        "polarisation": ",".join(chip.bands),
        "incidence_deg": chip.incidence_deg,
        "mmsi": chip.mmsi,
        "flags": ",".join(chip.flags),
    }
    cut = partial(read_pixels, chip, product)
    origin, *others = chip.paths
    return Record(name, split, label, origin, cut, bands=chip.bands, facts=facts, images=tuple(others))


def _check_choice(option: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise RequestError(f"{value} is no choice", option, f"choose one of {', '.join(choices)}")
