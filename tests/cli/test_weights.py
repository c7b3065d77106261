"""Commands of `rsft weights` as a user types them."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import timm
import torch

from rsft.backbones import catalog, loading
from rsft.backbones.card import Remote
from rsft.backbones.catalog import list_card
from tests.helpers.http_server import BODY, SHA, serving

Command = Callable[..., tuple[int, str]]
TINY = "test_vit.r160_in1k"


@pytest.fixture(autouse=True)
def weights_folder(rsft, monkeypatch, tmp_path):
    monkeypatch.setenv("RSFT_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("COLUMNS", "80")


def test_get_verify_and_a_changed_file(rsft, tmp_path, monkeypatch):
    with serving() as server:
        card = local_card(server.url)
        monkeypatch.setattr(catalog, "listed_encoders", lambda: [list_card(card, 0)])
        code, printed = rsft("weights", "get", "x.y")
        assert (
            code == 0 and printed.startswith("recorded  x.y  3.0 MB") and SHA in printed
        )
        assert (
            rsft("weights", "get", "x.y")[1].startswith("recorded")
            and len(server.requested_ranges) == 1
        )
    code, printed = rsft("weights", "verify")
    assert code == 0 and "compared with x.pth.sha256" in printed
    (tmp_path / "weights/x.pth").write_bytes(BODY[1:])
    code, printed = rsft("weights", "verify", "x.y")
    assert (
        code == 1
        and "has changed since x.pth.sha256 was written" in printed
        and "move the file away" in printed
    )


def local_card(url):
    return replace(
        loading.find_card(TINY),
        name="x.y",
        weights=Remote("x.pth", url, None, None, "https://page"),
    )


def test_verify_continues_after_an_error(rsft):
    code, printed = rsft(
        "weights", "verify", "vit_base_patch16_224.mae", "vit_tiny_patch8_64.simship"
    )
    assert code == 1
    assert "the weights of vit_base_patch16_224.mae are missing" in printed
    assert "verified  vit_tiny_patch8_64.simship" in printed


def test_get_checks_all_names_before_a_download(rsft, monkeypatch):
    monkeypatch.setattr(
        "rsft.backbones.card.fetch_weights",
        lambda *_: pytest.fail("a download started"),
    )
    code, printed = rsft(
        "weights", "get", "vit_tiny_patch8_64.simship", "vit_tiny_patch8_64.simshop"
    )
    assert code == 2 and "the nearest are" in printed


@pytest.mark.parametrize("command", ["get", "verify"])
def test_a_network_without_weights_has_none_to_get(rsft, command):
    code, printed = rsft("weights", command, "aconvnet")
    assert (code, "no weights" in printed, "Traceback" in printed) == (1, True, False)
    assert "train it from a recipe" in printed


def test_verify_of_all_files_that_are_present(rsft):
    code, printed = rsft("weights", "verify")  # all files that are present
    assert code == 0 and "aconvnet" not in printed


@pytest.mark.slow
def test_convert(rsft, tmp_path):
    source = tmp_path / "old.pth"
    target = tmp_path / "new.safetensors"
    torch.save(timm.create_model(TINY).state_dict(), source)
    code, printed = rsft("weights", "convert", source, target, "--as", TINY)
    assert code == 0
    left_out = "left out: head.bias head.weight, all listed in the metadata of the file"
    assert printed == f"{target}: 78 tensors of {TINY}; {left_out}\n"
    code, printed = rsft("weights", "convert", source, target, "--as", TINY)
    assert code == 2 and "give --overwrite" in printed
    assert (
        rsft("weights", "convert", target, target, "--as", TINY, "--overwrite")[0] == 0
    )
