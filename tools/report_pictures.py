"""Photograph a report in headless Chromium: the pictures of docs/report.md.

python -m tools.report_pictures runs/mstar_lt_metalora/001
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer
from PIL import Image

from rsft.errors import RequestError
from rsft.evaluate.report import write_report
from rsft.files import write_bytes

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PICTURES = Path(__file__).parents[1] / "docs"
CHIP = 12  # of the map
NAMES = ("chromium", "chromium-browser", "google-chrome")


class View(NamedTuple):
    """A picture: the window in CSS pixels, pixels in each of them, and the section at its top ("" for the head)."""

    width: int
    height: int
    scale: float
    scheme: Literal["light", "dark"]
    section: str


VIEWS = {
    "report-desktop-light": View(1280, 1500, 1, "light", ""),
    "report-desktop-dark": View(1280, 1500, 1, "dark", "features"),
    "report-phone-light": View(390, 1300, 1.5, "light", "gallery"),
    "report-phone-dark": View(390, 1300, 1.5, "dark", ""),
}


def find_chromium() -> str | None:
    """The path of a Chromium of this machine; CHROMIUM names another."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless browser without a network.

    Raises:
        RequestError: there is none here.
    """
    path = find_chromium()
    if path is None:
        raise RequestError("there is no Chromium", ", ".join(NAMES), "apt-get install chromium, or set CHROMIUM")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


def photograph(browser: Browser, page: Path, view: View) -> bytes:
    """A PNG of a page, its colours reduced to 256."""
    context = browser.new_context(
        viewport={"width": view.width, "height": view.height},
        device_scale_factor=view.scale,
        color_scheme=view.scheme,
        offline=True,
    )
    opened = context.new_page()
    opened.goto(page.resolve().as_uri())
    if view.section == "features":  # with a chip shown
        for _ in range(CHIP):
            opened.locator(".focus").last.press("ArrowRight")
    if view.section:
        opened.evaluate("id => document.getElementById(id).scrollIntoView()", view.section)
    picture = shrunk(opened.screenshot())
    context.close()
    return picture


def shrunk(png: bytes, colours: int = 256, method: Image.Quantize = Image.Quantize.MEDIANCUT) -> bytes:
    """A picture with its colours reduced."""
    picture, out = Image.open(io.BytesIO(png)), io.BytesIO()
    picture.convert("RGB").quantize(colours, method, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return out.getvalue()


def main(
    run: Annotated[Path, typer.Argument(help="Folder of a run that was evaluated.")],
    out: Annotated[Path, typer.Option(help="Where the pictures go.")] = PICTURES,
) -> None:
    """Write the report of a run, and pictures of it: desktop and phone, light and dark."""
    page = write_report(run)
    with chromium() as browser:
        for name, view in VIEWS.items():
            picture = photograph(browser, page, view)
            write_bytes(out / f"{name}.png", picture)
            typer.echo(f"{name}.png  {len(picture) / 1e3:,.0f} kB")


if __name__ == "__main__":
    typer.run(main)
