"""The first layer of an encoder, made to take the planes that a recipe asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from timm.models import adapt_input_conv
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from rsft.backbones.registry import Backbone
from rsft.data.imagery.bands import check_planes
from rsft.errors import RequestError

_KEY = "data.bands"


def fit_inputs(backbone: Backbone, chip_bands: Sequence[str], wanted: Sequence[str] | None, remap: str) -> Backbone:
    """The encoder for planes `wanted` (expressions over `chip_bands`), or for what the chips have where None.

    Args:
        remap: "replicate" leaves the encoder as it is, and repeats a single plane; "fold" sums the filters of inputs
            that would be given the same plane, which gives the same features for less work; "expand" spreads the
            filters over any number of planes, as timm does.

    Returns:
        the encoder, changed in place, with `bands`, `mean` and `std` one a plane.

    Raises:
        RequestError: planes that the chips cannot give or the encoder cannot take.
    """
    planes = _planes(backbone, tuple(chip_bands), tuple(wanted) if wanted else None, remap)
    check_planes(planes, chip_bands)
    if len(planes) != len(backbone.bands):
        return _expand(backbone, planes)
    return _fold(backbone, planes) if remap == "fold" else replace(backbone, bands=planes)


def _planes(backbone: Backbone, bands: tuple[str, ...], wanted: tuple[str, ...] | None, remap: str) -> tuple[str, ...]:
    """One plane an input of the encoder; any number where `remap` is "expand"."""
    inputs = len(backbone.bands)
    planes = wanted or (backbone.bands if set(backbone.bands) <= set(bands) else bands)  # by name, in its own order
    if remap == "expand":
        return planes
    if len(planes) == 1 and backbone.unit == "uint8":  # a grey picture
        return planes * inputs
    if len(planes) != inputs or (wanted is None and planes != backbone.bands):
        example = ", ".join((planes * inputs)[:inputs])
        raise RequestError(
            f"{backbone.name} takes {inputs} inputs ({', '.join(backbone.bands)}), not {', '.join(planes)}",
            _KEY,
            f"say which plane is which input, for instance data.bands='[{example}]', or use data.remap=expand",
        )
    return planes


def _fold(backbone: Backbone, planes: tuple[str, ...]) -> Backbone:
    """Sum the filters of equal planes. With x_c = (v - m_c) / s_c, input c is (s_p / s_c) x_p + (m_p - m_c) / s_c of
    the first input p with the same plane: the factor goes into the filters, the rest into the bias.
    """
    distinct = list(dict.fromkeys(planes))
    firsts = [planes.index(plane) for plane in distinct]
    mean, std = torch.tensor(backbone.mean, dtype=torch.float64), torch.tensor(backbone.std, dtype=torch.float64)
    conv = _first_layer(backbone)
    shift = torch.stack([(mean[firsts[distinct.index(p)]] - mean[c]) / std[c] for c, p in enumerate(planes)])
    if conv.padding != (0, 0) and bool(shift.any()):  # zeros around the image are not shifted
        raise RequestError(
            f"the first layer of {backbone.name} pads the image, and its inputs differ in mean",
            "data.remap",
            "replicate",
        )
    old = conv.weight.detach().double()
    weight = torch.zeros(old.shape[0], len(distinct), *old.shape[2:], dtype=torch.float64)
    for c, plane in enumerate(planes):
        place = distinct.index(plane)
        weight[:, place] += old[:, c] * (std[firsts[place]] / std[c])
    bias = (old.sum((2, 3)) * shift).sum(1)
    _replace_first_layer(backbone, conv, weight.float(), bias.float() if bool(shift.any()) else None)
    return replace(
        backbone,
        bands=tuple(distinct),
        mean=tuple(backbone.mean[first] for first in firsts),
        std=tuple(backbone.std[first] for first in firsts),
    )


def _expand(backbone: Backbone, planes: tuple[str, ...]) -> Backbone:
    """Repeat the filters in turn and scale them, so that the sum over the inputs stays (timm's `adapt_input_conv`)."""
    conv = _first_layer(backbone)
    weight = adapt_input_conv(len(planes), conv.weight.detach())
    _replace_first_layer(backbone, conv, weight, None)
    turn = [index % len(backbone.mean) for index in range(len(planes))]
    return replace(
        backbone,
        bands=planes,
        mean=tuple(backbone.mean[index] for index in turn),
        std=tuple(backbone.std[index] for index in turn),
    )


def _first_layer(backbone: Backbone) -> nn.Conv2d:
    projection = getattr(backbone.vit.patch_embed, "proj", None)
    conv = projection[0] if isinstance(projection, nn.Sequential) else projection
    if not isinstance(conv, nn.Conv2d):
        raise RequestError(
            f"{backbone.name} takes its own bands alone: {', '.join(backbone.bands)}", _KEY, "name these, in this order"
        )
    return conv


def _replace_first_layer(backbone: Backbone, old: nn.Conv2d, weight: Tensor, extra_bias: Tensor | None) -> None:
    new = nn.Conv2d(
        weight.shape[1],
        weight.shape[0],
        old.kernel_size,  # type: ignore[arg-type]  # torch types them as any tuple
        old.stride,  # type: ignore[arg-type]
        old.padding,  # type: ignore[arg-type]
        bias=old.bias is not None or extra_bias is not None,
    )
    new.weight.data = weight
    if new.bias is not None:
        bias = torch.zeros(weight.shape[0]) if old.bias is None else old.bias.detach()
        new.bias.data = bias + extra_bias if extra_bias is not None else bias.clone()
    new.requires_grad_(False)
    vit: VisionTransformer = backbone.vit
    if isinstance(vit.patch_embed.proj, nn.Sequential):
        vit.patch_embed.proj[0] = new
    else:
        vit.patch_embed.proj = new
