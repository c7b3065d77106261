"""Load encoders: complete, exactly as stored, or not at all."""

import hashlib
import json
import re
from pathlib import Path

import pytest
import safetensors.torch
import torch
from timm.models.vision_transformer import VisionTransformer

from rsft.backbones import loading
from rsft.backbones.card import Card, drop_tensors
from rsft.backbones.loading import load_encoder_weights, tensors_sha256
from rsft.errors import WeightsError
from tests.helpers import satmae_data


def build(size, **options):
    shape = {
        "patch_size": 8,
        "embed_dim": 32,
        "depth": 2,
        "num_heads": 2,
        "num_classes": 0,
    }
    return VisionTransformer(img_size=size, **shape | options)


def card(build=build, **changes):
    values = {
        "name": "toy",
        "about": "",
        "license": "MIT",
        "size": 32,
        "patch": 8,
        "weights": Path("toy.safetensors"),
    }
    values |= {
        "bands": ("R", "G", "B"),
        "unit": "uint8",
        "mean": (0.5,) * 3,
        "std": (0.2,) * 3,
    }
    return Card(build=build, **values | changes)


@pytest.fixture
def state():
    torch.manual_seed(0)
    return build(32).state_dict()


def saved(tmp_path, state):
    torch.save({"model": state}, tmp_path / "toy.pth")
    return tmp_path / "toy.pth"


def test_encoder_is_complete_frozen_and_as_stored(tmp_path, state):
    backbone = load_encoder_weights(card(), 32, saved(tmp_path, state))
    assert all(
        torch.equal(value, state[name])
        for name, value in backbone.vit.state_dict().items()
    )
    assert not backbone.vit.training and not any(
        p.requires_grad or p.is_meta for p in backbone.vit.parameters()
    )
    assert (backbone.name, backbone.bands, backbone.unit, backbone.width) == (
        "toy",
        ("R", "G", "B"),
        "uint8",
        32,
    )


@pytest.mark.parametrize(
    ("name", "change", "fault"),
    [
        (
            "blocks.0.mlp.fc1.weight",
            lambda x: x.T,
            r"fc1\.weight is float32 32x128, not float32 128x32$",
        ),
        (
            "norm.weight",
            lambda x: x[:-1],
            r"29 of the 30 tensors of toy .*: norm\.weight is float32 31, not float32 32$",
        ),
        ("norm.bias", lambda x: x.int(), r"norm\.bias is int32 32, not float32 32$"),
        (
            "norm.bias",
            lambda x: x / 0,
            r"29 of the 30 tensors of toy .* NaN or infinity in: norm\.bias$",
        ),
        (
            "pos_embed",
            lambda x: x[:, :-1],
            "pos_embed is float32 1x16x32, not float32 1x17x32$",
        ),
        ("head", lambda _: torch.ones(1), "30 of the 30 .* not expected: head$"),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused(name, change, fault, tmp_path, state):
    path = saved(tmp_path, state | {name: change(state.get(name))})
    with pytest.raises(WeightsError) as error:
        load_encoder_weights(card(), 32, path)
    assert (
        re.search(fault, error.value.message)
        and error.value.location == str(path)
        and error.value.hint
    )


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        (
            r"(\.attn\.)qkv(\.weight)",
            (
                r"28 of the 30 .* missing: .*\.attn\.qkv\.weight.* not expected:"
                r" .*\.attn\.x\.weight"
            ),
        ),
        (
            r"(blocks\.)1(\.)",
            r"18 of the 30 .* missing: blocks\.1\.norm1\.weight, .*, .* and 9 more",
        ),
    ],
)
def test_missing_tensors_are_refused(names, fault, tmp_path, state):
    renamed = {re.sub(names, r"\1x\2", name): value for name, value in state.items()}
    with pytest.raises(WeightsError, match=fault):
        load_encoder_weights(card(), 32, saved(tmp_path, renamed))


