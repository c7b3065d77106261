"""Photograph the review page of a simulated scene in headless Chromium: the pictures of docs/analyst.md.

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

from rsft.data.simulation.clutter import Shore
from rsft.data.simulation.sar import Radar, render_scene, to_uint8
from rsft.data.simulation.scene import place_ships
from rsft.inference.predict.job import predict
from rsft.inference.predict.request import Request
from rsft.inference.predict.scene_plan import Look
from rsft.inference.scenes.chip_window import Wishes
from rsft.utils.atomic_files import write_bytes, write_text
from tools.maintenance.chromium import PICTURES, View, chromium, opened, shrunk

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SPACING = 2.0  # metres a pixel
SIDE = 1100  # pixels of the scene
SHIPS = {"cargo": 14, "fishing": 9, "tanker": 6, "dredger": 5}
_PLACE = rasterio.Affine(SPACING, 0, 390_000, 0, -SPACING, 5_760_000)
_CRS = "EPSG:32631"


VIEWS = {
    "review-desktop-light": View(1280, 800, 1, "light"),
    "review-desktop-dark": View(1280, 800, 1, "dark", "chip"),
    "review-phone-light": View(390, 844, 1.5, "light", "chip"),
    "review-phone-dark": View(390, 844, 1.5, "dark"),
}


def make_scene(folder: Path, seed: int = 0, side: int = SIDE) -> tuple[Path, Path]:
    """A GeoTIFF of simulated ships on a sea with a shore, and a GeoPackage of where they are."""
    rng = np.random.default_rng(seed)
    metres = side * SPACING
    kinds = [kind for kind, count in SHIPS.items() for _ in range(count)]
    shore = Shore(0.5, 0.33 * metres)
    poses = place_ships(kinds, shore, 0.94 * metres, rng)
    radar = Radar((SPACING, SPACING), incidence=36, looks=2, oversampling=1.2, taper=0.75, defocus=0)
    pixels = to_uint8(render_scene(list(poses.values()), shore, radar, rng, side))
    profile = {"driver": "GTiff", "height": side, "width": side, "count": 1, "dtype": "uint8", "compress": "deflate"}
    with rasterio.open(folder / "scene.tif", "w", crs=_CRS, transform=_PLACE, **profile) as file:
        file.write(pixels[None])
        file.set_band_description(1, "HH")
    middle = [(pose.x / SPACING + side / 2, pose.y / SPACING + side / 2) for pose in poses.values()]
    points = [shapely.Point(_PLACE * pair) for pair in middle]
    geopandas.GeoDataFrame(geometry=points, crs=_CRS).to_file(folder / "ships.gpkg")
    return folder / "scene.tif", folder / "ships.gpkg"


def make_page(bundle: Path, folder: Path) -> Path:
    """The review page of the ships in a simulated scene."""
    scene, ships = make_scene(folder)
    page = folder / "harbour.html"
    request = Request(Look(at=ships), wishes=Wishes(side=96), chips=folder / "cut", html=page, device="cpu")
    predict(bundle, [scene], folder / "harbour.gpkg", request)
    write_text(page, page.read_text("utf-8").replace(str(folder.absolute()), "/data"))  # whatever machine it is made on
    return page


def photograph(browser: Browser, page: Path, view: View) -> bytes:
    """A PNG of a page, three chips labelled and perhaps a fourth open, its colours reduced to 128."""
    with opened(browser, page, view) as window:
        _label(window)
        if view.shows != "chip":
            window.keyboard.press("Escape")
        return shrunk(window.screenshot(), 128, Image.Quantize.MAXCOVERAGE)  # keeps what is rare: the classes' colours


def _label(page: Page) -> None:
    """The first three chips by keyboard, as an analyst would; the fourth stays open."""
    page.locator(".card").first.click()
    for key in ("1", "3", "Enter"):
        page.keyboard.press(key)


def main(
    bundle: Annotated[Path, typer.Argument(help="A bundle of `rsft prepare demo`, or the folder of its run.")],
    out: Annotated[Path, typer.Option(help="Where the pictures go.")] = PICTURES,
) -> None:
    """Simulate a scene, classify its ships, and take pictures of the page: desktop and phone, light and dark."""
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        page = make_page(bundle, Path(folder))
        for name, view in VIEWS.items():
            picture = photograph(browser, page, view)
            write_bytes(out / f"{name}.png", picture)
            typer.echo(f"{name}.png  {len(picture) / 1e3:,.0f} kB")


if __name__ == "__main__":
    typer.run(main)
