"""The base class of PEFT modules, and the parts of a network that they adapt."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rsft.peft.sites import LAYER_POSITIONS, POSITIONS, Site
from rsft.types import Names

Tensors = tuple[Tensor, ...]
"""Inputs of a module, or outputs of blocks."""

NamedTensors = dict[str, Tensor]
"""Tensors by name."""

ScaleFn = Callable[[], Tensor | float]
"""Returns the current scale m_p of a site, or a factor for every output feature
(D,)."""

Undo = Callable[[], object]
"""Reverts one change to the network."""


class AdapterModule(nn.Module):
    """Base class: trained parameters that one PEFT method adds to a network.

    Names of its submodules and parameters have "/" instead of ".", which torch does not
    allow.

    Attributes:
        fixed_scales: the constant scale of every site; empty for a method without
            scales, None at a site where the module learns its own scale.
        scale_fns: site -> function that returns the current scale; empty before
            `attach`.
        scale_widths: number of factors that a modulator learns at every site: one, or
            one for every output feature.
        kernels: whether low-rank layers use hand-written gradients; None decides by the
            device of their input.
        merge_last: whether `AdaptedModel.merge` merges the module after the others,
            because it acts on their outputs.
    """

    merge_last = False

    def __init__(
        self,
        fixed_scales: Mapping[Site, float | None] | None = None,
        feature_counts: Mapping[Site, int] | None = None,
    ) -> None:
        super().__init__()
        self.fixed_scales = dict(fixed_scales or {})
        self.scale_widths = dict(feature_counts or dict.fromkeys(self.fixed_scales, 1))
        self.scale_fns: dict[Site, ScaleFn] = {}
        self.kernels: bool | None = None
        self._undo: dict[str, tuple[Undo, ...]] = {}

    @property
    def sites(self) -> tuple[Site, ...]:
        """The sites that a scale acts on."""
        return tuple(self.fixed_scales)

    @property
    def placements(self) -> Names:
        """Names of the sites, modules or parameters at which the module is injected."""
        return tuple(self._undo)

    def install(
        self, scale_fns: Mapping[Site, ScaleFn], kernels: bool | None = None
    ) -> None:
        """Inject the module into the network; the attributes explain the arguments."""
        self.scale_fns = dict(scale_fns)
        self.kernels = kernels
        self.inject()

    def output_parameters(self, site: Site) -> list[nn.Parameter]:
        """Return the parameters in which the module's output is linear, such as B.

        The scale multiplies the output, so scale and these parameters can trade a
        factor without a change of the function. `AdaptedModel.in_function_space` uses
        that.

        Returns:
            The parameters; none for a module without scales.
        """
        return []

    def inject(self) -> None:
        """Change the network wherever the module acts.

        `add_undo` registers how to revert it.
        """
        raise NotImplementedError

    def set_network_training(self, mode: bool, is_kept: Callable[[str], bool]) -> None:
        """Set the mode of the layers that the module trains.

        The others stay in evaluation mode.

        Args:
            mode: True for training.
            is_kept: called with the dotted name of a layer; returns whether it is kept
                as it is.
        """

    def add_undo(self, placement: str, *undo: Undo) -> None:
        """Register how to revert a change; the last function is called first."""
        self._undo[placement] = undo

    def remove(self, placements: Iterable[str] | None = None) -> None:
        """Remove the module, and restore the network bit for bit.

        It is removed at some placements or everywhere.
        """
        for placement in reversed(
            self.placements if placements is None else tuple(placements)
        ):
            for undo in reversed(self._undo.pop(placement)):
                undo()

    def module_of(self, site: Site) -> Any:
        """Return the module with the parameters of a site."""
        return self.get_submodule(mangle_name(site))

    def drop_site(self, site: Site) -> None:
        """Remove a site together with its parameters."""
        self.remove([str(site)])
        delattr(self, mangle_name(site))
        del self.fixed_scales[site], self.scale_fns[site]

    @torch.no_grad()
    def merge(self) -> None:
        """Fold the module into the network's weights, at least in float32.

        What cannot be folded stays injected.
        """

    def named_tensors(self) -> NamedTensors:
        """Return the tensors of the module, without copies.

        Returns:
            Dotted name, such as "blocks.0.q.a" -> tensor.
        """
        return {
            name.replace("/", "."): tensor for name, tensor in self.state_dict().items()
        }


def mangle_name(name: object) -> str:
    """Return a dotted name in the form that torch allows: "." becomes "/"."""
    return str(name).replace(".", "/")


def trainable_kwargs(tensor: Tensor) -> dict[str, Any]:
    """Return device and dtype for trained parameters of a frozen one.

    The dtype is at least float32.

    Args:
        tensor: the frozen parameter.

    Returns:
        Keyword arguments "device" and "dtype" of torch factory functions.
    """
    return {
        "device": tensor.device,
        "dtype": torch.promote_types(tensor.dtype, torch.float32),
    }


def named_blocks(network: nn.Module) -> dict[str, nn.Module]:
    """Return the blocks of a timm network in forward order.

    Args:
        network: a plain vision transformer (`blocks`), a Swin transformer or ConvNeXt
            (`layers` or `stages`, each with `blocks`), or a ResNet (`layer1`, `layer2`,
            ...).

    Returns:
        Dotted name of the module, such as "blocks.3", "stages.0.blocks.1" or "layer1.2"
        -> block.

    Raises:
        ValueError: the network has no blocks.
    """
    blocks = _children(network, "blocks")
    for name in ("layers", "stages"):
        for stage, module in _children(network, name).items():
            blocks |= {
                f"{stage}.{path}": block
                for path, block in _children(module, "blocks").items()
            }
    number = 1
    while stage_blocks := _children(network, f"layer{number}"):
        blocks |= stage_blocks
        number += 1
    if not blocks:
        raise ValueError(
            f"{type(network).__name__} has no blocks: a timm network has them in"
            " `blocks` (plain vision transformer), in the stages `layers` or `stages`"
            " (Swin, ConvNeXt), or in `layer1`, `layer2`, ... (ResNet)"
        )
    return blocks


def is_hierarchical(network: nn.Module) -> bool:
    """Return whether a network has stages of different resolution.

    Feature maps then pass between its blocks.
    """
    return not next(iter(named_blocks(network))).startswith("blocks.")


def require_tokens(network: nn.Module, name: str, reason: str) -> None:
    """Raise an error if a network is hierarchical.

    The error names the PEFT method that needs tokens, and why.

    Raises:
        ValueError: the network is hierarchical.
    """
    if is_hierarchical(network):
        raise ValueError(
            f"{name} needs a plain vision transformer, and {type(network).__name__} is"
            f" not one: {reason}"
        )


def _children(module: nn.Module, name: str) -> dict[str, nn.Module]:
    """Return the children of a module container by dotted name.

    Other modules have none.
    """
    container = getattr(module, name, None)
    if not isinstance(container, nn.Sequential | nn.ModuleList):
        return {}
    return {f"{name}.{index}": child for index, child in enumerate(container)}


_LAYERS = {
    **{position: ("attn.qkv", f"attn.{position}_proj") for position in "qkv"},
    **{"out": ("attn.proj",), "mlp1": ("mlp.fc1",), "mlp2": ("mlp.fc2",)},
    **{position: (position,) for position in ("conv1", "conv2", "conv3")},
    # the second one in ResNet-D, after a pooling layer
    "downsample": (
        "downsample.0",
        "downsample.1",
    ),
}


class TargetLayer(NamedTuple):
    """The linear layer or convolution of a site, and the site's rows of its output."""

    layer: nn.Linear | nn.Conv2d
    rows: slice

    @property
    def weight(self) -> Tensor:
        """The site's rows of the weight: (rows, width_in) or (rows, in, h, w)."""
        return self.layer.weight[self.rows]


