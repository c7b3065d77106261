"""The list of encoders as plain data."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from rsft.backbones import catalog
from rsft.backbones.card import weights_path
from rsft.backbones.catalog import list_card, listed_encoders, listing_versions
from rsft.backbones.loading import find_card, names

pytestmark = pytest.mark.slow


@pytest.mark.exhaustive
def test_the_list_agrees_with_the_cards():
    encoders = {encoder.name: encoder for encoder in listed_encoders()}
    assert list(encoders) == names()
    for name in names():
        card = find_card(name)
        assert encoders[name] == list_card(card, encoders[name].parameters)
        assert encoders[name].restrictions == card.restrictions
        assert encoders[name].path == (weights_path(card) if card.weights else None)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["vit_tiny_patch8_64.simship", "resnet50.a1_in1k", "cait_s24_224.fb_dist_in1k"],
)
def test_parameters_are_those_of_the_network(name):
    (encoder,) = [encoder for encoder in listed_encoders() if encoder.name == name]
    assert encoder.parameters == list_card(find_card(name)).parameters


def test_states_of_the_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("RSFT_WEIGHTS", str(tmp_path))
    states = {encoder.name: encoder.state for encoder in listed_encoders()}
    assert states["vit_tiny_patch8_64.simship"] == "in rsft"
    assert states["vit_base_patch16_224.mae"] == "to get"
    assert states["aconvnet"] == "random"
    published = next(encoder for encoder in listed_encoders() if encoder.remote)
    assert published.remote is not None
    manual = replace(published, remote=replace(published.remote, url=None))
    assert manual.state == "by hand"
    manual.path.touch()
    assert manual.state == published.state == "here"


def test_the_list_of_other_versions_is_made_from_the_cards(tmp_path, monkeypatch):
    expected = listed_encoders()
    document = json.loads(catalog.LISTING.read_text("utf-8"))
    document["versions"]["timm"] = "0"
    del document["encoders"][-1]
    (tmp_path / "encoders.json").write_text(json.dumps(document))
    monkeypatch.setattr(catalog, "LISTING", tmp_path / "encoders.json")
    listed_encoders.cache_clear()
    assert listed_encoders() == expected
    listed_encoders.cache_clear()


def test_the_shipped_list_needs_neither_torch_nor_timm():
    document = json.loads(catalog.LISTING.read_text("utf-8"))
    if document["versions"] != listing_versions():
        pytest.skip("the shipped list is of other versions of timm and TorchGeo")
    code = (
        "import sys; from rsft.backbones.catalog import search_listing;"
        " search_listing('mae');sys.exit(bool({'torch', 'timm', 'torchgeo'} &"
        " set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
