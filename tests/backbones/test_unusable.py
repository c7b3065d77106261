"""Encoders that are known by name and not usable."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from rsft.backbones import names
from rsft.backbones.loading import find_card
from rsft.backbones.unusable import search_unusable, unusable_encoders
from rsft.errors import RequestError
from rsft.utils.licenses import RESTRICTIONS
from tests.helpers.messages import mentions
from tests.helpers.plugins import needs_plugin

NAMES = {
    "TerraMind": ("terramind_v1_base", "ibm-esa-geospatial/TerraMind-1.0-large"),
    "Clay": ("clay", "clay_v1_base", "Clay-v1.5"),
    "Panopticon": ("panopticon_vitb14", "torchgeo:Panopticon_Weights.VIT_BASE14"),
    "Galileo": ("galileo", "nasaharvest/galileo"),
    "OlmoEarth": ("OlmoEarth-v1_2-Base", "olmo_earth"),
    "Copernicus-FM": ("copernicus-fm", "CopernicusFM_Base_Weights.CopernicusFM_ViT"),
    "SatMAE++": ("SatMAE++", "satmaepp_vit_large", "satmae_pp"),
    "SARATR-X": ("SARATR-X", "saratrx"),
    "MSFA": ("msfa", "MSFA_convnext_t"),
    "RVSA": ("rvsa", "vit_b_rvsa"),
    "Tessera": ("tessera", "Tessera_Weights.TESSERA"),
}


def test_the_table_is_complete():
    assert [encoder.name for encoder in unusable_encoders()] == list(NAMES)
    for encoder in unusable_encoders():
        assert (
            encoder.about
            and encoder.sensor
            and encoder.source.startswith("https://github.com/")
        )
        assert set(encoder.restrictions) <= set(RESTRICTIONS)
        assert find_card(encoder.instead).name == encoder.instead


@pytest.mark.parametrize(
    ("name", "word"), [(name, word) for name, words in NAMES.items() for word in words]
)
def test_names_are_refused_with_the_reason_and_another_encoder(name, word):
    (encoder,) = [encoder for encoder in unusable_encoders() if encoder.name == name]
    with pytest.raises(RequestError, match=mentions(name, encoder.reason)) as caught:
        find_card(word)
    assert (
        caught.value.location == "backbone.name"
        and encoder.instead in caught.value.hint
    )
    assert encoder in search_unusable(word)


def test_no_usable_encoder_has_such_a_name():
    patterns = [encoder.pattern for encoder in unusable_encoders()]
    assert not [
        name
        for name in names()
        if any(re.search(pattern, name.lower()) for pattern in patterns)
    ]


def test_licenses():
    licenses = {encoder.name: encoder.restrictions for encoder in unusable_encoders()}
    assert licenses["TerraMind"] == licenses["Tessera"] == licenses["Clay"] == ()
    assert licenses["SARATR-X"] == licenses["MSFA"] == ("non-commercial",)
    assert licenses["SatMAE++"] == ("unknown",)
    assert "no-military" in licenses["OlmoEarth"]


@pytest.mark.parametrize("word", ["", "sentinel-1", "non-commercial", "cc0"])
def test_search(word):
    found = {encoder.name for encoder in search_unusable(word)}
    assert ("Tessera" in found) == (word != "non-commercial") and ("MSFA" in found) == (
        word in ("", "non-commercial")
    )


@needs_plugin("encoders")
def test_the_order_of_encoders_for_sentinel1_names_usable_ones():
    page = (Path(__file__).parents[2] / "docs/backbones.md").read_text("utf-8")
    section = page.partition("## Which encoder for Sentinel-1")[2].partition("\n## ")[0]
    rows = re.findall(
        r"^\| (\d) \| `([^`]+)` \|.*\| (\w+), [^|]*\|$", section, re.MULTILINE
    )
    assert [int(number) for number, _, _ in rows] == [1, 2, 3, 4]
    for _, name, unit in rows:
        card = find_card(name)
        assert (card.sensor, card.bands) == (
            "Sentinel-1",
            ("VV", "VH"),
        ) and card.restrictions == ()
        assert card.unit == {"decibels": "db", "bytes": "uint8"}[unit]


def test_the_table_needs_no_torch():
    code = (
        "import sys; import rsft.backbones.unusable as x; x.check_usable('x');"
        " sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
