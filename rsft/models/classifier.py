"""The classifier: frozen backbone, PEFT modules and head as one module."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, cast

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from rsft.errors import WeightsError
from rsft.peft import AdaptedModel
from rsft.peft.modules.adapter_module import NamedTensors


def extract_features(vit: VisionTransformer, x: Tensor, pool: str) -> Tensor:
    """Return pooled features of a transformer.

    Args:
        vit: a timm vision transformer.
        x: images (B, P, S, S).
        pool: "token" for the class token, "avg" for the mean of the patch tokens or of
            the feature map.

    Returns:
        Features (B, D).
    """
    return _pool(vit, vit.forward_features(x), pool)


def _pool(vit: VisionTransformer, tokens: Tensor, pool: str) -> Tensor:
    if tokens.ndim == 4:  # the feature map of a hierarchical network
        return vit.forward_head(tokens, pre_logits=True)
    if pool == "token":
        pooled = tokens[:, 0]
    else:
        pooled = tokens[:, vit.num_prefix_tokens :].mean(dim=1)
    # identity if the network normalizes before pooling
    return cast(Tensor, vit.fc_norm(pooled))


class CosineHead(nn.Module):
    """Cosine head: logit = scale * cos(feature, class weight), without bias.

    The norm of a weight has no effect.

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
        return self.scale * F.linear(
            F.normalize(features, dim=-1), F.normalize(self.weight, dim=-1)
        )


class HeadAverage(nn.Module):
    """Mean of the logits of several heads.

    One reads the final features, the others those of an earlier block each.

    Features of earlier blocks are more general, which helps classes with few chips
    (compare SciLT, arXiv 2604.03687).

    Args:
        final: the head on the final features.
        blocks: block index -> the head on the mean patch token after this block.
    """

    def __init__(self, final: nn.Module, blocks: Mapping[int, nn.Module]) -> None:
        super().__init__()
        self.final = final
        self.blocks = nn.ModuleDict(
            {str(block): blocks[block] for block in sorted(blocks)}
        )

    @property
    def heads(self) -> list[nn.Module]:
        """The head on the final features, then those on blocks in rising order."""
        return [self.final, *self.blocks.values()]

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the mean logits (B, C).

        Args:
            inputs: the features of all heads side by side, (B, heads * D); see
                `Classifier.head_inputs`.
        """
        heads = self.heads
        parts = inputs.chunk(len(heads), dim=-1)
        return torch.stack(
            [head(part) for head, part in zip(heads, parts, strict=True)]
        ).mean(dim=0)


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
        head: a module that maps pooled features to logits; a `HeadAverage` also reads
            features of earlier blocks.
        pool: "token" for the class token, "avg" for the mean of the patch tokens or of
            the feature map.

    Raises:
        ValueError: the head reads a block that the transformer lacks, or the last one.
    """

    adapted: AdaptedModel
    head: nn.Module

    def __init__(self, adapted: AdaptedModel, head: nn.Module, pool: str) -> None:
        super().__init__()
        self.adapted = adapted
        self.head = head
        self.pool = pool
        adapted.output_blocks = ()
        if isinstance(head, HeadAverage):
            adapted.output_blocks = tuple(map(int, head.blocks))

    def features(self, x: Tensor) -> Tensor:
        """Return pooled features (B, D).

        Args:
            x: images (B, P, S, S), or the output of `adapted.run_frozen_prefix` (B, N,
                D).
        """
        return self.final_features(self.head_inputs(x))

    def head_inputs(self, x: Tensor) -> Tensor:
        """Return what the head reads.

        These are the pooled features and, for a `HeadAverage`, those of its earlier
        blocks.

        Returns:
            Features side by side, (B, D) or (B, heads * D).
        """
        if x.ndim == 4:
            x = self.adapted.run_frozen_prefix(x)
        x, *block_tokens = self.adapted.run_suffix_with_blocks(
            x, class_token_only=self.pool == "token"
        )
        return self.join_features(
            _pool(cast(VisionTransformer, self.adapted.vit), x, self.pool), block_tokens
        )

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
        parts = [features]
        for tokens in block_tokens:
            parts.append(
                self.adapted.patch_tokens(tokens).mean(dim=1).to(features.dtype)
            )
        return torch.cat(parts, dim=1)

    def final_features(self, head_inputs: Tensor) -> Tensor:
        """Return the pooled features (B, D) in the output of `head_inputs`."""
        return head_inputs.chunk(1 + len(self.adapted.output_blocks), dim=1)[0]

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (B, C) of images."""
        return self.predict(x).logits

    def predict(self, x: Tensor) -> Prediction:
        """Return logits (B, C) and features (B, D); arguments as in `features`."""
        inputs = self.head_inputs(x)
        return Prediction(self.head(inputs), self.final_features(inputs))

    @property
    def theta(self) -> list[nn.Parameter]:
        """The parameters that the inner loop trains: those of PEFT modules and head."""
        return [*self.adapted.theta, *self.head.parameters()]

    def learned_state(self) -> NamedTensors:
        """Return all learned tensors by name: PEFT modules, "gamma" and "head.*"."""
        head = {f"head.{key}": value for key, value in self.head.state_dict().items()}
        return {**self.adapted.adapter_state(), **head}

    def load_learned_state(self, state: NamedTensors) -> None:
        """Load a state from `learned_state`.

        Raises:
            WeightsError: keys or shapes do not fit.
        """
        adapter = {}
        head = {}
        for name, tensor in state.items():
            if name.startswith("head."):
                head[name.removeprefix("head.")] = tensor
            else:
                adapter[name] = tensor
        try:
            self.adapted.load_adapter_state(adapter)
            self.head.load_state_dict(head)
        except (ValueError, RuntimeError) as error:
            raise WeightsError(
                str(error), "adapter or head", "use weights of the same recipe"
            ) from error
