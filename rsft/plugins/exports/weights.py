"""Write the weights of a bundle for timm and for Hugging Face PEFT.

A README.md says how to load them.

A network or a head that these libraries cannot build is refused, because they would
load its weights into another one.
"""

import json
from pathlib import Path
from typing import Any, NoReturn, cast

import timm
from safetensors.torch import load_file, save
from timm.models._hub import save_config_for_hf
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from rsft.backbones.padded_windows import has_padding
from rsft.errors import RequestError
from rsft.inference.engines.base import METADATA_KEY
from rsft.inference.engines.traceable import build_network, compute_outputs
from rsft.models.bundle.bundle import Bundle, spdx_license
from rsft.models.classifier import Classifier, HeadAverage
from rsft.models.inspection.describe import describe, find_encoder_origin
from rsft.models.loading import load_encoder, load_unmerged_classifier
from rsft.models.outputs import ClassifierOutputs
from rsft.peft.huggingface import bypasses_peft, export_peft, import_peft
from rsft.types import JsonObject
from rsft.utils.atomic_files import sha256, write_bytes, write_json, write_text
from rsft.utils.licenses import UNKNOWN
from rsft.utils.templates import render_template

HEAD_FILE = "head.safetensors"
BASE_DIR = "base"
"""Folder of the base of an adapter, if the base is not on the Hugging Face Hub as timm
publishes it."""

_WEIGHTS_FILE = "model.safetensors"
_CONFIG_FILE = "config.json"
_README_FILE = "README.md"

_TIMM_NAME = "vit_base_patch16_224"
"""Name of a plain vision transformer in timm. All of its sizes are passed as
arguments."""

_SEPARATE_BIAS = (
    "set qkv_bias_separate = True in every attention layer of the timm network"
)
"""timm's attention with q_bias reads the weight of its qkv layer, so that PEFT's layer
around it is not called."""

_HINT = "export onnx, openvino or torch-export, which hold any network and head"

_HUB_OPTIONS = ("img_size", "global_pool", "fc_norm", "use_fc_norm")
"""Arguments with which timm makes the network of a bundle from the weights that it
publishes."""


def write_timm_weights(
    bundle: Bundle, folder: Path, metadata: JsonObject, images: Tensor
) -> ClassifierOutputs:
    """Write the merged network and head as timm's `save_for_hf`; compute outputs.

    Args:
        bundle: a bundle of one run with a linear head, whose network timm can build.
        folder: an existing folder.
        metadata: content of export.json. The entry "timm" is added: how timm creates
            the network.
        images: network inputs (N, P, S, S).

    Returns:
        Logits (N, C) and features (N, D) of the network that timm loads from the
        folder.

    Raises:
        RequestError: timm cannot express the PEFT modules, the head, the network or the
            normalization, or the bundle has several runs.
    """
    _check_one_run(bundle, "timm")
    if bundle.contract.chip_standard:
        _refuse(
            "timm",
            "timm has one mean and deviation for all chips, but the bundle normalizes"
            " each chip by its own",
        )
    classifier = cast(Classifier, build_network(bundle).runs[0])
    if classifier.adapted.unmerged:
        _refuse(
            "timm",
            f"modules of {bundle.recipe.peft.title} cannot be merged, and timm has no"
            " such modules",
        )
    if not isinstance(classifier.head, nn.Linear):
        _refuse(
            "timm",
            "the bundle has a cosine head or heads on earlier blocks, but timm only has"
            " one linear head on the final features",
        )
    model, options = build_in_timm(
        classifier.adapted.vit, bundle, "timm", classifier.head
    )
    _save_for_timm(model, folder, bundle, metadata)
    metadata["timm"] = {"create_model": options.pop("model_name"), **options}
    _write_readme(bundle, folder, library="timm")
    loaded: Any = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()

    def predict(x: Tensor) -> tuple[Tensor, Tensor]:
        features = loaded.forward_features(x)
        return loaded(x), loaded.forward_head(features, pre_logits=True)

    return compute_outputs(predict, images)


