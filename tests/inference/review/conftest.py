"""Fixtures of the review page in headless Chromium."""

import numpy as np
import pytest

from rsft.inference.options import PredictionRequest
from rsft.inference.predict.job import predict
from rsft.scenes.query import Query
from tests.helpers.files import written
from tests.helpers.scenes import (
    UTM,
    toy_bundle,
    toy_contract,
    use_toy_model,
    write_geotiff,
)
from tools.maintenance.chromium import chromium

# row, col: the darkest first
POSITIONS = [
    (16, 16),
    (16, 48),
    (16, 80),
    (48, 16),
    (48, 48),
    (48, 80),
]
SCENE = "S1A_IW_GRDH_1SDV_20180210T102102_20180210T102127_020538_0231E5_2E22_Cal_deb_Spk_TC.tif"


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Write a page of six chips from dark to bright; return its path and its table, the
    least certain chip first."""
    folder = tmp_path_factory.mktemp("review")
    pixels = np.random.default_rng(0).integers(0, 30, (64, 96), np.uint8)
    for number, (row, col) in enumerate(POSITIONS):
        pixels[row - 16 : row + 16, col - 16 : col + 16] += np.uint8(5 + 40 * number)
    scene = write_geotiff(
        folder / SCENE, pixels, crs="EPSG:32633", transform=UTM, names=("HH",)
    )
    at = written(
        folder / "at.csv",
        "row,col\n" + "\n".join(f"{row},{col}" for row, col in POSITIONS),
    )
    request = PredictionRequest(
        Query(at=at), chips_dir=folder / "cut", html_path=folder / "review.html"
    )
    with pytest.MonkeyPatch.context() as patch:
        use_toy_model(patch, toy_bundle(contract=toy_contract(crop=16)))
        table = predict(
            folder / "runs/ships", [scene], folder / "out.gpkg", request
        ).table
    return folder / "review.html", table.sort_values(
        "probability", kind="stable", ignore_index=True
    )


@pytest.fixture
def open_review(browser, made):
    """Return a function that opens the page, or another one."""
    from tests.helpers.browsing import page_opener

    with page_opener(browser) as open_page:
        yield lambda width=1280, path=made[0], **options: open_page(
            path, width, **options
        )
