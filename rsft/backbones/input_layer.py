"""Adapt the first layer of an encoder to the input planes of a recipe."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from timm.models import adapt_input_conv
from torch import Tensor, nn

from rsft.backbones.loading import Backbone
from rsft.data.imagery.bands import check_planes
from rsft.errors import RequestError

_BANDS_KEY = "data.bands"


def fit_inputs(
    backbone: Backbone,
    chip_bands: Sequence[str],
    planes: Sequence[str] | None,
    remap: str,
) -> Backbone:
    """Adapt an encoder to the planes of a data set.

    Args:
        backbone: the encoder; it is changed in place.
        chip_bands: names of the chips' bands.
        planes: expressions over `chip_bands`, one per input of the network. None takes
            the encoder's bands if the chips have all of them, else the chips' bands.
        remap: "replicate" keeps the encoder and repeats a single plane. "fold" sums the
            filters of inputs that receive the same plane, which gives the same features
            with less work. "expand" spreads the filters over any number of planes, as
            timm does.

    Returns:
        The encoder; `bands`, `mean` and `std` have one entry per plane.

    Raises:
        RequestError: the chips cannot provide a plane, or the encoder cannot take the
            planes.
    """
    inputs = len(backbone.bands)
    requested = tuple(planes or ())
    if backbone.is_random:
        return _resize_random_inputs(
            backbone, requested or tuple(chip_bands), chip_bands
        )
    planes = requested or (
        backbone.bands if set(backbone.bands) <= set(chip_bands) else tuple(chip_bands)
    )
    if (
        remap != "expand" and len(planes) == 1 and backbone.unit == "uint8"
    ):  # a gray image
        planes *= inputs
    elif remap != "expand" and (
        len(planes) != inputs or not (requested or planes == backbone.bands)
    ):
        example = ", ".join((planes * inputs)[:inputs])
        raise RequestError(
            (
                f"{backbone.name} takes {inputs} inputs ({', '.join(backbone.bands)}), not"
                f" {', '.join(planes)}"
            ),
            _BANDS_KEY,
            (
                f"assign one plane to each input, for example data.bands='[{example}]', or"
                " use data.remap=expand"
            ),
        )
    check_planes(planes, chip_bands)
    if (
        len(planes) != inputs
    ):  # repeat the filters cyclically; timm keeps their sum over the inputs
        conv = _first_layer(backbone)
        _replace_first_layer(
            backbone, conv, adapt_input_conv(len(planes), conv.weight.detach()), None
        )
        repeated = [index % inputs for index in range(len(planes))]
        mean = tuple(backbone.mean[index] for index in repeated)
        std = tuple(backbone.std[index] for index in repeated)
        return replace(backbone, bands=planes, mean=mean, std=std)
    if remap == "fold":
        return _fold_equal_planes(backbone, planes)
    return replace(backbone, bands=planes)


def _resize_random_inputs(
    backbone: Backbone, planes: tuple[str, ...], chip_bands: Sequence[str]
) -> Backbone:
    """Give random filters one input per plane, with a variance of the output that does not depend on their number."""
    check_planes(planes, chip_bands)
    inputs = len(backbone.bands)
    conv = _first_layer(backbone)
    used = [index % inputs for index in range(len(planes))]
    weight = conv.weight.detach()[:, used] * (inputs / len(planes)) ** 0.5
    _replace_first_layer(backbone, conv, weight, None)
    mean = tuple(backbone.mean[index] for index in used)
    std = tuple(backbone.std[index] for index in used)
    return replace(backbone, bands=planes, mean=mean, std=std)


def _fold_equal_planes(backbone: Backbone, planes: tuple[str, ...]) -> Backbone:
    """Sum the filters of inputs that receive the same plane.

    An input c is x_c = (v - m_c) / s_c. If p is the first input with the same plane,
    then x_c = (s_p / s_c) x_p + (m_p - m_c) / s_c. The factor goes into the filters,
    the constant into the bias.
    """
    distinct = list(dict.fromkeys(planes))
    first_inputs = [planes.index(plane) for plane in distinct]
    mean = torch.tensor(backbone.mean, dtype=torch.float64)
    std = torch.tensor(backbone.std, dtype=torch.float64)
    conv = _first_layer(backbone)
    shift = torch.stack(
        [
            (mean[first_inputs[distinct.index(p)]] - mean[c]) / std[c]
            for c, p in enumerate(planes)
        ]
    )
    if conv.padding != (0, 0) and bool(
        shift.any()
    ):  # the bias would also shift the padding
        raise RequestError(
            (
                f"the first layer of {backbone.name} pads the image, and its inputs differ"
                " in mean"
            ),
            "data.remap",
            "replicate",
        )
    old_weight = conv.weight.detach().double()
    weight = torch.zeros(
        old_weight.shape[0], len(distinct), *old_weight.shape[2:], dtype=torch.float64
    )
    for c, plane in enumerate(planes):
        column = distinct.index(plane)
        weight[:, column] += old_weight[:, c] * (std[first_inputs[column]] / std[c])
    bias = (old_weight.sum((2, 3)) * shift).sum(1)
    _replace_first_layer(
        backbone, conv, weight.float(), bias.float() if bool(shift.any()) else None
    )
    new_mean = tuple(backbone.mean[first] for first in first_inputs)
    new_std = tuple(backbone.std[first] for first in first_inputs)
    return replace(backbone, bands=tuple(distinct), mean=new_mean, std=new_std)


def first_layer_path(network: nn.Module) -> str | None:
    """Return the dotted name of the convolution that reads the image; None if the network has another first layer."""
    layers = dict(network.named_modules())
    paths = (
        "patch_embed.proj",
        "patch_embed.proj.0",
        "conv1",
        "conv1.0",
        "stem.0",
        "layer1.0.conv1",
    )
    return next(
        (path for path in paths if isinstance(layers.get(path), nn.Conv2d)), None
    )


def _first_layer(backbone: Backbone) -> nn.Conv2d:
    path = first_layer_path(backbone.vit)
    if path is None:
        raise RequestError(
            f"{backbone.name} only takes its own bands: {', '.join(backbone.bands)}",
            _BANDS_KEY,
            "name these bands in this order",
        )
    return cast(nn.Conv2d, backbone.vit.get_submodule(path))


def _replace_first_layer(
    backbone: Backbone, old: nn.Conv2d, weight: Tensor, extra_bias: Tensor | None
) -> None:
    kernel, stride, padding = cast(
        Any, (old.kernel_size, old.stride, old.padding)
    )  # torch types them as any tuple
    has_bias = old.bias is not None or extra_bias is not None
    new = nn.Conv2d(
        weight.shape[1], weight.shape[0], kernel, stride, padding, bias=has_bias
    )
    new.weight.data = weight
    if new.bias is not None:
        if old.bias is None:
            bias = torch.zeros(weight.shape[0])
        else:
            bias = old.bias.detach()
        if extra_bias is not None:
            new.bias.data = bias + extra_bias
        else:
            new.bias.data = bias.clone()
    new.requires_grad_(False)
    backbone.vit.set_submodule(cast(str, first_layer_path(backbone.vit)), new)
