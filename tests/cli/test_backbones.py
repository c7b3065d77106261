"""Commands of `rsft backbones` as a user types them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from rsft.backbones.loading import names
from rsft.cli import backbones

Command = Callable[..., tuple[int, str]]
TINY = "test_vit.r160_in1k"


@pytest.fixture(autouse=True)
def weights_folder(rsft, monkeypatch, tmp_path):
    monkeypatch.setenv("RSFT_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("COLUMNS", "80")


def test_names_are_not_cut_on_a_narrow_terminal(rsft):
    code, printed = rsft("backbones", "ls")
    first = [line.split()[0] for line in printed.splitlines() if line.strip()]
    assert code == 0 and set(names()) <= set(first)
    assert max(map(len, printed.splitlines()[:-1])) <= 80


def test_word_selects_encoders(rsft):
    _, printed = rsft("backbones", "ls", "sentinel1")
    assert "VV VH in db, 224 / 16, CC-BY-4.0" in printed
    assert "ViTSmall16_Weights.SENTINEL1_GRD_MAE" in printed and "augreg" not in printed


def test_known_encoders_that_are_not_usable_follow(rsft):
    code, printed = rsft("backbones", "ls", "terramind")
    text = " ".join(printed.split())
    assert (
        code == 0
        and "known, not usable; license" in text
        and "TerraMind, Apache-2.0" in text
    )
    assert (
        "not those of timm; use ViTBase14_DINOv2_Weights.SENTINEL1_GRD_SOFTCON" in text
    )


def test_word_without_a_match(rsft):
    code, printed = rsft("backbones", "ls", "sentinel3")
    assert code == 2 and "no encoder is called 'sentinel3'" in printed
    assert "the nearest are" in printed and "SENTINEL2" in printed
    code, printed = rsft("backbones", "ls", "torchgeo:ResNet50_Weights.NOTHING")
    assert code == 2 and "error:" in printed and "ResNet50_Weights.NOTHING" in printed


def test_license_and_restrictions_are_listed(rsft):
    code, printed = rsft("backbones", "ls", "non-commercial")
    assert (
        code == 0
        and "R G B in uint8, 224 / 16, cc-by-nc-4.0 (non-commercial)"
        in " ".join(printed.split())
    )
    assert "SENTINEL1" not in printed


def test_a_network_without_weights(rsft):
    assert "random" in rsft("backbones", "ls", "aconvnet")[1]


def test_every_command_is_in_the_docs():
    page = (Path(__file__).parents[2] / "docs/backbones.md").read_text("utf-8")
    for group, app in (
        ("backbones", backbones.app),
        ("weights", backbones.weights_app),
    ):
        for command in app.registered_commands:
            assert f"$ rsft {group} {command.name} " in page
