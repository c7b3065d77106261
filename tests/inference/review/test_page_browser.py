"""Use the page in headless Chromium as an analyst does, and train on the labels."""

import csv
import io
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from rsft.data.prepare.image_folder import prepare_folder
from tests.helpers.browsing import needs_chromium, wait_until
from tests.helpers.scenes import write_geotiff
from tools.maintenance.review_pictures import VIEWS, make_scene, take_screenshot

pytestmark = [needs_chromium, pytest.mark.slow]


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
    wait_until(page, "document.activeElement.dataset.index === '3'")  # a dialog closes in a task of its own
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


@pytest.fixture
def ships_store(tmp_path):
    """Make the training data that the page names: ten chips of two classes in one band HH."""
    for number in range(10):
        pixels = np.random.default_rng(number).integers(0, 255, (16, 16), np.uint8)
        folder = tmp_path / "source" / ("val" if number % 5 == 4 else "train") / ("dark", "bright")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        write_geotiff(folder / f"{number}.tif", pixels, names=("HH",))
    return prepare_folder(tmp_path / "source", tmp_path / "data/ships", bands=("HH",)).root


def test_labels_become_training_data(open_review, made, rsft, tmp_path, ships_store):
    """Run the commands that the page shows: add to the training data, and make a new store."""
    page, table = open_review(), made[1]
    page.get_by_role("button", name="Confirm all shown").click()
    page.locator(".card").first.click()
    for key in ("2", "n", "u", "Escape"):
        page.keyboard.press(key)
    wait_until(page, "!document.body.classList.contains('reviewing')")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save corrected.csv").click()
    download.value.save_as(tmp_path / "corrected.csv")
    add, finetune, _, _, prepare = page.locator("#training code").all_inner_texts()
    assert finetune == f"rsft finetune --from {made[0].parent / 'runs/ships'}"
    labels = pd.read_csv(tmp_path / "corrected.csv")["class"].value_counts().to_dict()
    for command, root, count in ((prepare, tmp_path / "data/corrected", 4), (add, ships_store, 14)):
        program, *words = shlex.split(command)
        assert program == "rsft" and rsft(*words)[0] == 0
        store = pd.read_parquet(root / "manifest.parquet")
        assert len(store) == count and set(store["bands"]) == {"HH"}
    assert store[store["added_from"].notna()]["class"].value_counts().to_dict() == labels
    assert sum(labels.values()) == 4 and len(table) == 6


def test_pictures_for_the_docs(browser, made, tmp_path):
    for name in ("review-desktop-dark", "review-phone-light"):
        picture = take_screenshot(browser, made[0], VIEWS[name])
        assert len(picture) < 300_000
        assert Image.open(io.BytesIO(picture)).width == VIEWS[name].width * VIEWS[name].scale
    scene, ships = make_scene(tmp_path, side=300)
    assert Image.open(scene).size == (300, 300) and ships.stat().st_size > 0
