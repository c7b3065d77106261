"""Attach a PEFT method to a network, or load one from a file."""

import json
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from torch import nn

from rsft.peft.kernels import requested_kernels
from rsft.peft.kernels.matmul import choose_matmul
from rsft.peft.methods.registry import Method, method_from_dict
from rsft.peft.model.adapted_model import AdaptedModel
from rsft.peft.model.stage_runner import StageRunner
from rsft.peft.model.stages import ViTStages
from rsft.peft.model.state_files import read_tensors
from rsft.peft.modulator import Modulator
from rsft.peft.modules.adapter_module import (
    AdapterModule,
    ScaleFn,
    Undo,
    use_fused_qkv_layers,
)
from rsft.peft.modules.scaled import LowRankLinear
from rsft.peft.modules.unscaled import SelectiveTuning
from rsft.peft.sites import Site, in_forward_order
from rsft.types import Names

_METHOD_ATTRIBUTE = (  # attribute of the network with the name of the attached method
    "adapted_by"
)


def attach(
    vit: nn.Module,
    method: Method,
    *,
    learn_scales: bool = False,
    init_scale: float = 1.0,
    kernels: bool | None = None,
    train_also: Sequence[str] = (),
) -> AdaptedModel:
    """Freeze a vision transformer, set it to evaluation mode and attach a PEFT method.

    The outputs do not change until something is learned, except with prompts. Compile
    the network after this call, not before.

    Args:
        vit: a timm vision transformer.
        method: such as LoRA(rank=4, positions="qkvo12", blocks="all").
        learn_scales: learn one scale for every site (MetaPEFT), or a factor for every
            output feature if the method's `modulator` is "feature", instead of using
            the method's constant scale.
        init_scale: initial value of every learned scale.
        kernels: compute low-rank additions and their blocks by kernels with
            hand-written gradients (True) or by plain autograd (False), with equal
            results. None takes the environment variable RSFT_KERNELS (0 or 1), and
            without it the kernels on a CPU and plain autograd elsewhere.
        train_also: names of modules of the network that are trained beside the method,
            such as ("head",). They belong to `theta` and to the saved state. A warning
            names a classifier that stays frozen.

    Returns:
        The network with the modules of the method.

    Raises:
        ValueError: the network lacks a site or a module, a setting is invalid,
            `learn_scales` is set for a method without sites, two methods share a site
            or a parameter, the network is adapted already, or RSFT_KERNELS is neither 0
            nor 1.
        RequestError: RSFT_MATMUL names no library of this machine.

    Example:
        >>> import timm
        >>> from rsft.peft import LoRA, attach
        >>> vit = timm.create_model("vit_tiny_patch16_224", img_size=32)
        >>> method = LoRA(rank=2, positions="qv", blocks="last:1")
        >>> adapted = attach(vit, method, learn_scales=True)
        >>> adapted.sites
        (Site(block=11, position='q'), Site(block=11, position='v'))
        >>> sum(parameter.numel() for parameter in adapted.theta)
        1536
    """
    if hasattr(vit, _METHOD_ATTRIBUTE):
        raise ValueError(
            f"the network is adapted already, by {getattr(vit, _METHOD_ATTRIBUTE)}:"
            " detach or merge first"
        )
    widths = getattr(vit, "embed_dim", None)
    if isinstance(widths, list | tuple):  # CrossViT
        raise ValueError(
            f"{type(vit).__name__} has {len(widths)} sequences of tokens, of widths"
            f" {list(widths)}, not one"
        )
    kernels = requested_kernels(kernels)
    choose_matmul()
    vit.requires_grad_(False).eval()
    runner = StageRunner(ViTStages(vit), kernels)
    modules = list(method.build_modules(vit))
    if train_also:
        modules.append(
            SelectiveTuning(
                vit, "train_also", "all", lambda *_: True, modules=train_also
            )
        )
    device = next(vit.parameters()).device
    modulator = None
    if learn_scales:
        modulator = _build_modulator(modules, method, init_scale).to(device)
    _require_disjoint(modules)
    setattr(vit, _METHOD_ATTRIBUTE, method.name)
    undo: list[Undo] = [
        partial(delattr, vit, _METHOD_ATTRIBUTE),
        *use_fused_qkv_layers(vit),
    ]
    adapted = AdaptedModel(runner, method, modules, modulator, undo, train_also)
    try:
        for module in modules:
            module.install(
                {site: _scale_fn(module, site, modulator) for site in module.sites},
                kernels,
            )
        _require_frozen(vit)
    except ValueError:
        adapted.detach()
        raise
    names = _frozen_classifiers(vit)
    if names:
        message = (
            f"the classifier {names[0]} of the network stays frozen: to train it,"
            f" attach with train_also={names}"
        )
        warnings.warn(message, stacklevel=2)
    return adapted


