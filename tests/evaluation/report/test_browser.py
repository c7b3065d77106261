"""Use the report in headless Chromium like a reader."""

import io

import pytest
from PIL import Image

from rsft.evaluation.report.pages import write_report
from tests.helpers.browsing import needs_chromium, page_opener
from tests.helpers.fake_run import SHIPS, write_fake_run
from tools.maintenance.chromium import chromium
from tools.maintenance.report_pictures import VIEWS, take_screenshot

pytestmark = [needs_chromium, pytest.mark.slow]


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return write_report(write_fake_run(tmp_path_factory.mktemp("fake"), SHIPS))


@pytest.fixture(scope="module")
def report_with_chips(evaluated):
    """Return the report of a run whose chip store exists."""
    return write_report(evaluated)


@pytest.fixture
def open_page(browser):
    with page_opener(browser) as open_page:
        yield open_page


def fits(page):
    return page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.exhaustive
@pytest.mark.parametrize("width", [390, 1280])
def test_pages_fit_the_window(open_page, report, report_with_chips, width):
    for path in (report, report_with_chips):
        assert fits(open_page(path, width))


def test_a_table_that_is_cut_has_a_shadow_at_the_edge(open_page, report):
    page = open_page(report, 390)
    table = page.get_by_label("Table of coverage", exact=True)
    assert (
        table.evaluate("table => table.scrollWidth > table.clientWidth")
        and table.get_attribute("tabindex") == "0"
    )

    def edges():
        picture = Image.open(io.BytesIO(table.screenshot())).convert("L")
        return [picture.getpixel((x, 2)) for x in (1, picture.width - 2)]

    assert edges()[0] > 240 > edges()[1]
    table.evaluate("table => table.scrollTo(1000, 0)")
    assert edges()[0] < 240 < edges()[1]


def test_tables_sort_by_mouse_and_keyboard(open_page, report):
    page = open_page(report)
    names = page.locator("table.classes tbody th")
    page.get_by_role("button", name="Training chips").click()
    assert names.all_inner_texts() == SHIPS
    page.get_by_role("button", name="Training chips").press("Enter")
    assert names.all_inner_texts() == SHIPS[::-1]
    assert (
        page.get_by_role("columnheader", name="Training chips").get_attribute(
            "aria-sort"
        )
        == "ascending"
    )
    page.get_by_role("button", name="Class", exact=True).click()
    assert names.all_inner_texts() == sorted(SHIPS)


def test_many_classes_are_found_by_name(open_page, report, tmp_path):
    names = [f"Type {number:02}" for number in range(30)]
    page = open_page(write_report(write_fake_run(tmp_path, names)))
    field = page.get_by_label("Find classes")
    rows = page.locator("table.classes tbody th:visible")
    assert rows.count() == 30 and page.get_by_text("30 of 30 classes").is_visible()
    field.fill(" type 2")
    assert sorted(rows.all_inner_texts()) == names[20:]
    page.get_by_role("button", name="Class", exact=True).click()
    assert rows.all_inner_texts() == names[20:]
    field.fill("Type 31")
    assert rows.count() == 0 and page.get_by_text("0 of 30 classes").is_visible()
    assert open_page(report).get_by_label("Find classes").count() == 0


def test_the_gallery_sorts_and_filters(open_page, report):
    page = open_page(report)
    form = page.locator("#filters")
    cards = page.locator("#chips li:visible")
    assert cards.count() == 144
    form.get_by_label("Show").select_option("mistake")
    form.get_by_label("True class").select_option("tanker")
    form.get_by_label("Sort by").select_option("unsure")
    values = [float(card.get_attribute("data-confidence")) for card in cards.all()]
    assert 0 < len(values) < 96 and values == sorted(values)
    assert {card.get_attribute("data-truth") for card in cards.all()} == {"tanker"}
    assert page.locator("#shown").inner_text() == f"{len(values)} of 144 chips"
    form.get_by_label("Predicted").select_option("cargo")
    assert {card.get_attribute("data-predicted") for card in cards.all()} == {"cargo"}
    form.get_by_label("Confidence from").fill("100")
    form.get_by_label("to", exact=True).fill("10")
    assert cards.count() == 0 and page.get_by_text("No chip matches").is_visible()
    form.get_by_role("button", name="Reset").click()
    page.get_by_text("144 of 144 chips").wait_for()  # the form is reset after the click


def test_the_gallery_has_pictures(open_page, report_with_chips):
    page = open_page(report_with_chips)
    loaded = page.locator("#chips img").evaluate_all(
        "images => images.map((image) => image.naturalWidth)"
    )
    assert loaded and set(loaded) == {32}
    assert report_with_chips.stat().st_size < 5e6


def test_dark_light_and_print(open_page, report):
    page = open_page(report, color_scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(ground) == "rgb(20, 23, 27)"
    page.emulate_media(color_scheme="light")
    assert page.evaluate(ground) == "rgb(250, 250, 248)"
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(26, 31, 38)"
    assert (
        not page.locator("nav").is_visible()
        and not page.locator("#filters").is_visible()
    )


def test_without_scripts_only_controls_are_hidden(open_page, report):
    page = open_page(report, java_script_enabled=False)
    assert (
        page.locator("#chips li").last.is_visible()
        and page.locator("svg.chart").first.is_visible()
    )
    assert not page.locator("#filters").is_visible()


def test_pictures_for_the_docs(browser, report):
    for name in ("report-desktop-light", "report-phone-dark"):
        picture = take_screenshot(browser, report, VIEWS[name])
        assert len(picture) < 300_000
        assert (
            Image.open(io.BytesIO(picture)).width
            == VIEWS[name].width * VIEWS[name].scale
        )
