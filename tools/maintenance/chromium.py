"""Open HTML pages in headless Chromium and take screenshots of them."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from PIL import Image

from rsft.errors import RequestError

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PICTURES_DIR = Path(__file__).parents[2] / "docs"
"""Where the pictures of the documentation are."""

EXECUTABLES = ("chromium", "chromium-browser", "google-chrome")
"""Names under which Chromium is installed."""


class View(NamedTuple):
    """A screenshot.

    Attributes:
        width, height: of the window in CSS pixels.
        scale: device pixels per CSS pixel.
        scheme: the color scheme that the page is told to use.
        state: what the page shows; "" for the page as it opens.
    """

    width: int
    height: int
    scale: float
    scheme: Literal["light", "dark"]
    state: str = ""


def find_chromium() -> str | None:
    """Return the path of the installed Chromium; the environment variable CHROMIUM overrides it."""
    return os.environ.get("CHROMIUM") or next(
        filter(None, map(shutil.which, EXECUTABLES)), None
    )


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run a headless browser without a network.

    Yields:
        The browser.

    Raises:
        RequestError: Chromium is not installed.
    """
    path = find_chromium()
    if path is None:
        raise RequestError(
            "Chromium was not found",
            ", ".join(EXECUTABLES),
            "install it with apt-get install chromium, or set CHROMIUM",
        )
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox"]
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def open_page(browser: Browser, page: Path, view: View) -> Iterator[Page]:
    """Open a page in a new window.

    Args:
        browser: from `chromium`.
        page: the HTML file.
        view: size and color scheme of the window.

    Yields:
        The window.
    """
    context = browser.new_context(
        viewport={"width": view.width, "height": view.height},
        device_scale_factor=view.scale,
        color_scheme=view.scheme,
        offline=True,
    )
    try:
        window = context.new_page()
        window.goto(page.resolve().as_uri())
        yield window
    finally:
        context.close()


def reduce_colors(
    png: bytes, colors: int = 256, method: Image.Quantize = Image.Quantize.MEDIANCUT
) -> bytes:
    """Reduce the number of colors of a picture.

    Args:
        png: the picture.
        colors: largest number of colors.
        method: how Pillow chooses them.
    """
    picture = Image.open(io.BytesIO(png))
    out = io.BytesIO()
    picture.convert("RGB").quantize(colors, method, dither=Image.Dither.NONE).save(
        out, "PNG", optimize=True
    )
    return out.getvalue()
