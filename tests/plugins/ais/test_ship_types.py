"""Classes of ship types, of codes and of the texts of feeds."""

import pytest

from rsft.plugins.ais.ship_types import ship_class


@pytest.mark.parametrize(
    ("ship_type", "name"),
    [
        ("30", "fishing"), ("31", "tug"), ("32", "tug"), ("33", "dredger"), ("35", "military"),
        ("37", "pleasure craft"),
        ("40", "high-speed craft"), ("51", "search and rescue"), ("52", "tug"), ("60", "passenger"), ("79", "cargo"),
        ("80.0", "tanker"), ("99", "other"), ("0", "unknown"), ("1024", "tanker"),
        ("255", "unknown"), ("256", "other"), ("", "unknown"),
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


ITU = {  # ITU-R M.1371-5, table 53, by the first code of a range
    0: "unknown", 20: "wing in ground", 30: "fishing", 31: "tug", 33: "dredger", 34: "service", 35: "military",
    36: "sailing", 37: "pleasure craft", 38: "unknown", 40: "high-speed craft", 50: "pilot", 51: "search and rescue",
    52: "tug", 53: "service", 55: "law enforcement", 56: "other", 58: "service", 59: "other", 60: "passenger",
    70: "cargo", 80: "tanker", 90: "other", 100: "unknown", 256: "other",
}  # fmt: skip
NOAA = (  # VesselTypeCodes2018 of MarineCadastre, from code 1001
    "Commercial Fishing Vessel", "Fish Processing Vessel", "Freight Barge", "Freight Ship", "Industrial Vessel",
    "Miscellaneous Vessel", "Mobile Offshore Drilling Unit", "Non-vessel", "NON-VESSEL", "Offshore Supply Vessel",
    "Oil Recovery", "Passenger (Inspected)", "Passenger (Uninspected)", "Passenger Barge (Inspected)",
    "Passenger Barge (Uninspected)", "Public Freight", "Public Tankship/Barge", "Public Vessel, Unclassified",
    "Recreational", "Research Vessel", "SAR Aircraft", "School Ship", "Tank Barge", "Tank Ship", "Towing Vessel",
)  # fmt: skip
DMA = {  # texts of the Danish Maritime Authority, and their codes
    "Undefined": 0, "WIG": 20, "Fishing": 30, "Towing": 31, "Towing long/wide": 32, "Dredging": 33, "Diving": 34,
    "Military": 35, "Sailing": 36, "Pleasure": 37, "Reserved": 38, "HSC": 40, "Pilot": 50, "SAR": 51, "Tug": 52,
    "Port tender": 53, "Anti-pollution": 54, "Law enforcement": 55, "Spare 1": 56, "Spare 2": 57, "Medical": 58,
    "Not party to conflict": 59, "Passenger": 60, "Cargo": 70, "Tanker": 80, "Other": 90,
}  # fmt: skip


def test_codes_of_the_itu():
    starts = sorted(ITU)
    for code in range(300):
        assert (
            ship_class(str(code))
            == ITU[max(start for start in starts if start <= code)]
        ), code


def test_texts_have_the_class_of_their_code():
    assert {text: ship_class(text) for text in DMA} == {
        text: ship_class(str(code)) for text, code in DMA.items()
    }
    assert {text: ship_class(text) for text in NOAA if text != "Tank Barge"} == {
        text: ship_class(str(code))
        for code, text in enumerate(NOAA, 1001)
        if text != "Tank Barge"
    }
    # NOAA counts the tug that tows it
    assert (ship_class("1023"), ship_class("Tank Barge")) == (
        "tug",
        "tanker",
    )


def test_groups_of_noaa():
    groups = (
        "Fishing",
        "Tug Tow",
        "Pleasure Craft/Sailing",
        "Military",
        "Passenger",
        "Cargo",
        "Tanker",
        "Other",
    )
    classes = [
        "fishing",
        "tug",
        "pleasure craft",
        "military",
        "passenger",
        "cargo",
        "tanker",
        "other",
    ]
    assert [ship_class(text) for text in groups] == classes
    assert ship_class("Not Available") == "unknown"


def test_all_codes_have_a_class():
    assert all(ship_class(str(code)) != "" for code in range(256))
    assert {ship_class(str(code)) for code in range(70, 80)} == {"cargo"}
