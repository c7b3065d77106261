"""Compare the detection of bright objects in a Sentinel-1 product as amplitude and calibrated to sigma0.

    python -m tools.benchmarks.calibration PRODUCT.SAFE --rounds 3

Prints the median CPU seconds of both, all threads together, and their ratio. The two
are measured in turns.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from rsft.data.imagery.contract import Contract
from rsft.data.imagery.stretch import Stretch
from rsft.errors import RsftError
from rsft.scenes.detection import detect_bright_objects
from rsft.scenes.options import Declaration
from rsft.scenes.query import CfarOptions
from rsft.scenes.raster import RasterScene, gdal_environment, open_scene
from rsft.scenes.windows import ChipWindow
from tools.errors import explained_errors

UNITS = ("amplitude", "sigma0")
SIDE = 64  # of a chip, in pixels


def main() -> None:
    """Measure both, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "product", type=Path, help="a Sentinel-1 GRD product: .SAFE or .zip"
    )
    parser.add_argument(
        "--rounds", type=int, default=3, help="measurements of each unit (%(default)s)"
    )
    options = parser.parse_args()
    try:
        with gdal_environment():
            seconds, objects = measure(open_scene(options.product), options.rounds)
    except RsftError as error:
        sys.exit(f"error: {error}")
    table = Table("unit", "objects", "CPU seconds", "ratio")
    for unit in UNITS:
        ratio = median(seconds[unit]) / median(seconds[UNITS[0]])
        table.add_row(
            unit, str(objects[unit]), f"{median(seconds[unit]):.1f}", f"{ratio:.2f}"
        )
    Console().print(table)


def measure(
    scene: RasterScene, rounds: int
) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Detect bright objects in every unit.

    Args:
        scene: the product.
        rounds: number of measurements of each unit.

    Returns:
        CPU seconds of each round, and the number of objects, by unit.
    """
    seconds: dict[str, list[float]] = {unit: [] for unit in UNITS}
    objects: dict[str, int] = {}
    for _ in range(rounds):
        for unit in UNITS:
            start = time.process_time()
            found = detect_bright_objects(
                scene.in_unit(unit),
                CfarOptions(land="none"),
                ChipWindow(SIDE, 0, (1.0, 1.0)),
                Declaration(unit),
                contract(unit, scene.bands or ()),
                None,
            )
            seconds[unit].append(time.process_time() - start)
            objects[unit] = len(found.locations)
    return seconds, objects


def contract(unit: str, bands: Sequence[str]) -> Contract:
    """Return the contract of a model that takes all bands in one unit."""
    ones = (1.0,) * len(bands)
    return Contract(
        units={unit: (Stretch(high=1.0),) * len(bands)},
        bands=tuple(bands),
        planes=tuple(bands),
        crop=None,
        size=SIDE,
        mean=ones,
        std=ones,
    )


if __name__ == "__main__":
    with explained_errors():
        main()
