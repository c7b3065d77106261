"""A page of ours in headless Chromium, to look at and to photograph."""

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

PICTURES = Path(__file__).parents[2] / "docs"
NAMES = ("chromium", "chromium-browser", "google-chrome")


class View(NamedTuple):
    """A picture: the window in CSS pixels, pixels in each of them, and what the page shows ("" as it opens)."""

    width: int
    height: int
    scale: float
    scheme: Literal["light", "dark"]
    shows: str = ""


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


@contextmanager
def opened(browser: Browser, page: Path, view: View) -> Iterator[Page]:
    """A page in a window of its own."""
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


def shrunk(png: bytes, colours: int = 256, method: Image.Quantize = Image.Quantize.MEDIANCUT) -> bytes:
    """A picture with its colours reduced."""
    picture, out = Image.open(io.BytesIO(png)), io.BytesIO()
    picture.convert("RGB").quantize(colours, method, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return out.getvalue()
