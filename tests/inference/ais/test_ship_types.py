"""Classes of ship types, of codes and of the texts of feeds."""

import pytest

from rsft.inference.ais.ship_types import ship_class


@pytest.mark.parametrize(
    ("ship_type", "name"),
    [
        ("30", "fishing"), ("31", "tug"), ("32", "tug"), ("33", "dredger"), ("35", "military"),
        ("37", "pleasure craft"),
        ("40", "high-speed craft"), ("51", "search and rescue"), ("52", "tug"), ("60", "passenger"), ("79", "cargo"),
        ("80.0", "tanker"), ("99", "other"), ("0", "unknown"), ("1024", "tanker"), ("255", "other"), ("", "unknown"),
        ("Towing long/wide", "tug"), ("Anti-pollution", "service"), ("Law enforcement", "law enforcement"),
        ("HSC", "high-speed craft"), ("SAR", "search and rescue"), ("Undefined", "unknown"),
        ("Pleasure", "pleasure craft"),
        ("Ro-Ro/Passenger Ship", "passenger"), ("Oil/Chemical Tanker", "tanker"), ("Vehicles Carrier", "cargo"),
        ("Fish Carrier", "fishing"), ("Suction Hopper Dredger", "dredger"), ("Tug/Supply Vessel", "tug"),
        ("Cargo - Hazard A (Major)", "cargo"), ("Weather balloon", "other"),
    ],
)  # fmt: skip
def test_classes(ship_type, name):
    assert ship_class(ship_type) == name


def test_all_codes_have_a_class():
    assert all(ship_class(str(code)) != "" for code in range(256))
    assert {ship_class(str(code)) for code in range(70, 80)} == {"cargo"}
