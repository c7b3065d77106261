"""The classifier: frozen backbone, PEFT modules and head as one module."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar, cast

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from rsft.errors import WeightsError
from rsft.peft import AdaptedModel


def extract_features(vit: VisionTransformer, x: Tensor, pool: str) -> Tensor:
    """Return pooled features of a transformer.

    Args:
        vit: a timm vision transformer.
        x: images (B, P, S, S).
        pool: "token" for the class token, "avg" for the mean of the patch tokens or of the feature map.

    Returns:
        Features (B, D).
    """
    return _pool(vit, vit.forward_features(x), pool)


def _pool(vit: VisionTransformer, tokens: Tensor, pool: str) -> Tensor:
    if tokens.ndim == 4:  # the feature map of a hierarchical network
        return vit.forward_head(tokens, pre_logits=True)
    pooled = tokens[:, 0] if pool == "token" else tokens[:, vit.num_prefix_tokens :].mean(dim=1)
    return cast(Tensor, vit.fc_norm(pooled))  # identity if the network normalizes before pooling


class CosineHead(nn.Module):
    """Cosine head: logit = scale * cos(feature, class weight), without bias. The norm of a weight has no effect.

    Args:
        width: D, the width of the features.
        classes: number of classes.
        scale: factor from a cosine to a logit.
    """

    def __init__(self, width: int, classes: int, scale: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, width))
        self.scale = scale
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits (B, C) of features (B, D)."""
        return self.scale * F.linear(F.normalize(features, dim=-1), F.normalize(self.weight, dim=-1))


