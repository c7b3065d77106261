"""Classes of FUSRS."""

from __future__ import annotations

FUSAR_CLASSES = {"Cargo": "cargo", "Fishing": "fishing", "Tanker": "tanker", "Dredger": "dredger"}
SRSDD_CLASSES = {
    "Cell-Container": "cargo",
    "Container": "cargo",
    "bulk-cargo": "cargo",
    "Fishing": "fishing",
    "ore-oil": "tanker",
    "Dredger": "dredger",
}
"""Class of each archive category, if the archives and not the lists determine the classes."""

FUSAR_OTHER = (
    "DiveVessel",
    "HighSpeedCraft",
    "LawEnforce",
    "Other",
    "Passenger",
    "PortTender",
    "SAR",
    "Tug",
    "WingInGrnd",
)
SRSDD_OTHER = ("LawEnforce",)
"""Categories of the class "other" among five classes. Reserved and Unspecified could be any ship and have no class."""

FUSAR_TO_FUSRS = FUSAR_CLASSES | dict.fromkeys(FUSAR_OTHER, "other")
SRSDD_TO_FUSRS = SRSDD_CLASSES | dict.fromkeys(SRSDD_OTHER, "other")
"""Class of each archive category among five classes."""

CLASSES = {
    4: ("cargo", "fishing", "tanker", "dredger"),
    5: ("cargo", "other", "fishing", "tanker", "dredger"),
}
"""Class names in the order of the labels in the lists, by number of classes."""
HEAD_CLASSES, TAIL_CLASSES = ("cargo", "other", "fishing"), ("tanker", "dredger")
"""The groups of the paper; they do not follow from the counts, and no class is medium."""

REPEATED_ROW_FLAG = "repeated-row"
"""Flag of a chip whose name occurred before in the same list."""
