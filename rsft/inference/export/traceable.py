"""Build a bundle's network from plain modules, and trace the graph that other runtimes use."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, cast

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from rsft.data.imagery.contract import Contract
from rsft.models.averaging import average_predictions
from rsft.models.bundle.bundle import Bundle
from rsft.models.classifier import Classifier, Prediction, extract_features
from rsft.models.factory import load_merged_classifier
from rsft.peft import class_token_features
from rsft.peft.model.block_outputs import record_block_outputs


class TraceableNetwork(nn.Module):
    """A merged classifier, or the average of several, without the memory-saving kernels of training.

    PEFT modules that cannot be merged (adapters, prompts) stay modules.

    Args:
        runs: merged classifiers.
    """

    def __init__(self, runs: Sequence[Classifier]) -> None:
        super().__init__()
        self.runs = nn.ModuleList(runs)
        self.requires_grad_(False).eval()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (B, C) and features (B, D) of images (B, P, S, S).

        Args:
            x: images (B, P, S, S).

        Returns:
            Logits (B, C) and features (B, D), float32.
        """
        predictions = [_predict(cast(Classifier, run), x) for run in self.runs]
        logits, features = predictions[0] if len(predictions) == 1 else average_predictions(predictions)
        return logits, features


class BFloat16Network(nn.Module):
    """A network whose matrix products are in bfloat16; norms, sums and the head stay in float32.

    Args:
        network: the network, which is changed in place.
        products: replace PyTorch's fused attention by two matrix products around a softmax. The fused kernel does not
            round attention scores, because it uses float32 internally, but takes 1.5 times as long on a CPU with
            bfloat16.
    """

    def __init__(self, network: TraceableNetwork, *, products: bool = False) -> None:
        super().__init__()
        self.network = network
        for run in cast(Sequence[Classifier], network.runs):
            for module in run.adapted.modules():
                if isinstance(module, nn.Linear | nn.Conv2d):
                    module.bfloat16()
                elif products and hasattr(module, "fused_attn"):
                    cast(Any, module).fused_attn = False

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (B, C) and features (B, D), float32, of images (B, P, S, S), float32.

        Args:
            x: images (B, P, S, S).

        Returns:
            Logits (B, C) and features (B, D), float32.
        """
        with torch.autocast(x.device.type, torch.bfloat16):
            logits, features = self.network(x)
        return logits.float(), features.float()


def build_network(bundle: Bundle) -> TraceableNetwork:
    """Build the network of a bundle: the average of its runs, each merged into the backbone.

    Args:
        bundle: the bundle to export.

    Returns:
        The merged network.

    Raises:
        WeightsError: the backbone on this machine is not the one that the bundle was trained on.
    """
    return TraceableNetwork([load_merged_classifier(bundle, run) for run in range(len(bundle.members))])


def trace_network(network: TraceableNetwork | BFloat16Network, contract: Contract) -> ExportedProgram:
    """Trace a network for any number of images (N, P, S, S).

    Args:
        network: a network in evaluation mode.
        contract: size and planes of the images.

    Returns:
        The traced program.
    """
    return trace(network, torch.zeros(2, len(contract.planes), contract.size, contract.size))


def trace(network: nn.Module, example: Tensor) -> ExportedProgram:
    """Trace a network for any number of images.

    Args:
        network: a network in evaluation mode.
        example: two images.

    Returns:
        The traced program.
    """
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        return torch.export.export(network, (example,), dynamic_shapes=({0: Dim("chips", min=1)},), strict=False)


def _predict(run: Classifier, x: Tensor) -> Prediction:
    with record_block_outputs(run.adapted.vit, run.adapted.output_blocks) as block_tokens:
        features = _features(run, x)
    with torch.autocast(x.device.type, enabled=False):
        inputs = run.join_features(features.float(), block_tokens)
        return Prediction(run.head(inputs), run.final_features(inputs))


def _features(run: Classifier, x: Tensor) -> Tensor:
    """Return features (B, D) of images (B, P, S, S); the last block only computes the tokens that are used."""
    vit = cast(VisionTransformer, run.adapted.vit)
    if run.pool != "token":
        return extract_features(vit, x, run.pool)
    return cast(Tensor, vit.fc_norm(class_token_features(vit, x)))
