"""Build a bundle's network from plain modules, and export it.

It is traced as the graph that other runtimes use, or written as weights: a state dict for timm, and LoRA weights for
Hugging Face PEFT. The outputs of an export are compared with those of PyTorch in float32.
"""

import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import timm
import torch
from safetensors.torch import load_file, save
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from rsft.data.imagery.contract import Contract
from rsft.errors import RequestError
from rsft.inference.engines.base import EXACT, FORMATS, METADATA_KEY, Tolerance, find_format
from rsft.models.bundle.bundle import Bundle
from rsft.models.classifier import (
    Classifier,
    CosineHead,
    HeadAverage,
    Prediction,
    average_predictions,
    build_classifier,
    extract_features,
    load_encoder,
    load_merged_classifier,
    load_unmerged_classifier,
)
from rsft.models.outputs import ClassifierOutputs
from rsft.peft import class_token_features
from rsft.peft.huggingface import export_peft, import_peft
from rsft.peft.model.block_outputs import record_block_outputs
from rsft.peft.modules.scaled import LowRankLinear
from rsft.utils.atomic_files import write_bytes

PARITY_CHIPS = 32
"""Number of chips whose outputs are compared one by one."""


class OutputDifference(NamedTuple):
    """Difference of an engine's outputs from those of PyTorch in float32.

    Attributes:
        largest: largest difference of a logit.
        allowed: limit of `largest`.
        features: largest difference of a feature, divided by the largest feature if that is above 1.
        share: limit of `features`.
    """

    largest: float
    allowed: float
    features: float
    share: float

    @property
    def fits(self) -> bool:
        """Whether both differences are within their limits."""
        return self.largest <= self.allowed and self.features <= self.share  # False for NaN


@torch.inference_mode()
def compute_outputs(predict: Callable[[Tensor], tuple[Tensor, Tensor]], images: Tensor) -> ClassifierOutputs:
    """Return logits (N, C) and features (N, D) of images (N, P, S, S) as arrays in float32."""
    return ClassifierOutputs(*(tensor.float().numpy() for tensor in predict(images)))


def compare_outputs(outputs: ClassifierOutputs, reference: ClassifierOutputs, tolerance: Tolerance) -> OutputDifference:
    """Measure how much outputs differ from those of PyTorch in float32 for the same images.

    Raises:
        ValueError: the tolerance has no limit.
    """
    if tolerance.limit is None:
        raise ValueError("the outputs of this precision are not compared one by one")
    logits, features = (float(np.abs(a - b).max()) for a, b in zip(outputs, reference, strict=True))
    logit_range, feature_range = (max(1.0, float(np.abs(values).max())) for values in reference)
    allowed = tolerance.limit * (logit_range if tolerance.relative else 1.0)
    return OutputDifference(logits, allowed, features / feature_range, tolerance.limit)


class TraceableNetwork(nn.Module):
    """A merged classifier, or the average of several, without the memory-saving kernels of training.

    PEFT modules that cannot be merged (adapters, prompts) stay modules.
    """

    def __init__(self, runs: Sequence[Classifier]) -> None:
        super().__init__()
        self.runs = nn.ModuleList(runs)
        self.requires_grad_(False).eval()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (B, C) and features (B, D), float32, of images (B, P, S, S)."""
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
        """Return logits (B, C) and features (B, D), float32, of images (B, P, S, S), float32."""
        with torch.autocast(x.device.type, torch.bfloat16):
            logits, features = self.network(x)
        return logits.float(), features.float()


def build_network(bundle: Bundle) -> TraceableNetwork:
    """Build the network of a bundle: the average of its runs, each merged into the backbone."""
    return TraceableNetwork([load_merged_classifier(bundle, run) for run in range(len(bundle.members))])


def trace_network(network: TraceableNetwork | BFloat16Network, contract: Contract) -> ExportedProgram:
    """Trace a network in evaluation mode for any number of images (N, P, S, S)."""
    return trace(network, torch.zeros(2, len(contract.planes), contract.size, contract.size))


def trace(network: nn.Module, example: Tensor) -> ExportedProgram:
    """Trace a network in evaluation mode for any number of images, given an example of two."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        return torch.export.export(network, (example,), dynamic_shapes=({0: Dim("chips", min=1)},), strict=False)


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


