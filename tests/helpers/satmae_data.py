"""Write files in SatMAE's format, and compute its published forward passes in plain
torch."""

import argparse

import numpy as np
import torch
from torch.nn import functional as F

WIDTH = 64
DEPTH = 2
HEADS = 4
SMALL = {"embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS}
DECODER = 32


def waves(width, coordinates):
    """Compute get_1d_sincos_pos_embed_from_grid of util/pos_embed.py."""
    angles = np.outer(
        np.asarray(coordinates, float).reshape(-1),
        1 / 10_000 ** (np.arange(width // 2) / (width / 2)),
    )
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


def positions(width, side):
    """Compute get_2d_sincos_pos_embed of util/pos_embed.py with a class token: (1, 1 +
    side^2, width)."""
    columns, rows = np.meshgrid(np.arange(side), np.arange(side))
    grid = np.concatenate([waves(width // 2, columns), waves(width // 2, rows)], axis=1)
    return torch.tensor(
        np.concatenate([np.zeros((1, width)), grid])[None], dtype=torch.float32
    )


def random(shapes):
    rng = torch.Generator().manual_seed(0)
    return {
        name: 0.1 * torch.randn(shape, generator=rng) + ("norm" in name)
        for name, shape in shapes.items()
    }


def blocks(prefix, width, depth):
    block = (
        layer("norm1", width)
        | layer("attn.qkv", 3 * width, width)
        | layer("attn.proj", width, width)
    )
    block |= (
        layer("norm2", width)
        | layer("mlp.fc1", 4 * width, width)
        | layer("mlp.fc2", width, 4 * width)
    )
    return {
        f"{prefix}.{index}.{name}": shape
        for index in range(depth)
        for name, shape in block.items()
    }


def layer(name, *weight):
    return {f"{name}.weight": weight, f"{name}.bias": weight[:1]}


def decoder(side):
    shapes = {"mask_token": (1, 1, DECODER)} | layer("decoder_embed", DECODER, WIDTH)
    shapes |= blocks("decoder_blocks", DECODER, 1) | layer("decoder_norm", DECODER)
    return {**random(shapes), "decoder_pos_embed": positions(DECODER, side)}


def pretrained(side=14, patch=16, depth=DEPTH):
    """Return a state of MaskedAutoencoderViT in models_mae.py."""
    encoder = {"cls_token": (1, 1, WIDTH)} | layer(
        "patch_embed.proj", WIDTH, 3, patch, patch
    )
    encoder |= blocks("blocks", WIDTH, depth) | layer("norm", WIDTH)
    pixels = random(layer("decoder_pred", 3 * patch**2, DECODER))
    return {
        **random(encoder),
        "pos_embed": positions(WIDTH, side),
        **decoder(side),
        **pixels,
    }


def fine_tuned(state):
    """Return a state of models_vit.py with mean pooling, with changed position
    embeddings as after fine-tuning."""
    encoder = {
        name: value
        for name, value in state.items()
        if not name.startswith(("decoder_", "mask_token", "norm."))
    }
    positions = {"pos_embed": state["pos_embed"] + 0.1}
    return {
        **encoder,
        **positions,
        **random({**layer("fc_norm", WIDTH), **layer("head", 62, WIDTH)}),
    }


def write(path, model, optimizer=True):
    """Write a checkpoint like save_model of util/misc.py."""
    moments = {
        index: {"step": 1, "exp_avg": torch.ones_like(value)}
        for index, value in enumerate(model.values())
    }
    args = argparse.Namespace(
        batch_size=8, model="mae_vit_large_patch16", grouped_bands=[[0, 1]], resume=None
    )
    state = {
        "state": moments if optimizer else {},
        "param_groups": [{"lr": 1e-4, "betas": (0.9, 0.95)}],
    }
    scaler = {"scale": 65536.0, "growth_factor": 2.0}
    torch.save(
        {
            "model": model,
            "optimizer": state,
            "epoch": 799,
            "scaler": scaler,
            "args": args,
        },
        path,
    )
    return path


def transformer(x, state):
    for index in range(DEPTH):
        block = f"blocks.{index}"
        q, k, v = linear(
            norm(x, state, f"{block}.norm1"), state, f"{block}.attn.qkv"
        ).chunk(3, dim=-1)
        q = q.unflatten(2, (HEADS, -1)).transpose(1, 2)
        k = k.unflatten(2, (HEADS, -1)).transpose(1, 2)
        v = v.unflatten(2, (HEADS, -1)).transpose(1, 2)
        mixed = (q @ k.transpose(2, 3) / (WIDTH // HEADS) ** 0.5).softmax(dim=-1) @ v
        x = x + linear(mixed.transpose(1, 2).flatten(2), state, f"{block}.attn.proj")
        hidden = F.gelu(
            linear(norm(x, state, f"{block}.norm2"), state, f"{block}.mlp.fc1")
        )
        x = x + linear(hidden, state, f"{block}.mlp.fc2")
    return x


def linear(x, state, name):
    return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])


def norm(x, state, name):
    return F.layer_norm(
        x, (WIDTH,), state[f"{name}.weight"], state[f"{name}.bias"], eps=1e-6
    )


def patches(x, state, name, patch):
    return (
        F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], stride=patch)
        .flatten(2)
        .transpose(1, 2)
    )


def resized(pos_embed, side):
    """Compute interpolate_pos_embed of util/pos_embed.py."""
    old = round((pos_embed.shape[1] - 1) ** 0.5)
    grid = pos_embed[:, 1:].reshape(1, old, old, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(side, side), mode="bicubic", align_corners=False)
    return torch.cat([pos_embed[:, :1], grid.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


def last_block(x, state, patch=16):
    """Compute forward_features of models_vit.py up to the pooling: (B, 3, S, S) -> (B,
    1 + (S / patch)^2, D)."""
    x = patches(x, state, "patch_embed.proj", patch)
    x = torch.cat([state["cls_token"].expand(len(x), -1, -1), x], dim=1)
    return transformer(x + state["pos_embed"], state)
