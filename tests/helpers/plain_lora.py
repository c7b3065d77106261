"""LoRA on a timm ViT in plain torch, independent of rsft: the reference of its modules
and loops."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from rsft.peft import Site


def plain_features(
    vit: nn.Module,
    images: Tensor,
    factors: Mapping[Site, tuple[Tensor, Tensor]],
    scales: Mapping[Site, Tensor | float],
) -> Tensor:
    """Return the tokens of a timm ViT with LoRA, written as in metalora's
    models/peft_vit.py.

    Args:
        vit: a network without modules.
        images: (B, 3, S, S).
        factors: site -> A (width_in, r) and B (r, width_out).
        scales: site -> scale.
    """

    def addition(block: int, position: str, x: Tensor) -> Tensor | int:
        site = Site(block, position)
        return (
            scales[site] * (x @ factors[site][0] @ factors[site][1])
            if site in factors
            else 0
        )

    network: Any = vit
    # timm's own step between patches and blocks, which it does not export
    x = network.norm_pre(network._pos_embed(network.patch_embed(images)))
    for number, block in enumerate(network.blocks):
        attn = block.attn
        z = block.norm1(x)
        qkv = F.linear(z, attn.qkv.weight, attn.qkv.bias).chunk(3, -1)
        q, k, v = (
            y + addition(number, name, z) for name, y in zip("qkv", qkv, strict=True)
        )
        q = q.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2)
        k = k.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2)
        v = v.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2)
        q = attn.q_norm(q)
        k = attn.k_norm(k)
        weights = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(-1)
        h = (weights @ v).transpose(1, 2).flatten(2)
        projected = F.linear(h, attn.proj.weight, attn.proj.bias)
        x = x + block.ls1(projected + addition(number, "out", projected))
        z = block.norm2(x)
        hidden = F.gelu(
            F.linear(z, block.mlp.fc1.weight, block.mlp.fc1.bias)
            + addition(number, "mlp1", z)
        )
        y = F.linear(hidden, block.mlp.fc2.weight, block.mlp.fc2.bias) + addition(
            number, "mlp2", hidden
        )
        x = x + block.ls2(y)
    return network.norm(x)
