"""Exports that hold tensors and no graph: timm's state dict, and the adapter as Hugging Face PEFT keeps it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import timm
import torch
from safetensors.torch import load_file, save
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from rsft.errors import RequestError
from rsft.inference.export.parity import difference
from rsft.inference.export.traceable import Network, network_of
from rsft.models.bundle.bundle import Bundle
from rsft.models.classifier import Answer, Classifier, CosineHead
from rsft.models.factory import build_classifier, load_adapted, load_encoder
from rsft.models.outputs import Outputs
from rsft.peft.huggingface import export_peft, import_peft
from rsft.utils.atomic_files import write_bytes

TIMM, HEAD = "model.safetensors", "head.safetensors"

_ANY = "vit_base_patch16_224"
"""The name under which timm makes a plain vision transformer; every size of it is given."""


def write_timm(bundle: Bundle, folder: Path, about: dict[str, Any], images: Tensor, wanted: Outputs) -> Outputs:
    """Write the merged network and its head as one state dict, and return what it answers to `images`.

    `about` is told how timm makes the network, or why it cannot.

    Raises:
        RequestError: modules beside the network, or several runs.
    """
    _one_run(bundle, "timm", "a state dict holds one network")
    run = cast(Classifier, network_of(bundle).runs[0])
    if run.adapted.unmerged:
        what = f"{bundle.recipe.peft.title} stays beside the network, and timm has no place for it"
        raise RequestError(what, ", ".join(run.adapted.unmerged[:3]), "export onnx, openvino or torch-export")
    vit = cast(VisionTransformer, run.adapted.vit)
    head = {f"head.{key}": value for key, value in run.head.state_dict().items()}
    state = {key: value.detach().contiguous() for key, value in {**vit.state_dict(), **head}.items()}
    write_bytes(folder / TIMM, save(state, {"format": "pt", "rsft": json.dumps(about)}))
    options = _options(vit, len(bundle.classes), run.pool, bundle)
    model, why = _made_by_timm(options, folder / TIMM, run.head)
    if model is not None:
        found = _answers_of_timm(model, images)
        if difference(found, wanted, "fp32").fits:
            about["timm"] = {"create_model": _ANY, **options}
            return found
        why = "the network that timm makes gives other logits"
    about["timm"] = {"create_model": None, "why": why}
    return _loaded_again(bundle, folder / TIMM, images)


def write_peft(bundle: Bundle, folder: Path, images: Tensor) -> Outputs:
    """Write the adapter as PEFT does, and the head beside it, and return what both answer to `images`.

    Raises:
        RequestError: a method that is no LoRA, or several runs.
    """
    _one_run(bundle, "peft", "a PEFT adapter is one")
    classifier = load_adapted(bundle, "cpu")
    try:
        export_peft(classifier.adapted, folder)
    except ValueError as error:
        raise RequestError(str(error), "--format peft", "export onnx, openvino or torch-export") from error
    write_bytes(folder / HEAD, save(classifier.head.state_dict(), {"format": "pt"}))
    vit = load_encoder(bundle.recipe, bundle.contract.bands).vit
    again = Classifier(import_peft(vit, folder), classifier.head, classifier.pool).eval()
    again.head.load_state_dict(load_file(folder / HEAD))
    return _arrays(again.answer, images)


def _one_run(bundle: Bundle, kind: str, why: str) -> None:
    if len(bundle.members) > 1:
        what = f"the bundle averages {len(bundle.members)} runs, and {why}"
        raise RequestError(what, f"--format {kind}", "export onnx, openvino or torch-export, which hold the average")


def _options(vit: VisionTransformer, classes: int, pool: str, bundle: Bundle) -> dict[str, Any]:
    """What makes timm build this network, as far as it is a plain one."""
    block: Any = vit.blocks[0]
    patch = cast(Any, vit.patch_embed).patch_size
    return {
        "num_classes": classes,
        "img_size": bundle.contract.size,
        "patch_size": patch[0],
        "in_chans": len(bundle.contract.planes),
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


def _made_by_timm(options: dict[str, Any], path: Path, head: nn.Module) -> tuple[nn.Module | None, str]:
    """The network with the written weights, or None and the reason."""
    if isinstance(head, CosineHead):
        return None, "its head compares directions (cosine), timm's is linear: see `head`"
    model: nn.Module = timm.create_model(_ANY, **options)
    try:
        model.load_state_dict(load_file(path))
    except RuntimeError as error:
        return None, f"it is no plain vision transformer of timm: {str(error).splitlines()[-1].strip()[:200]}"
    return model.eval(), ""


def _answers_of_timm(model: Any, images: Tensor) -> Outputs:
    def answer(x: Tensor) -> Answer:
        features = model.forward_head(model.forward_features(x), pre_logits=True)
        return Answer(model(x), features)

    return _arrays(answer, images)


def _loaded_again(bundle: Bundle, path: Path, images: Tensor) -> Outputs:
    """Of the file's tensors in a new network of rsft."""
    classifier = build_classifier(
        bundle.recipe, len(bundle.classes), load_encoder(bundle.recipe, bundle.contract.bands)
    )
    classifier.adapted.detach()
    state = load_file(path)
    head = {key.removeprefix("head."): value for key, value in state.items() if key.startswith("head.")}
    classifier.head.load_state_dict(head)
    classifier.adapted.vit.load_state_dict({k: v for k, v in state.items() if not k.startswith("head.")})
    return _arrays(lambda x: Answer(*Network([classifier])(x)), images)


@torch.inference_mode()
def _arrays(answer: Any, images: Tensor) -> Outputs:
    return Outputs(*(part.float().numpy() for part in answer(images)))
