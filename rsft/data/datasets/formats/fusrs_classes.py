"""The classes of FUSRS v2, by the categories of FUSAR-Ship and SRSDD."""

from rsft.data.datasets.formats.fusar_files import FUSAR_CATEGORIES

CLASSES = {
    4: ("cargo", "fishing", "tanker", "dredger"),
    5: ("cargo", "other", "fishing", "tanker", "dredger"),
}
"""Class names in the order of the labels in the lists, by number of classes."""

HEAD_CLASSES = ("cargo", "other", "fishing")
TAIL_CLASSES = ("tanker", "dredger")
"""The groups of the paper; they do not follow from the counts, and no class is
medium."""

FUSAR_CLASSES = {name.title(): name for name in CLASSES[4]}
SRSDD_CLASSES = {
    "Cell-Container": "cargo",
    "Container": "cargo",
    "bulk-cargo": "cargo",
    "Fishing": "fishing",
    "ore-oil": "tanker",
    "Dredger": "dredger",
}
"""Class of each archive category, if the archives and not the lists determine the
classes."""

_UNKNOWN_SHIPS = ("Reserved", "Unspecified")  # any ship, and so without a class

FUSAR_TO_FUSRS = {
    category: FUSAR_CLASSES.get(category, "other")
    for category in FUSAR_CATEGORIES
    if category not in _UNKNOWN_SHIPS
}
SRSDD_TO_FUSRS = SRSDD_CLASSES | {"LawEnforce": "other"}
"""Class of each archive category among five classes."""

REPEATED_ROW_FLAG = "repeated-row"
"""Flag of a chip whose name occurred before in the same list."""