def test_digest_depends_on_tensors_and_not_on_the_file(tmp_path, state):
    digest = load_encoder_weights(card(), 32, saved(tmp_path, state)).sha256
    safetensors.torch.save_file(
        dict(reversed(state.items())), tmp_path / "toy.safetensors"
    )
    decoder = {"decoder.weight": torch.ones(3)}
    with_decoder = card(convert=lambda state: drop_tensors(state, "decoder"))
    assert digest == tensors_sha256(state)
    assert (
        digest == load_encoder_weights(card(), 32, tmp_path / "toy.safetensors").sha256
    )
    assert (
        digest
        == load_encoder_weights(
            with_decoder, 32, saved(tmp_path, state | decoder)
        ).sha256
    )
    assert digest == load_encoder_weights(card(), 64, saved(tmp_path, state)).sha256
    state["norm.bias"][0] += 1e-7
    assert digest != tensors_sha256(state)


@pytest.mark.parametrize("number_type", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_become_float32(number_type, tmp_path, state):
    stored = {name: value.to(number_type) for name, value in state.items()}
    vit = load_encoder_weights(card(), 32, saved(tmp_path, stored)).vit
    assert all(
        torch.equal(value, stored[name].float())
        for name, value in vit.state_dict().items()
    )


@pytest.mark.parametrize(
    "layout", [{}, {"reg_tokens": 4}, {"reg_tokens": 4, "no_embed_class": True}]
)
@pytest.mark.parametrize("antialias", [True, False])
def test_only_the_position_grid_is_resampled(layout, antialias, tmp_path):
    def shaped(size):
        return build(size, **layout)

    torch.manual_seed(0)
    stored = shaped(64).state_dict()
    prefix = stored["pos_embed"].shape[1] - 64
    vit = load_encoder_weights(
        card(shaped, antialias=antialias), 32, saved(tmp_path, stored)
    ).vit
    grid = stored["pos_embed"][:, prefix:].reshape(1, 8, 8, 32).permute(0, 3, 1, 2)
    grid = torch.nn.functional.interpolate(
        grid, (4, 4), mode="bicubic", antialias=antialias
    )
    expected = torch.cat(
        [stored["pos_embed"][:, :prefix], grid.flatten(2).transpose(1, 2)], 1
    )
    assert torch.allclose(vit.pos_embed, expected, atol=1e-6)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_changed_weights_do_not_change_the_file(suffix, tmp_path, state):
    path = tmp_path / f"toy.{suffix}"
    (
        torch.save(state, path)
        if suffix == "pth"
        else safetensors.torch.save_file(state, path)
    )
    before = path.read_bytes()
    vit = load_encoder_weights(card(), 32, path).vit
    vit.norm.weight.data += 1
    assert vit.norm.weight.equal(state["norm.weight"] + 1)
    assert path.read_bytes() == before
    assert load_encoder_weights(card(), 32, path).vit.norm.weight.equal(
        state["norm.weight"]
    )


def test_encoder_without_position_embeddings(tmp_path):
    def shaped(size):
        return build(size, pos_embed="none")

    assert (
        load_encoder_weights(
            card(shaped), 32, saved(tmp_path, shaped(32).state_dict())
        ).vit.pos_embed
        is None
    )


def anonymous_memory():
    """Return the bytes of this process in anonymous pages."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(
        1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon")
    )


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="needs /proc of Linux"
)
def test_tensors_are_mapped_from_the_file(tmp_path):
    def large(size):
        return build(size, embed_dim=384, depth=8, num_heads=6)

    state = large(32).state_dict()
    size = sum(value.nbytes for value in state.values())
    path = satmae_data.write(tmp_path / "large.pth", state)
    assert path.stat().st_size > 1.9 * size
    before = anonymous_memory()
    backbone = load_encoder_weights(card(large), 32, path)
    assert anonymous_memory() - before < 0.1 * size
    assert backbone.vit.blocks[7].mlp.fc2.weight.equal(state["blocks.7.mlp.fc2.weight"])


def test_weights_of_the_package_agree_with_their_model_card(tmp_path):
    weights = tmp_path / "toy.safetensors"
    weights.write_bytes(b"weights")
    # the package has no file that differs
    digest = hashlib.sha256(b"weights").hexdigest()
    (tmp_path / "toy.json").write_text(json.dumps({"sha256": digest}))
    # its callers read the weights of the package
    loading._check_packaged(card(weights=weights), weights)
    weights.write_bytes(b"other")
    with pytest.raises(WeightsError, match="differ from their model card"):
        loading._check_packaged(card(weights=weights), weights)
