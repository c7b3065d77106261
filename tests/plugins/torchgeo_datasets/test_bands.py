"""Bands and units of TorchGeo's data sets."""

import pytest

from rsft.data.imagery.bands import BANDS
from rsft.data.imagery.units import UNITS
from rsft.errors import RequestError
from rsft.plugins.torchgeo_datasets.bands import KNOWN, choose_bands
from rsft.plugins.torchgeo_datasets.prepare import find_torchgeo_class


@pytest.mark.parametrize("name", KNOWN)
def test_the_table_fits_torchgeo(name):
    known = KNOWN[name]
    found = find_torchgeo_class(name)
    # TorchGeo 0.10 gives every data set the attribute all_bands, which is empty for
    # images without named bands
    published = set(
        getattr(found, "all_band_names", ())
        or getattr(found, "all_bands", ())
        or ("R", "G", "B")
    )
    assert known.source and all(set(group.bands) <= published for group in known.groups)
    assert {band for group in known.groups for band in group.bands.values()} <= set(
        BANDS
    )
    assert {group.unit for group in known.groups} <= {*UNITS, None}
    assert len(getattr(found, "classes", ())) in (0, known.classes) or not isinstance(
        found.classes, tuple
    )


def test_bands_of_one_unit_are_chosen_by_either_name():
    choice = choose_bands("So2Sat", ("S1_B6", "VH"), None)
    assert choice.names == ("VV", "VH") and choice.group.unit == "intensity"
    assert choose_bands("EuroSAT", None, None).names[-1] == "B8A"
    with pytest.raises(RequestError, match="unit"):
        choose_bands("Unknown", ("R",), None)
    assert choose_bands("Unknown", ("R",), "uint8").group.bands == {"R": "R"}
