"""The description of a bundle."""

import pytest
from rsft_qgis.bundle_page import bundle_page, bundle_texts, chip_side

from rsft.models.bundle.bundle import Bundle
from rsft.models.inspection.describe import describe_bundle, describe_contract


@pytest.mark.slow
def test_description_of_a_bundle(run):
    description = describe_bundle(run / "bundle")
    texts = bundle_texts(description)
    assert (
        texts["NAME"] == "bars"
        and texts["CLASSES"] == "flat, slanted, steep"
        and texts["UNIT"] == "uint8"
    )
    assert (
        texts["SIZE"]
        == "the whole chip (most training chips have 32 x 32 pixels), resized to 32 x"
        " 32 pixels"
    )
    page = bundle_page(description)
    assert (
        "<td>slanted</td><td>tail</td><td>4</td>" in page
        and description["sha256"] in page
    )
    assert (
        "<td>unit</td><td>uint8</td>" in page
        and description["confidence"]["promise"] in page
    )


def test_side_of_the_chips(run):
    contract = Bundle.load(run / "bundle").contract
    for crop, side in ((96, 96), (None, None)):
        assert (
            chip_side(
                {"chip": describe_contract(contract.model_copy(update={"crop": crop}))}
            )
            == side
        )
    assert chip_side({}) is None


def test_ugly_descriptions():
    row = {
        "source": "data",
        "name": "x",
        "license": "CC",
        "restrictions": ["no sale", "no change"],
    }
    page = bundle_page(
        {"name": "<b>", "classes": [{"name": "a & b", "train": 3}], "licenses": [row]}
    )
    assert (
        "&lt;b&gt;" in page
        and "a &amp; b" in page
        and "x: CC (no sale, no change)" in page
    )
    assert "not calibrated" in page
    assert bundle_texts({}) == dict.fromkeys(
        ("NAME", "CLASSES", "BANDS", "UNIT", "SIZE", "SPACING"), ""
    )
