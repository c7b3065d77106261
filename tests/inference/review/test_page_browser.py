"""Use the page in headless Chromium as an analyst does, and train on the labels."""

import csv
import io
import shlex
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from rsft.inference.predict import job
from rsft.inference.predict.job import predict
from rsft.inference.predict.request import PredictionRequest
from rsft.inference.predict.scene_plan import SceneQuery
from tests.helpers.browsing import needs_chromium, page_opener
from tests.helpers.scenes import UTM, brightness_logits, toy_bundle, toy_contract, toy_engine, write_geotiff
from tools.maintenance.chromium import chromium
from tools.maintenance.review_pictures import VIEWS, make_scene, take_screenshot

pytestmark = needs_chromium

POSITIONS = [(16, 16), (16, 48), (16, 80), (48, 16), (48, 48), (48, 80)]  # row, col: the darkest first


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Write a page of six chips from dark to bright; return its path and its table, the least certain chip first."""
    folder = tmp_path_factory.mktemp("review")
    pixels = np.random.default_rng(0).integers(0, 30, (64, 96), np.uint8)
    for number, (row, col) in enumerate(POSITIONS):
        pixels[row - 16 : row + 16, col - 16 : col + 16] += np.uint8(5 + 40 * number)
    scene = write_geotiff(folder / "s.tif", pixels, crs="EPSG:32633", transform=UTM, names=("HH",))
    (folder / "at.csv").write_text("row,col\n" + "\n".join(f"{row},{col}" for row, col in POSITIONS))
    request = PredictionRequest(
        SceneQuery(at=folder / "at.csv"), chips_dir=folder / "cut", html_path=folder / "review.html"
    )
    toy = toy_bundle(contract=toy_contract(crop=16))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "Bundle", SimpleNamespace(load=lambda folder: toy))
        patch.setattr(job, "select_engine", lambda bundle, *_: toy_engine(brightness_logits, bundle))
        table = predict(folder, [scene], folder / "out.gpkg", request).table
    return folder / "review.html", table.sort_values("probability", kind="stable", ignore_index=True)


@pytest.fixture
def open_review(browser, made):
    """Return a function that opens the page, or another one."""
    with page_opener(browser) as open_page:
        yield lambda width=1280, path=made[0], **options: open_page(path, width, **options)


def names(page):
    return [
        text.split(":")[0] for text in page.locator(".card").evaluate_all("all => all.map((card) => card.ariaLabel)")
    ]


def saved(page):
    with page.expect_download() as download:
        page.get_by_role("button", name="Save corrected.csv").click()
    assert download.value.suggested_filename == "corrected.csv"
    with Path(download.value.path()).open(newline="") as file:
        return list(csv.DictReader(file))


def test_filters(open_review, made):
    page, table = open_review(), made[1]
    assert names(page) == table["chip"].tolist() and page.locator("#map circle").count() == 6
    page.get_by_label("dark 3").uncheck()
    bright = table[table["class"] == "bright"]["chip"].tolist()
    assert names(page) == bright and page.get_by_text("3 of 6 chips").is_visible()
    assert page.locator("#map circle").count() == 3
    page.get_by_role("button", name="All", exact=True).click()
    limit = float(np.ceil(1000 * table["probability"][3]) / 10)  # %, above the fourth
    page.get_by_label("to", exact=False).first.fill(str(limit))
    assert names(page) == table["chip"].tolist()[:4]
    page.get_by_label("from").fill(str(limit))
    page.locator("#high").fill("100")
    assert names(page) == table["chip"].tolist()[4:]
    page.get_by_role("button", name="None", exact=True).click()
    assert page.locator(".card").count() == 0 and page.get_by_text("No chip passes").is_visible()


def test_orders(open_review, made):
    page, table = open_review(), made[1]
    page.get_by_label("Order").select_option("most certain first")
    assert names(page) == table["chip"].tolist()[::-1]
    page.get_by_label("Order").select_option("by class")
    assert names(page) == table.sort_values("class", kind="stable")["chip"].tolist()


def test_click_opens_the_chip(open_review, made):
    page, row = open_review(), made[1].iloc[2]
    page.locator(".card").nth(2).click()
    detail = page.get_by_role("dialog", name=row["chip"])
    assert detail.is_visible() and page.locator("#picture").evaluate("image => image.naturalWidth") == 96
    assert f"{100 * row['probability']:.1f} %" in detail.inner_text() and "3 of 6" in detail.inner_text()
    assert row["path"] in page.locator("#properties").inner_text()
    page.keyboard.press("Escape")
    assert not detail.is_visible()
    page.locator("#map circle").nth(5).click()
    assert page.get_by_role("dialog").is_visible()
    assert page.locator("#map circle.chosen").count() == 1


def test_keyboard(open_review, made):
    page, table = open_review(), made[1]
    page.locator(".card").first.focus()
    page.keyboard.press("Enter")
    for key in ("2", "Enter", "ArrowRight", "1"):  # correct, confirm, skip, confirm
        page.keyboard.press(key)
    assert page.locator("#name").inner_text() == table["chip"][4]
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Escape")
    page.wait_for_function("document.activeElement.dataset.index === '3'")  # a dialog closes in a task of its own
    other = {"dark": "bright", "bright": "dark"}
    expected = {0: other[table["class"][0]], 1: table["class"][1], 3: table["class"][3]}
    assert [(row["path"], row["class"], row["predicted"]) for row in saved(page)] == [
        (table["path"][index], label, table["class"][index]) for index, label in expected.items()
    ]


def test_labels_survive_a_reload(open_review):
    page = open_review()
    page.get_by_role("button", name="Confirm all shown").click()
    page.locator(".card").nth(1).click()
    page.get_by_label("Another class").fill('a "tug", or not')
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Remove label").click()
    page.reload()
    assert page.get_by_text("5 of 6 labeled").is_visible()
    page.locator("#which").select_option("without label")
    assert page.locator(".card").count() == 1
    assert [row["class"] for row in saved(page)][1] == 'a "tug", or not'


def test_labels_become_training_data(open_review, made, rsft, tmp_path):
    """Run the command that the page shows."""
    page, table = open_review(), made[1]
    page.get_by_role("button", name="Confirm all shown").click()
    page.locator(".card").first.click()
    page.keyboard.press("2")
    page.keyboard.press("Escape")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save corrected.csv").click()
    download.value.save_as(tmp_path / "corrected.csv")
    program, *words = shlex.split(page.locator(".hint code").first.inner_text())
    assert program == "rsft" and rsft(*words)[0] == 0
    store = pd.read_parquet(tmp_path / "data/corrected/manifest.parquet")
    assert store["class"].value_counts().to_dict() in ({"dark": 4, "bright": 2}, {"dark": 2, "bright": 4})
    assert set(store["bands"]) == {"HH"} and len(store) == len(table) == 6


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fits_in_light_and_dark(open_review, width, scheme):
    page = open_review(width, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(250, 250, 248)", "dark": "rgb(20, 23, 27)"}[scheme]
    page.locator(".card").first.click()
    box = page.get_by_role("dialog").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= width and box["y"] >= 0 and box["y"] + box["height"] <= 900


def test_pictures_for_the_docs(browser, made, tmp_path):
    for name in ("review-desktop-dark", "review-phone-light"):
        picture = take_screenshot(browser, made[0], VIEWS[name])
        assert len(picture) < 300_000
        assert Image.open(io.BytesIO(picture)).width == VIEWS[name].width * VIEWS[name].scale
    scene, ships = make_scene(tmp_path, side=300)
    assert Image.open(scene).size == (300, 300) and ships.stat().st_size > 0
