"""Open pages in headless Chromium. Messages of the browser's console make a test
fail."""

import time
from contextlib import contextmanager

import pytest

from tools.maintenance.chromium import find_chromium

pytest.importorskip("playwright", reason="playwright is not installed")
needs_chromium = pytest.mark.skipif(
    find_chromium() is None, reason="Chromium was not found (set CHROMIUM)"
)


@contextmanager
def page_opener(browser):
    """Yield a function that opens a page without a network, and check afterwards that
    the browser reported nothing."""
    contexts = []
    messages = []

    def open_page(path, width=1280, **options):
        contexts.append(
            browser.new_context(
                viewport={"width": width, "height": 900}, offline=True, **options
            )
        )
        page = contexts[-1].new_page()
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("requestfailed", lambda request: messages.append(request.url))
        page.goto(path.resolve().as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not messages


def wait_until(page, expression, seconds=10):
    """Wait until a JavaScript expression is true.

    `page.wait_for_function` evaluates it in a timer of the page, which the
    Content-Security-Policy of the page forbids.
    """
    deadline = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(20)
