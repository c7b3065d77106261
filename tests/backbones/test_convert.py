"""Convert checkpoints to safetensors, and compute what an encoder gives for noise."""

import argparse
import json
import re
from pathlib import Path

import pytest
import timm
import torch
from safetensors import safe_open

from rsft.backbones.convert import convert_weights
from rsft.backbones.loading import (
    find_card,
    load_encoder_weights,
)
from rsft.errors import RequestError, WeightsError
from rsft.utils.atomic_files import sha256

TINY = "test_vit.r160_in1k"


@pytest.fixture
def source(tmp_path):
    torch.manual_seed(0)
    state = timm.create_model(TINY).half().state_dict()
    torch.save(
        {"state_dict": state, "args": argparse.Namespace()}, tmp_path / "old.pth"
    )
    return tmp_path / "old.pth"


@pytest.mark.slow
def test_only_the_encoder_is_written_with_its_source(source, tmp_path):
    card = find_card(TINY)
    target = tmp_path / "new.safetensors"
    converted = convert_weights(card, source, target)
    assert converted.left_out == ("head.bias", "head.weight")
    with safe_open(target, "pt") as file:
        metadata = file.metadata()
        names = set(file.keys())
        dtype = file.get_tensor("cls_token").dtype
    assert metadata == {
        "format": "pt",
        "backbone": TINY,
        "encoder_sha256": converted.sha256,
        "source": "old.pth",
        "source_sha256": sha256(source),
        "left_out": json.dumps(converted.left_out),
    }
    again = load_encoder_weights(card, 160, target)
    assert again.sha256 == converted.sha256 and again.left_out == ()
    assert (
        names == set(again.vit.state_dict())
        and dtype == torch.float16
        and converted.count == len(names)
    )


def peak_memory():
    """Return the largest resident memory of this process in bytes, mapped files
    included, since the last reset."""
    return 1024 * int(
        re.search("VmHWM:(.+)kB", Path("/proc/self/status").read_text())[1]
    )


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="needs /proc of Linux"
)
def test_one_of_the_two_files_is_in_memory(tmp_path):
    name = "vit_small_patch16_224.augreg_in21k"
    source = tmp_path / "large.pth"
    torch.save(timm.create_model(name.partition(".")[0]).state_dict(), source)
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = peak_memory()
    converted = convert_weights(find_card(name), source, tmp_path / "new.safetensors")
    assert peak_memory() - before < 1.5 * source.stat().st_size
    assert converted.left_out == ("head.bias", "head.weight")


def test_other_network_writes_nothing(source, tmp_path):
    with pytest.raises(WeightsError, match="tensors of test_vit2"):
        convert_weights(
            find_card("test_vit2.r160_in1k"), source, tmp_path / "new.safetensors"
        )
    assert list(tmp_path.iterdir()) == [source]


def test_pickle_output_is_refused(source, tmp_path):
    with pytest.raises(RequestError, match=r"not as \.pth"):
        convert_weights(find_card(TINY), source, tmp_path / "new.pth")
