"""Name classes on the page of unlabeled chips in headless Chromium, and train on the
saved file."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from rsft.data.datasets.formats.label_table import LabelTable
from rsft.plugins.suggestions.first_chips import START, FirstChips, typical_chips
from rsft.plugins.suggestions.page import write_naming_page
from rsft.plugins.suggestions.suggest import Suggestions, suggestion_table
from rsft.scenes.options import Declaration
from tests.helpers.browsing import needs_chromium, page_opener, wait_until
from tools.maintenance.chromium import chromium
from tools.reproduction.first_labels import choose_next, find_similar

pytestmark = [needs_chromium, pytest.mark.slow]

NAMES = ["tug", '"f", <b>', "=Öl", "cargo"]
SIZES = [60, 25, 10, 5]


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Write a page of 100 chips of four classes; return its path, the vectors and the
    class of each chip in the order of the page."""
    folder = tmp_path_factory.mktemp("naming")
    rng = np.random.default_rng(0)
    truth = np.repeat(range(len(SIZES)), SIZES)
    vectors = rng.normal(size=(len(truth), 6)) + 4 * np.eye(4, 6)[truth]
    starts = typical_chips(vectors, START)
    order = [*starts, *np.setdiff1d(np.arange(len(truth)), list(starts))]
    vectors = np.rint(vectors[order] * 1000) / 1000
    pixels = []
    paths = []
    for number in order:
        image = rng.integers(0, 255, (16, 16, 1), np.uint8)
        path = folder / f"{number} 'ü' & <i>,\".png"
        path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
        pixels.append(image)
        paths.append(str(path))
    table = pd.DataFrame({"path": paths, "class": ""})
    first = table[:START]
    suggested, notes = suggestion_table(first, [""] * START)
    suggestions = Suggestions(suggested, first, (), {}, len(table), notes)
    chips = FirstChips(suggestions, table, vectors, pixels)
    write_naming_page(folder / "classes.html", chips, Declaration("sigma0", ("VV",)))
    return folder / "classes.html", vectors, truth[order]


@pytest.fixture
def page(browser, made):
    with page_opener(browser) as open_page:
        yield open_page(made[0])


class Analyst:
    """Names chips with keys, and counts them."""

    def __init__(self, page, truth):
        self.page = page
        self.truth = truth
        self.keys = 0
        self.named = []
        self.labels = 0

    def press(self, key):
        self.page.keyboard.press(key)
        self.keys += 1

    def current(self):
        return self.page.evaluate("current")

    def name_chip(self):
        """Give the open chip its class; type a name once."""
        name = NAMES[self.truth[self.current()]]
        if name not in self.named:
            if self.named:
                self.press("a")
            self.page.keyboard.insert_text(name)
            self.keys += len(name)
            self.press("Enter")
            self.named.append(name)
            return
        choices = self.page.locator("#choices .name").all_inner_texts()
        self.press("Enter" if choices[0] == name else str(choices.index(name) + 1))

    def answer_row(self):
        """Say which of the similar chips have the same class."""
        row = self.page.evaluate("row && row.chips")
        if not row:
            return
        differs = self.truth[row] != self.truth[self.current()]
        key = "Enter"
        if differs.any():
            key = "abcdefghijkl"[int(differs.argmax())]
        self.press(key)

    def count_labels(self):
        return self.page.evaluate("labels.size")


def save(page):
    with page.expect_download() as download:
        page.get_by_role("button", name="Save labels.csv").click()
    assert download.value.suggested_filename == "labels.csv"
    return Path(download.value.path())


def offer_rows(page, is_offered):
    page.keyboard.press("Escape")
    page.get_by_label("Offer similar chips").set_checked(is_offered)
    page.get_by_role("button", name="Name the next chip").click()


@pytest.mark.parametrize("has_rows", [False, True])
def test_fifty_labels_with_few_keys(page, made, tmp_path, has_rows):
    analyst = Analyst(page, made[2])
    if has_rows:
        offer_rows(page, True)
    while analyst.count_labels() < 50:
        analyst.name_chip()
        analyst.answer_row()
    assert analyst.keys <= 80
    page.reload()
    assert analyst.count_labels() >= 50
    page.keyboard.press("Escape")
    wait_until(page, "!document.getElementById('detail').open")
    table = tmp_path / "labels.csv"
    table.write_bytes(save(page).read_bytes())
    with table.open(newline="") as file:
        assert len(list(csv.DictReader(file))) == analyst.count_labels()
    files = LabelTable(table).files
    assert len(files) == analyst.count_labels()
    paths = [chip["path"] for chip in page.evaluate("data.chips")]
    for file in files:
        assert NAMES[made[2][paths.index(str(file.path))]] == file.label
    command = page.locator("#training code").inner_text()
    assert command == "rsft finetune labels.csv --prepare '--unit sigma0 --bands VV'"


def test_the_choice_is_that_of_the_simulation(page, made):
    _, vectors, truth = made
    analyst = Analyst(page, truth)
    labeled = []
    for number in range(25):
        expected = number
        if number >= START:
            expected = choose_next(vectors, labeled, truth[labeled].tolist())
        assert analyst.current() == expected
        analyst.name_chip()
        labeled.append(expected)
    assert analyst.count_labels() == 25
    assert page.evaluate("findSimilar(3)") == find_similar(vectors, labeled, 3)


def test_row_undo_and_unseen_classes(page, made):
    analyst = Analyst(page, made[2])
    offer_rows(page, True)
    assert page.locator("#similar-title").is_hidden()
    page.keyboard.insert_text("ferry/tug")
    page.keyboard.press("Enter")
    assert analyst.count_labels() == 0
    page.get_by_label("Another class").fill("")
    analyst.name_chip()
    assert page.locator("#similar-title").is_visible()
    row = page.evaluate("row.chips")
    assert len(row) == 12
    analyst.press("c")
    assert page.evaluate("[...labels.keys()]") == [0, *row[:2]]
    assert "1 classes have one chip" in page.locator("#unseen").inner_text()
    analyst.press("z")
    assert analyst.count_labels() == 1
    analyst.press("z")
    assert analyst.count_labels() == 0 and page.evaluate("data.classes.length") == 0
