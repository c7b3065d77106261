"""Photograph a report in headless Chromium: the pictures of docs/report.md.

python -m tools.maintenance.report_pictures runs/mstar_lt_metalora/001
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rsft.evaluation.report.run_page import write_report
from rsft.utils.atomic_files import write_bytes
from tools.maintenance.chromium import PICTURES, View, chromium, opened, shrunk

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHIP = 12  # of the map

VIEWS = {
    "report-desktop-light": View(1280, 1500, 1, "light"),
    "report-desktop-dark": View(1280, 1500, 1, "dark", "features"),
    "report-phone-light": View(390, 1300, 1.5, "light", "gallery"),
    "report-phone-dark": View(390, 1300, 1.5, "dark"),
}


def photograph(browser: Browser, page: Path, view: View) -> bytes:
    """A PNG of a page with a section at its top, its colours reduced to 256."""
    with opened(browser, page, view) as window:
        if view.shows == "features":  # with a chip shown
            for _ in range(CHIP):
                window.locator(".focus").last.press("ArrowRight")
        if view.shows:
            window.evaluate("id => document.getElementById(id).scrollIntoView()", view.shows)
        return shrunk(window.screenshot())


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
