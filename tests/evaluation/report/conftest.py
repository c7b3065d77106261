import pickle

import pytest

from rsft.evaluation.report import charts

DRAWN = {}


@pytest.fixture(autouse=True)
def _equal_charts_are_drawn_once(monkeypatch):
    """Tests change one section of a report, and drawing the charts of the others takes most of the time."""
    for name, draw in vars(charts).items():
        if getattr(draw, "__module__", "") == charts.__name__ and hasattr(draw, "__wrapped__"):

            def draw_once(*args, _name=name, _draw=draw, **kwargs):
                key = _name, pickle.dumps((args, kwargs))
                if key not in DRAWN:
                    DRAWN[key] = _draw(*args, **kwargs)
                return DRAWN[key]

            monkeypatch.setattr(charts, name, draw_once)
