"""Small timm networks with weights as if pre-trained, and PEFT modules as if
trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass

import torch
from timm.layers import SwiGLU, SwiGLUPacked
from timm.models.cait import Cait
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from rsft.peft import AdaptedModel

_SIZE = {
    "img_size": 32,
    "patch_size": 8,
    "embed_dim": 24,
    "depth": 3,
    "num_heads": 2,
    "num_classes": 0,
}


def randomize(vit: nn.Module) -> nn.Module:
    """Give all weights visible effects, also those that timm initializes near zero or
    one."""
    for parameter in vit.parameters():
        if parameter.std() < 0.05:
            nn.init.normal_(
                parameter, 1.0 if parameter.all() and parameter.min() == 1 else 0.0, 0.2
            )
    return vit.eval()


def tiny_vit(**kwargs: object) -> VisionTransformer:
    """Return a VisionTransformer of three blocks and width 24, the same at every
    call."""
    torch.manual_seed(0)
    return randomize(VisionTransformer(**(_SIZE | kwargs)))


def rich_vit() -> VisionTransformer:
    """Return a tiny VisionTransformer with LayerScale, QK norm, registers and a norm
    before the blocks."""
    return tiny_vit(init_values=0.5, qk_norm=True, reg_tokens=2, pre_norm=True)


def tiny_eva(**kwargs: object) -> Eva:
    """Return an Eva of three blocks with rotary embeddings, the same at every call."""
    torch.manual_seed(0)
    return randomize(
        Eva(
            **(
                _SIZE
                | {"embed_dim": 32, "use_rot_pos_emb": True, "global_pool": "token"}
                | kwargs
            )
        )
    )


def tiny_dinov3(**kwargs: object) -> Eva:
    """Return an Eva as DINOv3 has it: rotary embeddings of normalized coordinates,
    registers, LayerScale, any size."""
    rope = {
        "rope_type": "dinov3",
        "rope_temperature": 100,
        "rope_rotate_half": True,
        "use_abs_pos_emb": False,
    }
    rest = {
        "num_reg_tokens": 4,
        "init_values": 0.5,
        "qkv_bias": False,
        "use_fc_norm": False,
        "dynamic_img_size": True,
    }
    return tiny_eva(**(rope | rest | kwargs))


def tiny_cait() -> Cait:
    """Return a CaiT of three blocks and two blocks of class attention, the same at
    every call."""
    torch.manual_seed(0)
    return randomize(Cait(**_SIZE))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "plain": tiny_vit,
    "LayerScale, QK norm, registers": rich_vit,
    "packed SwiGLU": lambda: tiny_vit(mlp_layer=SwiGLUPacked, act_layer=nn.SiLU),
    "SwiGLU": lambda: tiny_vit(mlp_layer=SwiGLU, act_layer=nn.SiLU),
    "no fused qkv, rotary": lambda: tiny_eva(
        qkv_fused=False, num_reg_tokens=2, init_values=0.5
    ),
    "separate qkv bias, rotary": lambda: tiny_eva(qkv_fused=True, swiglu_mlp=True),
    "DINOv3": tiny_dinov3,
    "EVA-02 base": lambda: tiny_eva(qkv_fused=False, swiglu_mlp=True, scale_mlp=True),
    "EVA-02 CLIP": lambda: tiny_eva(
        swiglu_mlp=True, swiglu_align_to=8, scale_attn_inner=True
    ),
    "mixed rotary": lambda: tiny_eva(rope_type="mixed", use_abs_pos_emb=False),
    "CaiT": tiny_cait,
    "rope attention": lambda: tiny_eva(attn_type="rope", qkv_fused=False, qk_norm=True),
}
"""One network for every layout of attention and MLP that timm has."""


def with_random_adapter(adapted: AdaptedModel) -> AdaptedModel:
    """Move theta and gamma away from their initial values, as if they had been
    trained."""
    generator = torch.Generator().manual_seed(2)
    for parameter in (*adapted.theta, *adapted.gamma):
        parameter.data.add_(
            torch.randn(parameter.shape, generator=generator).to(parameter.dtype),
            alpha=0.3,
        )
    return adapted


def method_id(value: object) -> str | None:
    """Return a short test id of a PEFT method: its name and the fields that differ from
    their defaults."""
    if not is_dataclass(value) or isinstance(value, type):
        return None
    changed = {field.name: getattr(value, field.name) for field in fields(value)}
    settings = [
        f"{f.name}={_short(changed[f.name])}"
        for f in fields(value)
        if changed[f.name] != f.default
    ]
    return "-".join([str(getattr(value, "name", "")), *settings])


def _short(value: object) -> str:
    if isinstance(value, dict):
        return "by-pattern"
    if isinstance(value, tuple):
        return "+".join(str(method_id(member)) for member in value)
    return str(value).replace(" ", "")
