"""A bundle's classifier as plain modules, which every runtime can take over."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, cast

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.nn import functional as F

from rsft.data.imagery.contract import Contract
from rsft.models.averaging import averaged
from rsft.models.bundle.bundle import Bundle
from rsft.models.classifier import Answer, Classifier, pooled_features
from rsft.models.factory import load_merged
from rsft.peft.kernels import why_not_lean
from rsft.peft.model.stages import Trunk

IMAGES, LOGITS, FEATURES = "images", "logits", "features"
"""Names of a graph's input and of its outputs."""


class Network(nn.Module):
    """Merged classifiers, one or the runs that are averaged, without the lean path of training.

    What could not be merged (adapters, prompts) is there as modules.
    """

    def __init__(self, runs: Sequence[Classifier]) -> None:
        super().__init__()
        self.runs = nn.ModuleList(runs)
        self.requires_grad_(False).eval()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, P, S, S) -> logits (B, C) and features (B, D)."""
        answers = [_answer(cast(Classifier, run), x) for run in self.runs]
        logits, features = answers[0] if len(answers) == 1 else averaged(answers)
        return logits, features


class Half(nn.Module):
    """A network whose matrix products are in bfloat16; norms, sums and the head stay in float32.

    Args:
        products: attention as two matrix products around a softmax, where the block has that form. On a processor with
            bfloat16 PyTorch's fused kernel takes half as long again, as it computes in float32 inside; on the other
            hand it rounds no score.
    """

    def __init__(self, network: Network, *, products: bool = False) -> None:
        super().__init__()
        self.network = network
        for run in cast(Sequence[Classifier], network.runs):
            for module in run.adapted.modules():
                if isinstance(module, nn.Linear | nn.Conv2d):
                    module.bfloat16()
                elif products and hasattr(module, "fused_attn"):
                    cast(Any, module).fused_attn = False

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """As `Network`, float32 in and out."""
        with torch.autocast(x.device.type, torch.bfloat16):
            logits, features = self.network(x)
        return logits.float(), features.float()


def network_of(bundle: Bundle) -> Network:
    """All runs of a bundle, each merged.

    Raises:
        WeightsError: the backbone on this machine is not the one that the bundle was trained on.
    """
    return Network([load_merged(bundle, run) for run in range(len(bundle.members))])


def trace(network: Network | Half, contract: Contract) -> ExportedProgram:
    """The graph of a network for any number of images (N, P, S, S)."""
    example = torch.zeros(2, len(contract.planes), contract.size, contract.size)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        return torch.export.export(network, (example,), dynamic_shapes=({0: Dim("chips", min=1)},), strict=False)


def _answer(run: Classifier, x: Tensor) -> Answer:
    features = _features(run, x)
    with torch.autocast(x.device.type, enabled=False):
        features = features.float()
        return Answer(run.head(features), features)


def _features(run: Classifier, x: Tensor) -> Tensor:
    """Images (B, P, S, S) -> (B, D); where the class token is read alone, the last block computes no other."""
    vit = cast(VisionTransformer, run.adapted.vit)
    trunk = Trunk(vit)
    *others, last = trunk.blocks
    if run.pool != "token" or not trunk.cacheable or why_not_lean(last) is not None:
        return pooled_features(vit, x, run.pool)
    tokens = trunk.embed(x).x
    for block in others:
        tokens = block(tokens)
    token = vit.norm(_class_token(last, tokens))
    return cast(Tensor, vit.fc_norm(token[:, 0]))


def _class_token(block: Any, x: Tensor) -> Tensor:
    """A standard block of timm for the first token alone, which attends to all: (B, N, D) -> (B, 1, D)."""
    attn, normed, first = block.attn, block.norm1(x), x[:, :1]
    weight, bias = attn.qkv.weight, attn.qkv.bias
    width = weight.shape[0] // 3
    query = F.linear(normed[:, :1], weight[:width], None if bias is None else bias[:width])
    rest = F.linear(normed, weight[width:], None if bias is None else bias[width:])
    parts = (query, *rest.chunk(2, -1))
    q, k, v = (torch.unflatten(part, -1, (attn.num_heads, -1)).transpose(1, 2) for part in parts)
    heads = F.scaled_dot_product_attention(attn.q_norm(q), attn.k_norm(k), v).transpose(1, 2).flatten(2)
    first = first + block.ls1(attn.proj(heads))
    return cast(Tensor, first + block.ls2(block.mlp(block.norm2(first))))
