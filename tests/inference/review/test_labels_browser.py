"""Label chips in headless Chromium: classes, verdicts, undo, saved and loaded files."""

import csv
from pathlib import Path

import pytest

from tests.helpers.browsing import needs_chromium, wait_until

pytestmark = [needs_chromium, pytest.mark.slow]


def press(page, *keys):
    for key in keys:
        page.keyboard.press(key)


def close(page):
    page.keyboard.press("Escape")
    wait_until(page, "!document.body.classList.contains('reviewing')")  # a dialog closes in a task of its own


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
    """Correct the first chip, mark the next two as not a target and unsure, and confirm the fourth."""
    open_first(page)
    press(page, "2", "n", "u", "Enter")
    close(page)


def test_saved_columns(open_review, made):
    page, table = open_review(), made[1]
    label_all(page)
    other = {"dark": "bright", "bright": "dark"}[table["class"][0]]
    labels = [(other, "class"), ("", "not a target"), ("", "unsure"), (table["class"][3], "class")]
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
    assert counts(page)[-2:] == ["not a target 1", "unsure 1"] and len(counts(page)) <= 4


def test_verdict_buttons_and_filters(open_review, made):
    page = open_review()
    open_first(page)
    page.get_by_role("button", name="Not a target").click()
    page.get_by_role("button", name="Unsure").click()
    page.get_by_label("Another class").fill(" Not a target ")
    press(page, "Enter", "ArrowLeft")
    assert page.get_by_role("button", name="Not a target").get_attribute("aria-pressed") == "true"
    assert page.locator("#state").inner_text() == "Labeled: not a target"
    close(page)
    assert counts(page) == ["not a target 2", "unsure 1"]
    assert page.locator(".card").nth(1).get_attribute("aria-label").endswith(f"unsure, {made[1]['class'][1]}?")
    for value, number in {"not a target": 2, "unsure": 1, "corrected": 0, "with label": 3, "without label": 3}.items():
        page.locator("#which").select_option(value)
        assert page.locator(".card").count() == number


def test_undo(open_review, made):
    page = open_review()
    page.get_by_role("button", name="Confirm all shown").click()
    open_first(page)
    press(page, "n", "u", "z")
    assert page.locator("#name").inner_text() == made[1]["chip"][1]  # undo opens the chip that it changes
    assert page.locator("#state").inner_text() == f"Confirmed: {made[1]['class'][1]}"
    page.get_by_role("button", name="Remove label").click()
    page.locator("#undo-here").click()
    close(page)
    press(page, "Control+z")
    assert page.get_by_text("6 of 6 labeled").is_visible() and "not a target 1" not in counts(page)
    page.get_by_role("button", name="Undo").click()
    assert page.get_by_text("none yet").is_visible() and page.get_by_role("button", name="Undo").is_disabled()


def test_load_a_saved_file(open_review, tmp_path):
    page = open_review()
    label_all(page)
    rows = save(page, tmp_path / "corrected.csv")
    again = open_review()  # a browser of its own, without labels
    assert load(again, tmp_path / "corrected.csv") == "corrected.csv: 4 labels restored."
    assert save(again) == rows
    again.get_by_role("button", name="Undo").click()
    assert again.get_by_text("none yet").is_visible()


def test_drop_a_file_of_a_spreadsheet(open_review, made):
    """Semicolons, a byte order mark, other columns, a moved folder, no verdicts, and rows that say nothing."""
    page, table = open_review(), made[1]
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
    message = "old.csv: 2 labels restored, 1 rows are for other chips, 1 rows have no label."
    assert page.get_by_text(message).is_visible()
    assert [(row["path"], row["class"]) for row in save(page)] == [
        (table["path"][0], 'a "tug"; or not'),
        (table["path"][1], "dark"),
    ]


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
    assert load(page, tmp_path / "x.csv") == f"x.csv is not a saved corrected.csv: {reason}."
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
    assert page.get_by_text("none yet").is_visible() and not page.get_by_role("dialog").is_visible()
