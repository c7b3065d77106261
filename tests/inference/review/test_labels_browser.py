"""Use the page in headless Chromium as an analyst does: label, save, load, and train on
the labels."""

import csv
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rsft.data.prepare.image_folder import prepare_folder
from tests.helpers.browsing import needs_chromium, wait_until
from tests.helpers.scenes import write_geotiff

pytestmark = [needs_chromium, pytest.mark.slow]


def press(page, *keys):
    for key in keys:
        page.keyboard.press(key)


def close(page):
    page.keyboard.press("Escape")
    # a dialog closes in a task of its own
    wait_until(page, "!document.body.classList.contains('reviewing')")


def open_first(page):
    page.locator(".card").first.click()


def save(page, path=None):
    with page.expect_download() as download:
        page.get_by_role("button", name="Save corrected.csv").click()
    assert download.value.suggested_filename == "corrected.csv"
    if path is not None:
        download.value.save_as(path)
    with Path(path or download.value.path()).open(newline="") as file:
        return list(csv.DictReader(file))


def load(page, path):
    page.locator("#file").set_input_files(path)
    wait_until(page, "document.getElementById('message').textContent !== ''")
    return page.locator("#message").inner_text()


def counts(page):
    return page.locator("#counts li").all_inner_texts()


def label_all(page):
    """Correct the first chip, mark the next two as not a target and unsure, and confirm
    the fourth."""
    open_first(page)
    press(page, "2", "n", "u", "Enter")
    close(page)


@pytest.mark.exhaustive
def test_saved_columns(open_review, made):
    page = open_review()
    table = made[1]
    label_all(page)
    other = {"dark": "bright", "bright": "dark"}[table["class"][0]]
    labels = [
        (other, "class"),
        ("", "not a target"),
        ("", "unsure"),
        (table["class"][3], "class"),
    ]
    assert save(page) == [
        {
            "path": table["path"][index],
            "class": label,
            "verdict": verdict,
            "predicted": table["class"][index],
            "scene": table["scene"][index],
            "at": str(table["at"][index]),
            "row": f"{table['row'][index]:g}",
            "col": f"{table['col'][index]:g}",
            "chip": table["chip"][index],
            "table": str(made[0].parent / "out.gpkg"),
        }
        for index, (label, verdict) in enumerate(labels)
    ]
    assert page.get_by_text("4 of 6 labeled").is_visible()
    assert (
        counts(page)[-2:] == ["not a target 1", "unsure 1"] and len(counts(page)) <= 4
    )


def test_verdict_buttons_and_filters(open_review, made):
    page = open_review()
    open_first(page)
    page.get_by_role("button", name="Not a target").click()
    page.get_by_role("button", name="Unsure").click()
    page.get_by_label("Another class").fill(" Not a target ")
    press(page, "Enter", "ArrowLeft")
    assert (
        page.get_by_role("button", name="Not a target").get_attribute("aria-pressed")
        == "true"
    )
    assert page.locator("#state").inner_text() == "Labeled: not a target"
    close(page)
    assert counts(page) == ["not a target 2", "unsure 1"]
    assert (
        page.locator(".card")
        .nth(1)
        .get_attribute("aria-label")
        .endswith(f"unsure, {made[1]['class'][1]}?")
    )
    for value, number in {
        "not a target": 2,
        "unsure": 1,
        "corrected": 0,
        "with label": 3,
        "without label": 3,
    }.items():
        page.locator("#which").select_option(value)
        assert page.locator(".card").count() == number


def test_undo(open_review, made):
    page = open_review()
    page.get_by_role("button", name="Confirm all shown").click()
    open_first(page)
    press(page, "n", "u", "z")
    # undo opens the chip that it changes
    assert page.locator("#name").inner_text() == made[1]["chip"][1]
    assert page.locator("#state").inner_text() == f"Confirmed: {made[1]['class'][1]}"
    page.get_by_role("button", name="Remove label").click()
    page.locator("#undo-here").click()
    close(page)
    press(page, "Control+z")
    assert page.get_by_text(
        "6 of 6 labeled"
    ).is_visible() and "not a target 1" not in counts(page)
    page.get_by_role("button", name="Undo").click()
    assert (
        page.get_by_text("none yet").is_visible()
        and page.get_by_role("button", name="Undo").is_disabled()
    )


def test_load_a_saved_file(open_review, tmp_path):
    page = open_review()
    label_all(page)
    rows = save(page, tmp_path / "corrected.csv")
    again = open_review()  # a browser of its own, without labels
    assert (
        load(again, tmp_path / "corrected.csv") == "corrected.csv: 4 labels restored."
    )
    assert save(again) == rows
    again.get_by_role("button", name="Undo").click()
    assert again.get_by_text("none yet").is_visible()


