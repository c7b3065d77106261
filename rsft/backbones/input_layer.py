"""Adapt the first layer of an encoder to the input planes of a recipe."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from timm.models import adapt_input_conv
from torch import Tensor, nn

from rsft.backbones.loading import Backbone
from rsft.data.imagery.bands import check_planes
from rsft.errors import RequestError
from rsft.types import Names

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
    if backbone.is_random:
        return _resize_random_inputs(backbone, planes or chip_bands, chip_bands)
    takes_all = planes is not None and len(planes) > 0
    if not planes:
        takes_all = set(backbone.bands) <= set(chip_bands)
        planes = backbone.bands if takes_all else chip_bands
    planes = tuple(planes)
    if remap != "expand":
        if len(planes) == 1 and backbone.unit == "uint8":  # a gray image
            planes *= inputs
        elif len(planes) != inputs or not takes_all:
            raise _wrong_planes(backbone, planes)
    check_planes(planes, chip_bands)
    if len(planes) != inputs:
        # repeat the filters cyclically; timm keeps their sum over the inputs
        weight = _first_layer(backbone).weight.detach()
        _replace_first_layer(backbone, adapt_input_conv(len(planes), weight))
        return _with_inputs(backbone, planes, range(len(planes)))
    if remap == "fold":
        return _fold_equal_planes(backbone, planes)
    return replace(backbone, bands=planes)


def _wrong_planes(backbone: Backbone, planes: Names) -> RequestError:
    inputs = len(backbone.bands)
    example = ", ".join((planes * inputs)[:inputs])
    return RequestError(
        f"{backbone.name} takes {inputs} inputs ({', '.join(backbone.bands)}), not"
        f" {', '.join(planes)}",
        _BANDS_KEY,
        f"assign one plane to each input, for example data.bands='[{example}]', or use"
        " data.remap=expand",
    )


def _with_inputs(
    backbone: Backbone, planes: Sequence[str], inputs: Iterable[int]
) -> Backbone:
    """Return the encoder with other planes.

    Args:
        backbone: the encoder.
        planes: the new planes.
        inputs: the input of the encoder whose statistics each plane has; numbers behind
            the last input begin again.
    """
    used = [index % len(backbone.bands) for index in inputs]
    return replace(
        backbone,
        bands=tuple(planes),
        mean=tuple(backbone.mean[index] for index in used),
        std=tuple(backbone.std[index] for index in used),
    )


def _resize_random_inputs(
    backbone: Backbone, planes: Sequence[str], chip_bands: Sequence[str]
) -> Backbone:
    """Give random filters one input per plane.

    The variance of the output does not depend on their number.
    """
    check_planes(planes, chip_bands)
    inputs = len(backbone.bands)
    used = [index % inputs for index in range(len(planes))]
    weight = _first_layer(backbone).weight.detach()[:, used]
    _replace_first_layer(backbone, weight * (inputs / len(planes)) ** 0.5)
    return _with_inputs(backbone, planes, used)


def _fold_equal_planes(backbone: Backbone, planes: Names) -> Backbone:
    """Sum the filters of inputs that receive the same plane.

    An input c is x_c = (v - m_c) / s_c. If p is the first input with the same plane,
    then x_c = (s_p / s_c) x_p + (m_p - m_c) / s_c. The factor goes into the filters,
    the constant into the bias.
    """
    distinct = list(dict.fromkeys(planes))
    first_inputs = [planes.index(plane) for plane in distinct]
    columns = [distinct.index(plane) for plane in planes]
    mean = torch.tensor(backbone.mean, dtype=torch.float64)
    std = torch.tensor(backbone.std, dtype=torch.float64)
    firsts = [first_inputs[column] for column in columns]
    shift = (mean[firsts] - mean) / std
    is_shifted = bool(shift.any())
    conv = _first_layer(backbone)
    if conv.padding != (0, 0) and is_shifted:  # the bias would also shift the padding
        raise RequestError(
            f"the first layer of {backbone.name} pads the image, and its inputs differ"
            " in mean",
            "data.remap",
            "replicate",
        )
    old = conv.weight.detach().double()
    weight = old.new_zeros(old.shape[0], len(distinct), *old.shape[2:])
    for index, column in enumerate(columns):
        weight[:, column] += old[:, index] * (std[firsts[index]] / std[index])
    bias = (old.sum((2, 3)) * shift).sum(1).float() if is_shifted else None
    _replace_first_layer(backbone, weight.float(), bias)
    return _with_inputs(backbone, distinct, first_inputs)


_FIRST_LAYERS = (
    "patch_embed.proj",
    "patch_embed.proj.0",
    "conv1",
    "conv1.0",
    "stem.0",
    "layer1.0.conv1",
)


def first_layer_path(network: nn.Module) -> str | None:
    """Return the dotted name of the convolution that reads the image.

    Returns:
        The name; None if the network has another first layer.
    """
    layers = dict(network.named_modules())
    for path in _FIRST_LAYERS:
        if isinstance(layers.get(path), nn.Conv2d):
            return path
    return None


def resize_meta_inputs(backbone: Backbone, planes: int) -> None:
    """Give an encoder on the meta device one input per plane."""
    weight = _first_layer(backbone).weight
    shape = (len(weight), planes, *weight.shape[2:])
    _replace_first_layer(backbone, weight.new_empty(shape))


def _first_layer(backbone: Backbone) -> nn.Conv2d:
    path = first_layer_path(backbone.vit)
    if not path:
        raise RequestError(
            f"{backbone.name} only takes its own bands: {', '.join(backbone.bands)}",
            _BANDS_KEY,
            "name these bands in this order",
        )
    return cast(nn.Conv2d, backbone.vit.get_submodule(path))


def _replace_first_layer(
    backbone: Backbone, weight: Tensor, extra_bias: Tensor | None = None
) -> None:
    """Replace the filters of the first layer, and add to its bias."""
    old = _first_layer(backbone)
    # torch types them as any tuple
    kernel, stride, padding = cast(Any, (old.kernel_size, old.stride, old.padding))
    bias = None if old.bias is None else old.bias.detach().clone()
    if extra_bias is not None:
        bias = extra_bias if bias is None else bias + extra_bias
    outputs, inputs = weight.shape[:2]
    has_bias = bias is not None
    new = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=has_bias)
    new.weight.data = weight
    if bias is not None:
        new.bias = nn.Parameter(bias)
    new.requires_grad_(False)
    backbone.vit.set_submodule(cast(str, first_layer_path(backbone.vit)), new)
