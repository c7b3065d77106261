"""Options of a query: the false alarm rate and the source of land."""

from pathlib import Path

import pytest

from rsft.errors import RequestError
from rsft.scenes.query import CfarOptions, parse_land


@pytest.mark.parametrize("pfa", [0, 0.5, -1])
def test_invalid_false_alarm_rate(pfa):
    with pytest.raises(RequestError, match="false alarm rate"):
        CfarOptions(pfa)


def test_keywords_and_paths():
    sources = [
        parse_land(text)
        for text in ("auto", "none", "brightness", "land.gpkg", "./none")
    ]
    assert sources == ["auto", "none", "brightness", Path("land.gpkg"), Path("none")]