HEAD_FILE = "head.safetensors"

_TIMM_NAME = "vit_base_patch16_224"
"""Name of a plain vision transformer in timm. All of its sizes are passed as arguments."""

_OTHER_HEAD = "timm calls the head of this network otherwise: load the tensors without `head.weight` and `head.bias`"

_SEPARATE_BIAS = "set qkv_bias_separate = True in every attention layer of the timm network"
"""timm's attention with q_bias reads the weight of its qkv layer, so that PEFT's layer around it is not called."""


def write_timm_weights(
    bundle: Bundle, path: Path, metadata: dict[str, Any], images: Tensor, reference: ClassifierOutputs
) -> ClassifierOutputs:
    """Write the merged network and its head as one state dict, and compute outputs with it.

    Args:
        bundle: a bundle of one run.
        path: the safetensors file to write.
        metadata: metadata to store in the file. The entry "timm" is added: how timm creates the network, or why not.
        images: network inputs (N, P, S, S).
        reference: outputs of PyTorch in float32 for these images.

    Returns:
        Logits (N, C) and features (N, D) of the network that timm creates; if it cannot, of a new network of rsft with
        the written weights.

    Raises:
        RequestError: the PEFT modules cannot be merged, or the bundle has several runs.
    """
    _check_one_run(bundle, "timm", "a state dict contains one network")
    classifier = cast(Classifier, build_network(bundle).runs[0])
    if unmerged := classifier.adapted.unmerged:
        message = f"modules of {bundle.recipe.peft.title} cannot be merged, and timm has no such modules"
        raise RequestError(message, ", ".join(unmerged[:3]), _graph_hint())
    vit = cast(VisionTransformer, classifier.adapted.vit)
    head = {f"head.{key}": value for key, value in classifier.head.state_dict().items()}
    state = {key: value.detach().contiguous() for key, value in {**vit.state_dict(), **head}.items()}
    write_bytes(path, save(state, {"format": "pt", METADATA_KEY: json.dumps(metadata)}))
    model, reason, options = None, _OTHER_HEAD, dict[str, Any]()
    if hasattr(vit, "blocks"):
        options = _timm_options(vit, len(bundle.classes), classifier.pool, bundle)
        model, reason = _load_in_timm(dict(options), path, classifier.head)
    if model is not None:
        timm_model: Any = model
        outputs = compute_outputs(
            lambda x: (timm_model(x), timm_model.forward_head(timm_model.forward_features(x), pre_logits=True)), images
        )
        if compare_outputs(outputs, reference, EXACT).fits:
            metadata["timm"] = {"create_model": options.pop("model_name"), **options}
            return outputs
        reason = "the network that timm creates returns other logits"
    metadata["timm"] = {"create_model": None, "reason": reason}
    recipe, state = bundle.recipe, load_file(path)  # a new network of rsft reads the file as well
    classifier = build_classifier(load_encoder(recipe, bundle.contract.bands), len(bundle.classes), recipe)
    classifier.adapted.detach()
    names = {f"head.{key}" for key in classifier.head.state_dict()}  # ConvNeXt has a norm called head.norm
    classifier.head.load_state_dict({name.removeprefix("head."): state[name] for name in names})
    classifier.adapted.vit.load_state_dict({name: tensor for name, tensor in state.items() if name not in names})
    return compute_outputs(TraceableNetwork([classifier]), images)


