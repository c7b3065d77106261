"""Zoom and move the scene of a review page in headless Chromium; its layout from phones
to wide screens."""

import pytest

from tests.helpers.browsing import needs_chromium, wait_until

pytestmark = [needs_chromium, pytest.mark.slow]


def view(page):
    return [
        float(value)
        for value in page.locator("#map svg[viewBox]").get_attribute("viewBox").split()
    ]


def center(page):
    x, y, width, height = view(page)
    return x + width / 2, y + height / 2


def middle(locator):
    box = locator.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def dot(page, row):
    """Return where the dot of a row of the table is on the screen."""
    return middle(page.locator(f'#map circle[data-index="{row}"]'))


@pytest.mark.exhaustive
def test_wheel_zooms_at_the_pointer(open_review):
    page = open_review()
    assert view(page) == [0, 0, 96, 64]
    x, y = dot(page, 0)
    page.mouse.move(x, y)
    page.mouse.wheel(0, -200)
    wait_until(page, "document.querySelector('#map svg').classList.contains('zoomed')")
    assert view(page)[2] == pytest.approx(96 * 2.718281828 ** (-2 / 3))
    assert dot(page, 0) == pytest.approx((x, y), abs=1)
    for _ in range(5):
        page.mouse.wheel(0, -200)
    # the smallest view
    wait_until(page, "document.querySelector('#map svg').viewBox.baseVal.width === 32")
    for _ in range(8):
        page.mouse.wheel(0, 200)
    wait_until(page, "!document.querySelector('#map svg').classList.contains('zoomed')")
    assert view(page) == [0, 0, 96, 64]


def test_drag_moves_and_does_not_open_a_chip(open_review):
    page = open_review()
    page.get_by_role("button", name="Zoom in").click()
    before = view(page)
    x, y = middle(page.locator("#map svg"))
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 60, y + 30, steps=4)
    page.mouse.up()
    scale = page.locator("#map svg").bounding_box()["width"] / before[2]
    assert view(page)[:2] == pytest.approx(
        [before[0] - 60 / scale, before[1] - 30 / scale], abs=0.1
    )
    assert not page.get_by_role("dialog").is_visible()
    page.get_by_role("button", name="Show the whole scene").click()
    assert view(page) == [0, 0, 96, 64]


def test_pinch(open_review):
    page = open_review(390, has_touch=True, is_mobile=True)
    x, y = middle(page.locator("#map svg"))
    session = page.context.new_cdp_session(page)

    def touch(kind, spread=None):
        points = (
            []
            if spread is None
            else [
                {"x": x - spread, "y": y, "id": 1},
                {"x": x + spread, "y": y, "id": 2},
            ]
        )
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", 20)
    for spread in (25, 30, 35, 40):
        touch("touchMove", spread)
    touch("touchEnd")
    assert view(page)[2] == pytest.approx(48, rel=0.1) and center(
        page
    ) == pytest.approx((48, 32), abs=2)
    assert page.evaluate("visualViewport.scale") == 1


def test_keys_of_the_map(open_review):
    page = open_review()
    page.locator("#map svg").focus()
    for key in ("+", "=", "ArrowRight", "ArrowUp"):
        page.keyboard.press(key)
    width = 96 / 1.5**2
    assert view(page)[2] == pytest.approx(width)
    assert center(page) == pytest.approx((48 + 0.2 * width, 32 - 0.2 * width * 64 / 96))
    page.keyboard.press("-")
    assert view(page)[2] == pytest.approx(64)
    page.keyboard.press("0")
    assert view(page) == [0, 0, 96, 64]


def test_open_chip_on_the_map(open_review, made):
    page = open_review()
    table = made[1]
    page.locator(".card").first.click()
    page.keyboard.press("c")
    assert (
        center(page) == pytest.approx((table["col"][0], table["row"][0]), abs=0.01)
        and view(page)[2] == 32
    )
    ring = page.locator("#map .ring")
    assert float(ring.get_attribute("cx")) == pytest.approx(table["col"][0])
    assert middle(ring) == pytest.approx(middle(page.locator("#map svg")), abs=1.5)
    for row in range(1, 6):  # the view follows
        page.keyboard.press("ArrowRight")
        x, y, width, height = view(page)
        assert (
            x <= table["col"][row] <= x + width and y <= table["row"][row] <= y + height
        )
    page.keyboard.press("0")
    x, y = dot(page, 2)
    page.mouse.click(x + 7, y + 5)  # near the dot
    assert page.locator("#name").inner_text() == table["chip"][2]


@pytest.mark.slow
@pytest.mark.parametrize("width", [320, 390, 768, 1280, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fits(open_review, width, scheme):
    page = open_review(width, color_scheme=scheme, has_touch=width < 800)
    fits = "element => element.scrollWidth <= element.clientWidth"

    def assert_fits():
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    assert_fits()
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(250, 250, 248)", "dark": "rgb(20, 23, 27)"}[scheme]
    page.locator("#training summary").click()
    assert_fits()
    page.locator(".card").first.click()
    panel = page.locator("#detail")
    box = panel.bounding_box()
    scene = page.locator("#map svg").bounding_box()
    assert (
        box["x"] >= 0
        and box["x"] + box["width"] <= width
        and box["y"] >= 0
        and box["y"] + box["height"] <= 900
    )
    assert (
        panel.evaluate(fits)
        and scene["width"] >= 0.45 * width
        and scene["height"] > 150
    )
    # the map is visible
    assert (
        scene["x"] + scene["width"] <= box["x"]
        or scene["y"] + scene["height"] <= box["y"]
    )
    close = page.locator("#detail").get_by_role("button", name="Close").bounding_box()
    assert close["y"] + close["height"] <= 900
    page.keyboard.press("?")
    assert page.locator("#help").evaluate(fits)
    assert_fits()


def test_touch_targets(open_review):
    """Controls are at least 44 pixels high, on the page and in the panel."""
    page = open_review(390, has_touch=True, is_mobile=True)
    measure = """() => [...document.querySelectorAll("button, select, input:not([type=file]), summary")]
        .map(element => (element.type === "checkbox" ? element.parentElement : element))
        .map(element => [element.id || element.textContent, element.getBoundingClientRect()])
        .filter(([, box]) => box.width && box.height < 44).map(([name]) => name)"""
    assert page.evaluate(measure) == []
    page.locator(".card").first.tap()
    assert page.evaluate(measure) == []
    page.locator("#not-target").tap()
    assert page.locator("#position").inner_text() == "2 of 6"
    page.locator("#undo-here").tap()
    assert page.locator("#position").inner_text() == "1 of 6"


def test_controls_have_names(open_review):
    page = open_review()
    page.locator(".card").first.click()
    unnamed = """() => [...document.querySelectorAll("button, select, input, summary, svg, dialog")].filter(element =>
        !element.ariaLabel && !element.labels?.length && !element.textContent.trim()
        && !element.getAttribute("aria-labelledby")).map(element => element.outerHTML)"""
    assert page.evaluate(unnamed) == []
    # the panel and the map take the focus, the rest of the page does not
    inside = (
        "['detail', 'map'].some(id =>"
        " document.getElementById(id).contains(document.activeElement))"
    )
    for _ in range(14):
        page.keyboard.press("Tab")
        assert page.evaluate(f"{inside} || document.activeElement === document.body")
