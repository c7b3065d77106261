"""A page in headless Chromium; what the browser complains of is a failure."""

from contextlib import contextmanager

import pytest

from tools.maintenance.chromium import find_chromium

pytest.importorskip("playwright", reason="playwright is not installed")
needs_chromium = pytest.mark.skipif(find_chromium() is None, reason="there is no Chromium here (set CHROMIUM)")


@contextmanager
def watched(browser):
    """What opens pages, without a network, as long as the block lasts."""
    contexts, complaints = [], []

    def open_page(path, width=1280, **options):
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, offline=True, **options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("requestfailed", lambda request: complaints.append(request.url))
        page.goto(path.resolve().as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not complaints