def write_peft_weights(
    bundle: Bundle, folder: Path, metadata: JsonObject, images: Tensor
) -> ClassifierOutputs:
    """Write the adapter in PEFT's format and the head; compute outputs with both.

    The configuration names the base: the repository of timm on the Hub, or a folder
    with the frozen network.

    Args:
        bundle: a bundle of one run, trained with LoRA or a tuner of peft on a network
            that timm can build.
        folder: an existing folder.
        metadata: content of export.json. The entry "peft" is added: the base, and how
            the network must be changed before loading, if it must.
        images: network inputs (N, P, S, S).

    Returns:
        Logits (N, C) and features (N, D) of timm's network with the adapter, loaded
        from these files.

    Raises:
        RequestError: the method is another one, timm cannot build the network, a head
            reads earlier blocks, or the bundle has several runs.
    """
    _check_one_run(bundle, "peft")
    classifier = load_unmerged_classifier(bundle, "cpu")
    recipe = bundle.recipe
    is_cosine = recipe.head.kind == "cosine"
    if isinstance(classifier.head, HeadAverage):
        _refuse(
            "peft",
            "the bundle has heads on earlier blocks, whose outputs neither PEFT nor"
            " timm returns",
        )
    encoder = load_encoder(recipe, bundle.contract.bands, bundle.backbone_sha256)
    base, options = build_in_timm(encoder.vit, bundle, "peft")
    arguments = {"num_classes": 0 if is_cosine else len(bundle.classes)}
    base_name = find_encoder_origin(recipe.backbone).repository or ""
    base_address = base_name.removeprefix("timm/")
    base_sha256 = bundle.backbone_sha256
    data = recipe.data
    is_published = base_name != base_address and recipe.backbone.blocks is None
    if is_published and len(bundle.contract.planes) == 3 and data.remap == "replicate":
        arguments |= {key: options[key] for key in _HUB_OPTIONS if key in options}
    else:
        base_name = BASE_DIR
        base_address = "local-dir:FOLDER/base"
        (folder / BASE_DIR).mkdir()
        _save_for_timm(base, folder / BASE_DIR, bundle, metadata)
        base_sha256 = sha256(folder / BASE_DIR / _WEIGHTS_FILE)
    method = classifier.adapted.method
    write = getattr(method, "export_peft", export_peft)
    read = getattr(method, "import_peft", import_peft)
    try:
        write(classifier.adapted, folder, base_name)
    except ValueError as error:
        raise RequestError(str(error), "--format peft", _HINT) from error
    metadata["peft"] = {"base": base_name}
    if bypasses_peft(classifier.adapted):
        metadata["peft"]["before_loading"] = _SEPARATE_BIAS
    write_bytes(
        folder / HEAD_FILE, save(classifier.head.state_dict(), {"format": "pt"})
    )
    _write_readme(
        bundle,
        folder,
        library="peft",
        base=base_name,
        base_address=base_address,
        base_sha256=base_sha256,
        arguments=arguments,
        has_separate_bias="before_loading" in metadata["peft"],
        head_file=HEAD_FILE,
    )
    loaded = Classifier(read(base, folder), classifier.head, classifier.pool).eval()
    loaded.head.load_state_dict(load_file(folder / HEAD_FILE))
    return compute_outputs(loaded.predict, images)


def build_in_timm(
    vit: nn.Module, bundle: Bundle, format_name: str, head: nn.Linear | None = None
) -> tuple[nn.Module, JsonObject]:
    """Build the network of a bundle with timm alone.

    It needs only the names and arguments of `timm.create_model`.

    Args:
        vit: the network, merged or frozen.
        bundle: its contract and recipe.
        format_name: name of the format, for messages.
        head: the head; None builds the network without one.

    Returns:
        timm's network with the same weights, in evaluation mode, and the arguments of
        `timm.create_model`.

    Raises:
        RequestError: timm cannot build this network.
    """
    backbone = bundle.recipe.backbone
    reason = ""
    projection = getattr(getattr(vit, "patch_embed", None), "proj", None)
    if isinstance(projection, nn.Sequential):
        reason = "its patch embedding is a stem of convolutions"
    elif has_padding(vit):
        reason = "it pads its windows at this input size"
    if reason:
        _refuse(format_name, f"timm cannot build {backbone.name}: {reason}")
    options = timm_options(
        cast(VisionTransformer, vit), 0 if head is None else len(bundle.classes), bundle
    )
    state = {
        key: value.detach().contiguous() for key, value in vit.state_dict().items()
    }
    try:
        model: Any = timm.create_model(**options)
        if head is not None:
            state |= {
                f"{model.pretrained_cfg['classifier']}.{key}": x.detach()
                for key, x in head.state_dict().items()
            }
        model.load_state_dict(state)
    except (RuntimeError, TypeError, AssertionError) as error:
        reason = " ".join(repr(error).split())[:200]
        _refuse(format_name, f"timm cannot build {backbone.name}: {reason}")
    return model.eval().requires_grad_(False), options