def write_peft_weights(bundle: Bundle, folder: Path, metadata: dict[str, Any], images: Tensor) -> ClassifierOutputs:
    """Write the adapter in the format of Hugging Face PEFT, and the head; compute outputs with both files.

    Args:
        bundle: a bundle of one run, trained with LoRA.
        folder: an existing folder.
        metadata: content of export.json. The entry "peft" is added if the network must be changed before loading.
        images: network inputs (N, P, S, S).

    Returns:
        Logits (N, C) and features (N, D) of the network loaded from these files.

    Raises:
        RequestError: the method is not LoRA, or the bundle has several runs.
    """
    _check_one_run(bundle, "peft", "PEFT stores one adapter")
    classifier = load_unmerged_classifier(bundle, "cpu")
    try:
        export_peft(classifier.adapted, folder)
    except ValueError as error:
        raise RequestError(str(error), "--format peft", _graph_hint()) from error
    attention = [module for module in classifier.adapted.vit.modules() if getattr(module, "q_bias", None) is not None]
    if any(isinstance(module.qkv, LowRankLinear) for module in attention):
        metadata["peft"] = {"before_loading": _SEPARATE_BIAS}
    write_bytes(folder / HEAD_FILE, save(classifier.head.state_dict(), {"format": "pt"}))
    vit = load_encoder(bundle.recipe, bundle.contract.bands).vit
    loaded = Classifier(import_peft(vit, folder), classifier.head, classifier.pool).eval()
    loaded.head.load_state_dict(load_file(folder / HEAD_FILE))
    return compute_outputs(loaded.predict, images)


def _check_one_run(bundle: Bundle, format_name: str, reason: str) -> None:
    if len(bundle.members) > 1:
        message = f"the bundle averages {len(bundle.members)} runs, and {reason}"
        raise RequestError(message, f"--format {format_name}", f"{_graph_hint()}, which support the average")


def _graph_hint() -> str:
    return f"export {' or '.join(name for name in FORMATS if find_format(name).stores_graph)}"


def _timm_options(vit: VisionTransformer, classes: int, pool: str, bundle: Bundle) -> dict[str, Any]:
    """Return the arguments with which timm builds this network, if it is a vision transformer of timm."""
    block: Any = vit.blocks[0]
    sizes = {"num_classes": classes, "img_size": bundle.contract.size, "in_chans": len(bundle.contract.planes)}
    if not hasattr(block, "ls1"):  # Eva, CaiT, BEiT: all other arguments follow from the architecture
        architecture = bundle.recipe.backbone.name.removeprefix("timm:").partition(".")[0]
        norms = {"use_fc_norm": not isinstance(vit.fc_norm, nn.Identity)} if hasattr(vit, "rope") else {}
        return {"model_name": architecture, **sizes, "depth": len(vit.blocks), "global_pool": pool, **norms}
    patch = cast(Any, vit.patch_embed).patch_size
    return {
        "model_name": _TIMM_NAME,
        **sizes,
        "patch_size": patch[0],
        "embed_dim": vit.embed_dim,
        "depth": len(vit.blocks),
        "num_heads": block.attn.num_heads,
        "mlp_ratio": block.mlp.fc1.out_features / vit.embed_dim if hasattr(block.mlp, "fc1") else 4.0,
        "qkv_bias": getattr(getattr(block.attn, "qkv", None), "bias", None) is not None,
        "init_values": None if isinstance(block.ls1, nn.Identity) else 1.0,
        "class_token": vit.cls_token is not None,
        "reg_tokens": vit.num_reg_tokens,
        "no_embed_class": vit.no_embed_class,
        "pre_norm": not isinstance(vit.norm_pre, nn.Identity),
        "fc_norm": not isinstance(vit.fc_norm, nn.Identity),
        "global_pool": pool,
    }


def _load_in_timm(options: dict[str, Any], path: Path, head: nn.Module) -> tuple[nn.Module | None, str]:
    """Return timm's network with the written weights and ""; or None and the reason why timm cannot create it."""
    if isinstance(head, HeadAverage):
        return None, "it has heads on earlier blocks, but timm only has one on the final features: see `head`"
    if isinstance(head, CosineHead):
        return None, "it has a cosine head, but timm only has linear heads: see `head`"
    try:
        model: nn.Module = timm.create_model(**options)
        model.load_state_dict(load_file(path))
    except (RuntimeError, TypeError) as error:
        reason = str(error).splitlines()[-1].strip()[:200]
        return None, f"it is not a plain vision transformer of timm: {reason}"
    return model.eval(), ""
