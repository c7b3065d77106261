"""Texts and numbers in XML."""

from xml.etree.ElementTree import fromstring

import pytest

from rsft.data.imagery.products.elements import (
    read_mean_speed,
    read_numbers,
    read_seconds,
    read_text,
    read_tie_points,
)

ROOT = fromstring(
    "<a><t> x </t><n>1 2</n><n>3</n><z>nan</z><w>2026-01-01T00:00:03</w>"
    "<v><x>3</x><y>4</y></v><v><x>0</x><y>1</y></v></a>"
)


def test_texts_and_numbers():
    assert read_text(ROOT, "t") == "x" and read_text(ROOT, "missing") == ""
    assert read_numbers(ROOT, "n").tolist() == [1, 2, 3]
    assert read_seconds(ROOT, "w", "2026-01-01T00:00:01") == 2
    for name, fault in {"missing": "no missing", "z": "not finite"}.items():
        with pytest.raises(ValueError, match=fault):
            read_numbers(ROOT, name)


def test_the_mean_speed_of_an_orbit():
    assert read_mean_speed(ROOT.findall("v"), "xy") == 3
    assert read_mean_speed([], "xy") == 0


def test_tie_points_state_all_their_coordinates():
    vectors = ROOT.findall("v")
    assert read_tie_points(vectors, "xyxy", 0.5) == ((3.5, 4.5, 3, 4), (0.5, 1.5, 0, 1))
    assert read_tie_points(vectors, "xyxz", 0.5) == ()