def transformer_blocks(vit: nn.Module) -> Sequence[nn.Module]:
    """Return the blocks of a timm network (`named_blocks`).

    Returns:
        The blocks in forward order, through all stages.

    Raises:
        ValueError: the network has no blocks.
    """
    return tuple(named_blocks(vit).values())


def find_target_layers(vit: nn.Module) -> dict[Site, TargetLayer]:
    """Return every site of a timm network.

    A site is a convolution, a linear layer or some rows of one.

    Returns:
        Site -> layer, block by block in forward order.
    """
    layers = {}
    for index, block in enumerate(transformer_blocks(vit)):
        for position in LAYER_POSITIONS:
            layer = _target_layer(block, position)
            if layer:
                layers[Site(index, position)] = layer
    return layers


def target_layers(vit: nn.Module, sites: Iterable[Site]) -> dict[Site, TargetLayer]:
    """Return the layers of some sites.

    Returns:
        Site -> layer, in the order of `sites`.

    Raises:
        ValueError: the network has no layer for a site.
    """
    layers = find_target_layers(vit)
    selected = tuple(sites)
    for site in selected:
        if site not in layers:
            available = [x.position for x in layers if x.block == site.block]
            raise ValueError(
                f"{type(vit).__name__} has no linear layer or full convolution for the"
                f" site {site}; positions of that block: {', '.join(available)}"
            )
    return {site: layers[site] for site in selected}


def _target_layer(block: nn.Module, position: str) -> TargetLayer | None:
    for path in _LAYERS[position]:
        layer = find_submodule(block, path)
        # only plain layers: a subclass may compute something else, and groups are not
        # full rank
        is_plain = (
            type(layer) is nn.Conv2d
            and layer.groups == 1
            and layer.padding_mode == "zeros"
        )
        if not isinstance(layer, nn.Linear | nn.Conv2d) or not (
            is_plain or type(layer) is nn.Linear
        ):
            continue
        width = len(layer.weight)
        if not path.endswith("qkv"):
            return TargetLayer(layer, slice(0, width))
        start = POSITIONS.index(position) * (width // 3)
        return TargetLayer(layer, slice(start, start + width // 3))
    return None


def find_submodule(module: nn.Module, path: str) -> nn.Module | None:
    """Return the submodule at a dotted path; None if there is none."""
    try:
        return module.get_submodule(path)
    except AttributeError:
        return None


def use_fused_qkv_layers(vit: nn.Module) -> list[Callable[[], object]]:
    """Make attention call its qkv layer instead of reading the layer's weight.

    This concerns EVA and BEiT of timm.

    Returns:
        Functions that undo the change.
    """
    undo: list[Callable[[], object]] = []
    for module in vit.modules():
        if vars(module).get("qkv_bias_separate") is False:
            vars(module)["qkv_bias_separate"] = True
            undo.append(partial(setattr, module, "qkv_bias_separate", False))
    return undo
