"""Make the pictures of docs/analyst.md: the review page of a simulated scene in headless Chromium.

python -m tools.maintenance.review_pictures runs/quickstart
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import geopandas
import numpy as np
import rasterio
import shapely
import typer
from PIL import Image

from rsft.inference.options import PredictionRequest
from rsft.inference.predict.job import predict
from rsft.plugins.demo.placement import place_ships
from rsft.plugins.demo.radar import (
    SarSensor,
    Shore,
    amplitude_to_uint8,
    render_sar_scene,
)
from rsft.scenes.options import ChipOptions, ChipSize
from rsft.scenes.query import Query
from rsft.utils.atomic_files import write_bytes, write_text
from tools.errors import explained_errors
from tools.maintenance.chromium import (
    PICTURES_DIR,
    View,
    chromium,
    open_page,
    reduce_colors,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SPACING = 2.0  # meters per pixel
SIDE = 1100  # side of the scene in pixels
SHIPS = {"cargo": 14, "fishing": 9, "tanker": 6, "dredger": 5}
_TRANSFORM = rasterio.Affine(SPACING, 0, 390_000, 0, -SPACING, 5_760_000)
_CRS = "EPSG:32631"


VIEWS = {
    "review-desktop-light": View(1280, 800, 1, "light"),
    "review-desktop-dark": View(1280, 800, 1, "dark", "chip"),
    "review-phone-light": View(390, 844, 1.5, "light", "chip"),
    "review-phone-dark": View(390, 844, 1.5, "dark"),
}


def make_scene(folder: Path, seed: int = 0, side: int = SIDE) -> tuple[Path, Path]:
    """Write a GeoTIFF of simulated ships on a sea with a shore, and a GeoPackage of their positions.

    Args:
        folder: folder for both files.
        seed: seed of the simulation.
        side: side of the scene in pixels.

    Returns:
        The paths of both files.
    """
    rng = np.random.default_rng(seed)
    extent = side * SPACING
    kinds = [kind for kind, count in SHIPS.items() for _ in range(count)]
    shore = Shore(0.5, 0.33 * extent)
    poses = place_ships(kinds, shore, 0.94 * extent, rng)
    radar = SarSensor(
        (SPACING, SPACING),
        incidence=36,
        looks=2,
        oversampling=1.2,
        taper=0.75,
        defocus=0,
    )
    pixels = amplitude_to_uint8(
        render_sar_scene(list(poses.values()), shore, radar, rng, side)
    )
    profile = {
        "driver": "GTiff",
        "height": side,
        "width": side,
        "count": 1,
        "dtype": "uint8",
        "compress": "deflate",
    }
    with rasterio.open(
        folder / "scene.tif", "w", crs=_CRS, transform=_TRANSFORM, **profile
    ) as file:
        file.write(pixels[None])
        file.set_band_description(1, "HH")
    middle = [
        (pose.x / SPACING + side / 2, pose.y / SPACING + side / 2)
        for pose in poses.values()
    ]
    points = [shapely.Point(_TRANSFORM @ pair) for pair in middle]
    geopandas.GeoDataFrame(geometry=points, crs=_CRS).to_file(folder / "ships.gpkg")
    return folder / "scene.tif", folder / "ships.gpkg"


def make_page(bundle: Path, folder: Path) -> Path:
    """Classify the ships of a simulated scene, and write the review page.

    Args:
        bundle: a bundle, or the folder of its run.
        folder: folder for scene, table and page.

    Returns:
        The path of the page.
    """
    scene, ships = make_scene(folder)
    page = folder / "harbour.html"
    request = PredictionRequest(
        Query(at=ships),
        chip_options=ChipOptions(size=ChipSize(96)),
        chips_dir=folder / "cut",
        html_path=page,
        device="cpu",
    )
    predict(bundle, [scene], folder / "harbour.gpkg", request)
    # the same on every machine
    write_text(page, page.read_text("utf-8").replace(str(folder.absolute()), "/data"))
    return page


def take_screenshot(browser: Browser, page: Path, view: View) -> bytes:
    """Take a picture of a page on which five chips are labeled, and a sixth may be open, with the scene zoomed to it.

    Args:
        browser: headless Chromium.
        page: path of the page.
        view: size, color scheme, and what is shown.

    Returns:
        A PNG of 128 colors.
    """
    with open_page(browser, page, view) as window:
        _label(window)
        for key in ("c", "-", "-") if view.state == "chip" else ("Escape",):
            window.keyboard.press(key)
        window.wait_for_timeout(100)  # a dialog closes in a task of its own
        # keeps rare colors, such as those of the classes
        return reduce_colors(window.screenshot(), 128, Image.Quantize.MAXCOVERAGE)


def _label(page: Page) -> None:
    """Label the first five chips by keyboard; the sixth stays open."""
    page.locator(".card").first.focus()
    for key in ("Enter", "1", "3", "n", "u", "Enter"):
        page.keyboard.press(key)


def main(
    bundle: Annotated[
        Path,
        typer.Argument(
            help="A bundle of `rsft prepare demo`, or the folder of its run."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = PICTURES_DIR,
) -> None:
    """Simulate a scene, classify its ships, and take pictures of the page: desktop and phone, light and dark."""
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        page = make_page(bundle, Path(folder))
        for name, view in VIEWS.items():
            picture = take_screenshot(browser, page, view)
            write_bytes(out / f"{name}.png", picture)
            typer.echo(f"{name}.png  {len(picture) / 1e3:,.0f} kB")


if __name__ == "__main__":
    with explained_errors():
        typer.run(main)