class HeadAverage(nn.Module):
    """Mean of the logits of several heads: one on the final features, and one on the features of each earlier block.

    Features of earlier blocks are more general, which helps classes with few chips (compare SciLT, arXiv 2604.03687).

    Args:
        final: the head on the final features.
        blocks: block index -> the head on the mean patch token after this block.
    """

    def __init__(self, final: nn.Module, blocks: Mapping[int, nn.Module]) -> None:
        super().__init__()
        self.final = final
        self.blocks = nn.ModuleDict({str(block): blocks[block] for block in sorted(blocks)})

    @property
    def block_indices(self) -> tuple[int, ...]:
        """The blocks whose features the heads read, rising."""
        return tuple(map(int, self.blocks))

    @property
    def heads(self) -> list[nn.Module]:
        """The head on the final features, then those on blocks in the order of `block_indices`."""
        return [self.final, *self.blocks.values()]

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the mean logits (B, C).

        Args:
            inputs: the features of all heads side by side, (B, heads * D); see `Classifier.head_inputs`.
        """
        heads = self.heads
        parts = inputs.chunk(len(heads), dim=-1)
        return torch.stack([head(part) for head, part in zip(heads, parts, strict=True)]).mean(dim=0)


class Prediction(NamedTuple):
    """Logits (B, C) and the pooled features (B, D) that they were computed from."""

    logits: Tensor
    features: Tensor


class SupportsPredict(Protocol):
    """A model in any engine that predicts logits and features of images."""

    def predict(self, x: Tensor, /) -> Prediction:
        """Return logits (B, C) and features (B, D) of images (B, P, S, S)."""


class Classifier(nn.Module):
    """A network that maps chips to logits.

    Args:
        adapted: the transformer with its PEFT modules.
        head: a module that maps pooled features to logits; a `HeadAverage` also reads features of earlier blocks.
        pool: "token" for the class token, "avg" for the mean of the patch tokens or of the feature map.

    Raises:
        ValueError: the head reads a block that the transformer lacks, or the last one.
    """

    adapted: AdaptedModel
    head: nn.Module

    def __init__(self, adapted: AdaptedModel, head: nn.Module, pool: str) -> None:
        super().__init__()
        self.adapted, self.head, self.pool = adapted, head, pool
        adapted.output_blocks = head.block_indices if isinstance(head, HeadAverage) else ()

    def features(self, x: Tensor, stage: int | None = None) -> Tensor:
        """Return pooled features (B, D).

        Args:
            x: images (B, P, S, S), or the output of `adapted.run_frozen_prefix` (B, N, D).
            stage: the stage that was passed to `run_frozen_prefix` (default: the first adapted stage).
        """
        return self.final_features(self.head_inputs(x, stage))

    def head_inputs(self, x: Tensor, stage: int | None = None) -> Tensor:
        """Return what the head reads: the pooled features and, for a `HeadAverage`, those of its earlier blocks.

        Returns:
            Features side by side, (B, D) or (B, heads * D).
        """
        tokens = self.adapted.run_frozen_prefix(x, stage) if x.ndim == 4 else x
        tokens, *block_tokens = self.adapted.run_suffix_with_blocks(
            tokens, class_token_only=self.pool == "token", stage=stage
        )
        return self.join_features(_pool(cast(VisionTransformer, self.adapted.vit), tokens, self.pool), block_tokens)

    def join_features(self, features: Tensor, block_tokens: Sequence[Tensor]) -> Tensor:
        """Append the mean patch tokens of earlier blocks to the pooled features.

        Args:
            features: (B, D).
            block_tokens: tokens (B, N, D) after each block of `adapted.output_blocks`.

        Returns:
            The input of the head, (B, D) or (B, heads * D).
        """
        if not block_tokens:
            return features
        means = [self.adapted.patch_tokens(tokens).mean(dim=1) for tokens in block_tokens]
        return torch.cat([features, *(mean.to(features.dtype) for mean in means)], dim=1)

    def final_features(self, head_inputs: Tensor) -> Tensor:
        """Return the pooled features (B, D) in the input of the head, which is from `head_inputs`."""
        return head_inputs.chunk(1 + len(self.adapted.output_blocks), dim=1)[0]

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (B, C) of images."""
        return self.predict(x).logits

    def predict(self, x: Tensor, stage: int | None = None) -> Prediction:
        """Return logits (B, C) and features (B, D); the arguments are those of `features`."""
        inputs = self.head_inputs(x, stage)
        return Prediction(self.head(inputs), self.final_features(inputs))

    @property
    def theta(self) -> list[nn.Parameter]:
        """The parameters that the inner loop trains: those of PEFT modules and head."""
        return [*self.adapted.theta, *self.head.parameters()]

    def learned_state(self) -> dict[str, Tensor]:
        """Return all learned tensors by name: those of the PEFT modules, "gamma" and "head.*"."""
        head = {f"head.{key}": value for key, value in self.head.state_dict().items()}
        return {**self.adapted.adapter_state(), **head}

    def load_learned_state(self, state: dict[str, Tensor]) -> None:
        """Load a state from `learned_state`.

        Raises:
            WeightsError: keys or shapes do not fit.
        """
        head = {key.removeprefix("head."): value for key, value in state.items() if key.startswith("head.")}
        try:
            self.adapted.load_adapter_state({k: v for k, v in state.items() if not k.startswith("head.")})
            self.head.load_state_dict(head)
        except (ValueError, RuntimeError) as error:
            raise WeightsError(str(error), "adapter or head", "use weights of the same recipe") from error


_Network = TypeVar("_Network", bound=nn.Module)


def copy_to_device(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Return a tensor on a device. A copy to a GPU starts from pinned memory, so that the program does not wait for it.

    The tensor itself is returned if it is on the device already.
    """
    if torch.device(device).type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def move_network(network: _Network, device: torch.device | str) -> _Network:
    """Move a network to a device. On a GPU, the weights of frozen convolutions are stored with the channels last.

    cuDNN computes such convolutions on tensor cores without converting the weights and the images at every call.

    The network is changed in place, and returned.
    """
    network.to(device)
    if torch.device(device).type == "cuda":
        for module in network.modules():
            if isinstance(module, nn.Conv2d) and not module.weight.requires_grad:
                module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
    return network
