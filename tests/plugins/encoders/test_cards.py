"""Cards of the plug-in beside those of rsft and of TorchGeo."""

import pytest

from rsft.backbones.catalog import search_listing
from rsft.errors import RequestError


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (
            "CROMALarge_Weights.CROMA_VIT",
            r"several sensors.* use croma_vit_large_patch8_120\.sentinel1$",
        ),
        (
            "DOFABase16_Weights.DOFA_MAE",
            r"dofa_vit_base_patch16_224\.sentinel1 or .*\.sentinel2$",
        ),
    ],
)
def test_a_file_of_several_sensors_names_its_encoders(word, message):
    with pytest.raises(RequestError, match=message):
        search_listing(word)
