"""Build a bundle's network from plain modules, and trace it as a graph.

The outputs of an export are compared with those of PyTorch in float32.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import numpy as np
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from rsft.data.imagery.contract import Contract
from rsft.errors import WeightsError
from rsft.inference.engines.base import Tolerance
from rsft.models.averaging import average_predictions
from rsft.models.bundle.bundle import Bundle
from rsft.models.classifier import Classifier, Prediction, extract_features
from rsft.models.loading import load_merged_classifier
from rsft.models.outputs import ClassifierOutputs
from rsft.peft import class_token_features
from rsft.peft.model.block_outputs import record_block_outputs
from rsft.types import JsonObject

PARITY_CHIPS = 32
"""Number of chips whose outputs are compared one by one."""


class OutputDifference(NamedTuple):
    """Difference of an engine's outputs from those of PyTorch in float32.

    Attributes:
        largest: largest difference of a logit.
        allowed: limit of `largest`.
        features: largest difference of a feature, divided by the largest feature if
            that is above 1.
        share: limit of `features`.
    """

    largest: float
    allowed: float
    features: float
    share: float

    @property
    def fits(self) -> bool:
        """Whether both differences are within their limits."""
        # False for NaN
        return self.largest <= self.allowed and self.features <= self.share


@torch.inference_mode()
def compute_outputs(
    predict: Callable[[Tensor], tuple[Tensor, Tensor]], images: Tensor
) -> ClassifierOutputs:
    """Return logits (N, C) and features (N, D), float32, of images (N, P, S, S)."""
    return ClassifierOutputs(*(tensor.float().numpy() for tensor in predict(images)))


def compare_outputs(
    outputs: ClassifierOutputs, reference: ClassifierOutputs, tolerance: Tolerance
) -> OutputDifference:
    """Measure how much outputs differ from those of PyTorch in float32.

    Raises:
        ValueError: the tolerance has no limit.
    """
    if tolerance.limit is None:
        raise ValueError("the outputs of this precision are not compared one by one")
    logits, features = reference
    largest = float(np.abs(outputs[0] - logits).max())
    change = float(np.abs(outputs[1] - features).max())
    allowed = tolerance.limit
    if tolerance.relative:
        allowed *= max(1.0, float(np.abs(logits).max()))
    share = change / max(1.0, float(np.abs(features).max()))
    return OutputDifference(largest, allowed, share, tolerance.limit)


def check_export_outputs(
    outputs: ClassifierOutputs,
    reference: ClassifierOutputs,
    tolerance: Tolerance,
    origin: str,
    source: str,
) -> JsonObject:
    """Return the entry "checked" of the metadata of an export.

    Args:
        outputs: logits and features of the export; or probabilities and OOD distances.
        reference: those that they should be.
        tolerance: their largest difference.
        origin: where the reference comes from, for the message.
        source: the chips.

    Raises:
        WeightsError: they differ too much.
    """
    difference = compare_outputs(outputs, reference, tolerance)
    if not difference.fits:
        raise WeightsError(
            f"the export differs from {origin} by {difference.largest:.2g}"
            f" ({difference.allowed:.2g} is allowed), and in features or distances by"
            f" {difference.features:.2g} of the largest ({difference.share:.2g})",
            source,
            "export another precision or format; nothing was written",
        )
    return {"data": source, **difference._asdict()}


class TraceableNetwork(nn.Module):
    """A merged classifier, or the average of several.

    It does not use the memory-saving kernels of training.

    PEFT modules that cannot be merged (adapters, prompts) stay modules.
    """

    def __init__(self, runs: Sequence[Classifier]) -> None:
        super().__init__()
        self.runs = nn.ModuleList(runs)
        self.requires_grad_(False).eval()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (B, C) and features (B, D), float32, of images (B, P, S, S)."""
        predictions = [_predict(cast(Classifier, run), x) for run in self.runs]
        logits, features = predictions[0]
        if len(predictions) > 1:
            logits, features = average_predictions(predictions)
        return logits, features


class BFloat16Network(nn.Module):
    """A network whose matrix products are in bfloat16.

    Norms, sums and the head stay in float32.

    Args:
        network: the network, which is changed in place.
    """

    def __init__(self, network: TraceableNetwork) -> None:
        super().__init__()
        self.network = network
        for run in cast(Sequence[Classifier], network.runs):
            for module in run.adapted.modules():
                if isinstance(module, nn.Linear | nn.Conv2d):
                    module.bfloat16()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (B, C) and features (B, D) of images (B, P, S, S), float32."""
        with torch.autocast(x.device.type, torch.bfloat16):
            logits, features = self.network(x)
        return logits.float(), features.float()

    def predict(self, x: Tensor) -> Prediction:
        """Return logits and features of images, as a classifier does."""
        return Prediction(*self(x))


def build_network(bundle: Bundle) -> TraceableNetwork:
    """Build a bundle's network: the average of its merged runs."""
    return TraceableNetwork(
        [load_merged_classifier(bundle, run) for run in range(len(bundle.members))]
    )


def trace_network(
    network: TraceableNetwork | BFloat16Network, contract: Contract
) -> ExportedProgram:
    """Trace a network in evaluation mode for any number of images (N, P, S, S)."""
    return trace(
        network, torch.zeros(2, len(contract.planes), contract.size, contract.size)
    )


def trace(network: nn.Module, example: Tensor) -> ExportedProgram:
    """Trace a network in evaluation mode for any number of images."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        return torch.export.export(
            network,
            (example,),
            dynamic_shapes=({0: Dim("chips", min=1)},),
            strict=False,
        )


def _predict(run: Classifier, x: Tensor) -> Prediction:
    vit = cast(VisionTransformer, run.adapted.vit)
    with record_block_outputs(vit, run.adapted.output_blocks) as block_tokens:
        if run.pool == "token":  # the last block only computes the class token
            features = cast(Tensor, vit.fc_norm(class_token_features(vit, x)))
        else:
            features = extract_features(vit, x, run.pool)
    with torch.autocast(x.device.type, enabled=False):
        inputs = run.join_features(features.float(), block_tokens)
        return Prediction(run.head(inputs), run.final_features(inputs))