def load(vit: nn.Module, path: Path | str) -> AdaptedModel:
    """Attach the method and state of a file that `AdaptedModel.save` wrote.

    Args:
        vit: a network like the one on which the state was learned.
        path: the path of the file.

    Returns:
        The network with the loaded modules.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is damaged, was not written by `AdaptedModel.save`, or does
            not fit the network.

    Example:
        >>> import tempfile, timm
        >>> from rsft.peft import LoRA, attach, load
        >>> vit = timm.create_model("vit_tiny_patch16_224", img_size=32)
        >>> adapted = attach(vit, LoRA(rank=2))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     adapted.save(f"{folder}/adapter.safetensors")
        ...     vit = timm.create_model("vit_tiny_patch16_224", img_size=32)
        ...     load(vit, f"{folder}/adapter.safetensors").method.name
        'lora'
    """
    _, metadata = read_tensors(Path(path))
    if "rsft.peft" not in metadata:
        raise ValueError(
            f"{path} names no method: it was not written by AdaptedModel.save"
        )
    description = json.loads(metadata["rsft.peft"])
    method = method_from_dict(description["method"])
    adapted = attach(
        vit,
        method,
        learn_scales=description["modulated"],
        train_also=description.get("train_also", ()),
    )
    try:
        adapted.load(path)
    except ValueError:
        adapted.detach()
        raise
    return adapted


def _build_modulator(
    modules: Sequence[AdapterModule], method: Method, init_scale: float
) -> Modulator:
    widths: dict[Site, int] = {}
    for module in modules:
        widths |= module.scale_widths
        for site, scale in module.fixed_scales.items():
            if scale is None and widths[site] == 1:
                raise ValueError(
                    "scale 'learnable' and learn_scales=True learn the same scale:"
                    " choose one of them"
                )
            if scale not in (None, 1.0):
                warnings.warn(
                    "the fixed scale of the method has no effect: the learned scales"
                    " take its place",
                    stacklevel=3,
                )
    if not widths:
        raise ValueError(f"{method.name} has no sites, so it has no scales to learn")
    sites = in_forward_order(widths)
    return Modulator(sites, init_scale, [widths[site] for site in sites])


def _require_disjoint(modules: Sequence[AdapterModule]) -> None:
    used: set[object] = set()
    for module in modules:
        names = {*module.sites, *module.named_tensors()}
        if used & names:
            raise ValueError(
                f"two methods adapt {min(map(str, used & names))}: choose other"
                " positions or blocks"
            )
        used |= names


def _require_frozen(vit: nn.Module) -> None:
    for name, module in vit.named_modules():
        if isinstance(module, LowRankLinear) and any(
            parameter.requires_grad for parameter in module.parameters(recurse=False)
        ):
            raise ValueError(
                f"{name} is adapted, and its weight or bias is trained: choose other"
                " blocks for one of the methods"
            )


def _frozen_classifiers(vit: nn.Module) -> Names:
    """Return the classifiers of a network that have parameters, none trained."""
    # of timm; a network may have two
    get_classifier = getattr(vit, "get_classifier", None)
    if get_classifier:
        heads = get_classifier()
    else:
        heads = [getattr(vit, name, None) for name in ("fc", "head", "classifier")]
    if isinstance(heads, nn.Module):
        heads = [heads]
    return tuple(
        name
        for name, module in vit.named_modules()
        if module in heads and {p.requires_grad for p in module.parameters()} == {False}
    )


def _scale_fn(
    module: AdapterModule, site: Site, modulator: Modulator | None
) -> ScaleFn:
    if modulator:
        return partial(modulator.scale, modulator.sites.index(site))
    fixed_scale = module.fixed_scales[site]
    return partial(float, 1.0 if fixed_scale is None else fixed_scale)
