import pytest

from tests.helpers.report_charts import equal_charts_drawn_once


@pytest.fixture(scope="module", autouse=True)
def _equal_charts_are_drawn_once():
    with equal_charts_drawn_once():
        yield
