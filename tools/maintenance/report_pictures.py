"""Take the screenshots of docs/report.md in headless Chromium.

python -m tools.maintenance.report_pictures runs/mstar_lt_metalora/001
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from PIL import Image

from rsft.evaluation.report.pages import write_report
from rsft.utils.atomic_files import write_bytes
from tools.errors import explained_errors
from tools.maintenance.chromium import (
    PICTURES_DIR,
    View,
    chromium,
    open_page,
    reduce_colors,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser

VIEWS = {
    "report-desktop-light": View(1280, 1000, 1, "light"),
    "report-desktop-dark": View(1280, 1500, 1, "dark", "features"),
    "report-phone-light": View(390, 1300, 1.5, "light", "gallery"),
    "report-phone-dark": View(390, 1300, 1.5, "dark"),
}


def take_screenshot(browser: Browser, page: Path, view: View) -> bytes:
    """Return a screenshot as a PNG with 256 colors.

    Args:
        browser: from `chromium`.
        page: the report.
        view: of the page; its state is the section at the top.
    """
    with open_page(browser, page, view) as window:
        if view.state:
            window.evaluate(
                "id => document.getElementById(id).scrollIntoView()", view.state
            )
        # keeps the colors of the classes
        return reduce_colors(window.screenshot(), method=Image.Quantize.FASTOCTREE)


def main(
    run: Annotated[Path, typer.Argument(help="Folder of an evaluated run.")],
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = PICTURES_DIR,
) -> None:
    """Write the report of a run and take screenshots of it: desktop and phone, light and dark."""
    page = write_report(run)
    with chromium() as browser:
        for name, view in VIEWS.items():
            picture = take_screenshot(browser, page, view)
            write_bytes(out / f"{name}.png", picture)
            typer.echo(f"{name}.png  {len(picture) / 1e3:,.0f} kB")


if __name__ == "__main__":
    with explained_errors():
        typer.run(main)