def timm_options(vit: VisionTransformer, classes: int, bundle: Bundle) -> JsonObject:
    """Return the arguments with which timm builds this network, if it can.

    Args:
        vit: the network.
        classes: number of classes; 0 builds no head.
        bundle: its contract and recipe.

    Returns:
        Arguments of `timm.create_model`.
    """
    contract = bundle.contract
    pool = bundle.recipe.backbone.pool
    architecture = getattr(vit, "pretrained_cfg", {}).get("architecture")
    options = {
        "model_name": architecture or bundle.recipe.backbone.name,
        "num_classes": classes,
        "img_size": contract.size,
        "in_chans": len(contract.planes),
    }
    # its other arguments are those with which timm built it
    if not hasattr(vit, "blocks"):
        recorded = dict(getattr(vit, "_model_args", {}))
        recorded.pop("weight_init", None)
        if "img_size" not in recorded:
            del options["img_size"]
        return recorded | options
    block: Any = vit.blocks[0]
    options |= {"depth": len(vit.blocks), "global_pool": pool}
    # Eva, CaiT, BEiT: all other arguments follow from the architecture
    if not hasattr(block, "ls1"):
        if hasattr(vit, "rope"):
            options["use_fc_norm"] = not isinstance(vit.fc_norm, nn.Identity)
        return options
    mlp_ratio = 4.0
    if hasattr(block.mlp, "fc1"):
        mlp_ratio = block.mlp.fc1.out_features / vit.embed_dim
    qkv = getattr(block.attn, "qkv", None)
    return options | {
        "model_name": _TIMM_NAME,
        "patch_size": cast(Any, vit.patch_embed).patch_size[0],
        "embed_dim": vit.embed_dim,
        "num_heads": block.attn.num_heads,
        "mlp_ratio": mlp_ratio,
        "qkv_bias": getattr(qkv, "bias", None) is not None,
        "init_values": None if isinstance(block.ls1, nn.Identity) else 1.0,
        "class_token": vit.cls_token is not None,
        "reg_tokens": vit.num_reg_tokens,
        "no_embed_class": vit.no_embed_class,
        "pre_norm": not isinstance(vit.norm_pre, nn.Identity),
        "fc_norm": not isinstance(vit.fc_norm, nn.Identity),
    }


def _save_for_timm(
    model: Any, folder: Path, bundle: Bundle, metadata: JsonObject
) -> None:
    """Write model.safetensors and config.json.

    `local-dir:` and `hf-hub:` names build the network from them.
    """
    contract = bundle.contract
    source = model.pretrained_cfg
    kept = ("architecture", "classifier", "first_conv", "fixed_input_size")
    model.pretrained_cfg = {key: source[key] for key in kept} | {
        "input_size": (len(contract.planes), contract.size, contract.size),
        "mean": contract.mean,
        "std": contract.std,
        "crop_pct": 1.0,
        "interpolation": "bilinear",
    }
    labels = {"label_names": list(bundle.classes)} if model.num_classes else {}
    notes = {"format": "pt", METADATA_KEY: json.dumps(metadata)}
    write_bytes(folder / _WEIGHTS_FILE, save(model.state_dict(), notes))
    save_config_for_hf(model, str(folder / _CONFIG_FILE), labels)
    config = json.loads((folder / _CONFIG_FILE).read_text("utf-8"))
    # transformers passes it a second time
    config["model_args"].pop("num_classes", None)
    write_json(folder / _CONFIG_FILE, config)


def _write_readme(bundle: Bundle, folder: Path, **values: Any) -> None:
    """Fill the template readme.md.jinja of this package."""
    text = render_template(
        __package__,
        "readme.md.jinja",
        bundle=bundle,
        license=(spdx_license(bundle.licenses) or UNKNOWN).lower(),
        **describe(bundle),
        **values,
    )
    write_text(folder / _README_FILE, text)


def _check_one_run(bundle: Bundle, format_name: str) -> None:
    count = len(bundle.members)
    if count > 1:
        message = f"the bundle averages {count} runs, but {format_name} stores one"
        _refuse(format_name, message)


def _refuse(format_name: str, message: str) -> NoReturn:
    raise RequestError(message, f"--format {format_name}", _HINT)
