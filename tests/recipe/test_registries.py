"""Components that a recipe names."""

import pytest

from rsft.recipe.registries import (
    LOSSES,
    PARTS,
    SAMPLERS,
    SCHEDULES,
    TRACKERS,
    sampling_exponent,
)
from rsft.utils.registry import UnknownComponentError


@pytest.mark.parametrize(
    ("sampler", "exponent"),
    [("natural", 1), ("class-balanced", 0), ("square-root", 0.5)],
)
def test_how_often_a_class_is_drawn(sampler, exponent):
    assert sampling_exponent(sampler) == exponent


def test_a_sampler_without_exponent_draws_classes_as_they_occur(monkeypatch):
    class Toy:
        """Draws the first chips."""

        name, title = "toy", "toy"

    monkeypatch.setattr(SAMPLERS, "names", lambda: ("toy",))
    monkeypatch.setattr(type(SAMPLERS), "__getitem__", lambda self, name: Toy)
    assert sampling_exponent("toy") == 1.0


@pytest.mark.parametrize("registry", [LOSSES, SAMPLERS, TRACKERS, SCHEDULES])
def test_components_have_a_name_and_a_title(registry):
    assert all(registry[name].name == name for name in registry)
    assert all(registry[name].title for name in registry)
    with pytest.raises(UnknownComponentError, match="known: "):
        registry["no such name"]


def test_rsft_brings_no_further_parts():
    assert list(PARTS) == []