def test_drop_a_file_of_a_spreadsheet(open_review, made):
    """Semicolons, a byte order mark, other columns, a moved folder, no verdicts, and
    rows that say nothing."""
    page = open_review()
    table = made[1]
    text = (
        f'\ufeffPath;Class;scene;at\n{table["path"][0]};"a ""tug""; or not";;\n'
        f"moved.tif;dark;{table['scene'][1]};{table['at'][1]}\n"
        f"{table['path'][2]};;;\nelsewhere.tif;dark;;\n\n"
    )
    drop = """text => {
        const dataTransfer = new DataTransfer();
        dataTransfer.items.add(new File([text], "old.csv"));
        document.body.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
    }"""
    page.evaluate(drop, text)
    message = (
        "old.csv: 2 labels restored, 1 rows are for other chips, 1 rows have no label."
    )
    assert page.get_by_text(message).is_visible()
    assert [(row["path"], row["class"]) for row in save(page)] == [
        (table["path"][0], 'a "tug"; or not'),
        (table["path"][1], "dark"),
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it has no column path, class"),
        ("path,label\na,b\n", "it has no column class"),
        ('path,class\n"a,b\n', "a quotation mark is not closed"),
    ],
)
def test_files_that_are_no_labels(open_review, tmp_path, text, reason):
    page = open_review()
    (tmp_path / "x.csv").write_text(text)
    assert (
        load(page, tmp_path / "x.csv")
        == f"x.csv is not a saved corrected.csv: {reason}."
    )
    assert page.get_by_text("none yet").is_visible()


def test_keys_do_not_label_while_typing(open_review):
    page = open_review()
    open_first(page)
    page.get_by_label("Another class").focus()
    press(page, "n", "u", "1", "?")
    assert page.get_by_label("Another class").input_value() == "nu1?"
    close(page)
    assert page.get_by_text("none yet").is_visible()
    page.locator("body").press("?")
    assert page.get_by_role("dialog", name="Keys").is_visible()
    press(page, "n", "Escape")
    assert (
        page.get_by_text("none yet").is_visible()
        and not page.get_by_role("dialog").is_visible()
    )


def names(page):
    return [
        text.split(":")[0]
        for text in page.locator(".card").evaluate_all(
            "all => all.map((card) => card.ariaLabel)"
        )
    ]


def test_filters(open_review, made):
    page = open_review()
    table = made[1]
    assert (
        names(page) == table["chip"].tolist()
        and page.locator("#map circle").count() == 6
    )
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
    assert (
        page.locator(".card").count() == 0
        and page.get_by_text("No chip passes").is_visible()
    )


def test_orders(open_review, made):
    page = open_review()
    table = made[1]
    page.get_by_label("Order").select_option("most certain first")
    assert names(page) == table["chip"].tolist()[::-1]
    page.get_by_label("Order").select_option("by class")
    assert names(page) == table.sort_values("class", kind="stable")["chip"].tolist()


def test_click_opens_the_chip(open_review, made):
    page = open_review()
    row = made[1].iloc[2]
    page.locator(".card").nth(2).click()
    detail = page.get_by_role("dialog", name=row["chip"])
    assert (
        detail.is_visible()
        and page.locator("#picture").evaluate("image => image.naturalWidth") == 96
    )
    assert (
        f"{100 * row['probability']:.1f} %" in detail.inner_text()
        and "3 of 6" in detail.inner_text()
    )
    assert row["path"] in page.locator("#properties").inner_text()
    page.keyboard.press("Escape")
    assert not detail.is_visible()
    page.locator("#map circle").nth(5).click()
    assert page.get_by_role("dialog").is_visible()
    assert page.locator("#map circle.chosen").count() == 1


def test_keyboard(open_review, made):
    page = open_review()
    table = made[1]
    page.locator(".card").first.focus()
    page.keyboard.press("Enter")
    for key in ("2", "Enter", "ArrowRight", "1"):  # correct, confirm, skip, confirm
        page.keyboard.press(key)
    assert page.locator("#name").inner_text() == table["chip"][4]
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Escape")
    # a dialog closes in a task of its own
    wait_until(page, "document.activeElement.dataset.index === '3'")
    other = {"dark": "bright", "bright": "dark"}
    expected = {0: other[table["class"][0]], 1: table["class"][1], 3: table["class"][3]}
    assert [(row["path"], row["class"], row["predicted"]) for row in save(page)] == [
        (table["path"][index], label, table["class"][index])
        for index, label in expected.items()
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
    assert [row["class"] for row in save(page)][1] == 'a "tug", or not'


@pytest.fixture
def ships_store(tmp_path):
    """Make the training data that the page names: ten chips of two classes in one band
    HH."""
    for number in range(10):
        pixels = np.random.default_rng(number).integers(0, 255, (16, 16), np.uint8)
        folder = (
            tmp_path
            / "source"
            / ("val" if number % 5 == 4 else "train")
            / ("dark", "bright")[number % 2]
        )
        folder.mkdir(parents=True, exist_ok=True)
        write_geotiff(folder / f"{number}.tif", pixels, names=("HH",))
    return prepare_folder(
        tmp_path / "source", tmp_path / "data/ships", bands=("HH",)
    ).root


def test_labels_become_training_data(open_review, made, rsft, tmp_path, ships_store):
    """Run the commands that the page shows: add to the training data, and make a new
    store."""
    page = open_review()
    table = made[1]
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
    for command, root, count in (
        (prepare, tmp_path / "data/corrected", 4),
        (add, ships_store, 14),
    ):
        program, *words = shlex.split(command)
        code, printed = rsft(*words)
        assert program == "rsft" and code == 0, printed
        store = pd.read_parquet(root / "manifest.parquet")
        assert len(store) == count and set(store["bands"]) == {"HH"}
    assert (
        store[store["added_from"].notna()]["class"].value_counts().to_dict() == labels
    )
    assert sum(labels.values()) == 4 and len(table) == 6
