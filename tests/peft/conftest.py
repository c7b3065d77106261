import pytest
import torch
from timm.layers import SwiGLU, SwiGLUPacked
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from rsft.peft import Adapted

SIZE = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 2, "num_classes": 0}


def wake(vit: nn.Module) -> nn.Module:
    """As if pre-trained: weights that matter, and biases and tokens that are not zero."""
    for parameter in vit.parameters():
        if parameter.std() < 0.05:
            nn.init.normal_(parameter, 1.0 if parameter.all() and parameter.min() == 1 else 0.0, 0.2)
    return vit.eval()


def tiny_vit(**kwargs: object) -> VisionTransformer:
    torch.manual_seed(0)
    return wake(VisionTransformer(**(SIZE | kwargs)))


def rich_vit() -> VisionTransformer:
    return tiny_vit(init_values=0.5, qk_norm=True, reg_tokens=2, pre_norm=True)


def tiny_eva(**kwargs: object) -> Eva:
    torch.manual_seed(0)
    return wake(Eva(**(SIZE | {"embed_dim": 32, "use_rot_pos_emb": True, "global_pool": "token"} | kwargs)))


NETWORKS = {
    "plain": tiny_vit,
    "LayerScale, QK norm, registers": rich_vit,
    "packed SwiGLU": lambda: tiny_vit(mlp_layer=SwiGLUPacked),
    "SwiGLU": lambda: tiny_vit(mlp_layer=SwiGLU),
    "no fused qkv, rotary": lambda: tiny_eva(qkv_fused=False, num_reg_tokens=2, init_values=0.5),
    "separate qkv bias, rotary": lambda: tiny_eva(qkv_fused=True, swiglu_mlp=True),
    "rope attention": lambda: tiny_eva(attn_type="rope", qkv_fused=False, qk_norm=True),
}


def learned(adapted: Adapted) -> Adapted:
    """As if trained: everything has moved."""
    generator = torch.Generator().manual_seed(2)
    for parameter in (*adapted.theta, *adapted.gamma):
        parameter.data.add_(torch.randn(parameter.shape, generator=generator).to(parameter.dtype), alpha=0.3)
    return adapted


@pytest.fixture
def vit() -> VisionTransformer:
    return tiny_vit()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
