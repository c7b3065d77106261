"""The layers of a tuner of peft as a PEFT module."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rsft.peft.modules.adapter_module import (
    AdapterModule,
    NamedTensors,
    mangle_name,
    target_layers,
)
from rsft.peft.modules.scaled import select_sites
from rsft.peft.sites import Site
from rsft.plugins.huggingface.tuners import ADAPTER, Tuner, find_tuner, make_config
from rsft.utils.dependencies import require

_MERGE_TOLERANCE = 1e-5
"""Largest difference of a merged layer's output, relative to the largest output."""


class TunerModule(AdapterModule):
    """Layers of a tuner of peft around layers of a network.

    The tuner is attached to a tree that only has the selected layers, under their names
    in the network. So the network is unchanged until `inject`, and the learned tensors
    have the names that peft gives them.

    Args:
        vit: a timm network.
        config: `peft_type` and the settings of the tuner.
        positions: positions of the layers.
        blocks: blocks of the layers.

    Attributes:
        layers: name of a layer -> the layer of peft around it.
        peft_config: the configuration of peft.

    Raises:
        ValueError: the tuner cannot adapt the layers, or a setting is invalid.
        RequestError: peft is not installed.
    """

    def __init__(
        self,
        vit: nn.Module,
        config: Mapping[str, Any],
        positions: str | Sequence[str],
        blocks: str | Sequence[int],
    ) -> None:
        values = dict(config)
        tuner = find_tuner(str(values.pop("peft_type", "")))
        reason = tuner.unusable_reason()
        if reason:
            raise ValueError(f"{tuner.name} of peft cannot adapt images: {reason}")
        rows = _rows_by_layer(vit, positions, blocks)
        sites = [site for layer_sites in rows.values() for site in layer_sites]
        super().__init__(dict.fromkeys(sites, 1.0))
        self.peft_config = make_config(tuner, values, list(rows))
        self._rows = rows
        parents = {path: path.rpartition(".")[0] for path in rows}
        self._parents = {path: vit.get_submodule(x) for path, x in parents.items()}
        self._frozen = {path: vit.get_submodule(path) for path in rows}
        has_maps = hasattr(vit, "stages")  # linear layers of ConvNeXt read maps
        self._inputs = {path: _probe(x, has_maps) for path, x in self._frozen.items()}
        model, self.layers = _wrap_layers(
            tuner, self.peft_config, self._frozen, self._inputs
        )
        self._tuner = (model,)  # its parameters are registered one by one
        self._stored = {x.data_ptr() for x in self.peft_state().values()}
        self._tensors: dict[str, Callable[[], Tensor]] = {}
        earlier: set[int] = set()
        for path, layer in self.layers.items():
            self._register_tensors(tuner, path, layer, earlier)
        if not list(self.parameters()):
            raise ValueError(f"{tuner.name} of peft trains nothing in these layers")

    def _register_tensors(
        self, tuner: Tuner, path: str, layer: Any, earlier: set[int]
    ) -> None:
        """Register the trained parameters of a layer, and list all of its tensors.

        Tensors of `earlier` layers, by their ids, are shared with this one.
        """
        for name, owner, key in _own_tensors(layer):
            tensor = _read(owner, key)
            if isinstance(tensor, torch.Generator):
                raise ValueError(
                    f"{tuner.name} of peft: a random generator of its own, whose state"
                    " no checkpoint contains; leave the setting of its seed out"
                )
            # the files of peft lack tensors that it computes again; those with
            # fractions may come from a decomposition of the frozen weights, whose signs
            # depend on the machine, so they are stored too
            is_stored = tensor.data_ptr() in self._stored
            is_stored = is_stored or not tensor.equal(tensor.round())
            if id(tensor) in earlier or not is_stored:
                continue
            earlier.add(id(tensor))
            full_name = f"{path}.{name}"
            self._tensors[full_name] = partial(_read, owner, key)
            if tensor.requires_grad:
                self.register_parameter(mangle_name(full_name), tensor)

    def peft_state(self) -> NamedTensors:
        """Return the tensors of the files of peft by their names there."""
        holder: Any = nn.Module()
        holder.base_model = self._tuner[0]
        holder.peft_config = holder.base_model.peft_config
        peft = require("peft", "")
        state: NamedTensors = peft.get_peft_model_state_dict(
            holder, save_embedding_layers=False
        )
        return state

    def named_tensors(self) -> NamedTensors:
        return {name: getter() for name, getter in self._tensors.items()}

    def output_parameters(self, site: Site) -> list[nn.Parameter]:
        raise ValueError(
            "the outputs of a tuner of peft are not linear in known parameters: leave"
            " meta.scale_invariant_steps out"
        )

    def inject(self) -> None:
        """Put the layers of peft in place of the frozen ones."""
        for path, layer in self.layers.items():
            replace = partial(setattr, self._parents[path], path.rpartition(".")[2])
            replace(layer)
            # blocks with a hook do not run by the kernels, which read frozen layers
            hook = layer.register_forward_hook(partial(self._scale_output, path))
            self.add_undo(path, partial(replace, self._frozen[path]), hook.remove)

    def set_network_training(self, mode: bool, is_kept: Callable[[str], bool]) -> None:
        for path, layer in self.layers.items():
            layer.train(mode and not is_kept(path))

    def drop_site(self, site: Site) -> None:
        """Turn a site off; the tensors of its layer stay."""
        del self.fixed_scales[site], self.scale_fns[site]

    def _factor(self, path: str) -> Tensor | float:
        """Return the scale of a layer, or the scales of its output features (D,)."""
        rows = self._rows[path]
        scales = [self.scale_fns[x]() if x in self.scale_fns else 0.0 for x in rows]
        if all(isinstance(x, float) and x == 1 for x in scales):
            return 1.0
        if len(scales) == 1:
            return scales[0]
        counts = [part.stop - part.start for part in rows.values()]
        weight = cast(Tensor, self._frozen[path].weight)
        return torch.cat(
            [weight.new_ones(n) * x for x, n in zip(scales, counts, strict=True)]
        )

    def _scale_output(
        self, path: str, layer: Any, args: tuple[Tensor, ...], output: Tensor
    ) -> Tensor | None:
        factor = self._factor(path)
        if isinstance(factor, float) and factor == 1:
            return None
        frozen = layer.get_base_layer()(*args)
        if isinstance(factor, Tensor):
            factor = factor.to(frozen)
            if factor.ndim and isinstance(layer.get_base_layer(), nn.Conv2d):
                factor = factor[:, None, None]
        return cast(Tensor, frozen + factor * (output - frozen))

    @torch.no_grad()
    def merge(self) -> None:
        """Fold the linear layers whose output is affine; the others stay injected."""
        for path, layer in self.layers.items():
            frozen = self._frozen[path]
            if isinstance(frozen, nn.Linear):
                layer.eval()
                if _fold(layer, frozen, self._inputs[path].to(frozen.weight)):
                    self.remove([path])


def _fold(layer: nn.Module, frozen: nn.Linear, inputs: Tensor) -> bool:
    """Give a frozen layer the weights of the layer of peft around it, if it has some.

    They follow from the outputs for unit vectors and for zeros. So no tuner needs a
    rule of its own, and learned scales are part of them.

    Args:
        layer: the layer of peft around `frozen`.
        frozen: the layer to change.
        inputs: tokens (..., width_in) on which both must agree then.

    Returns:
        Whether the layer was changed: not if its outputs are not affine.
    """
    units = torch.eye(frozen.in_features).to(frozen.weight)
    units = units.view(*[1] * (inputs.ndim - 2), *units.shape)
    shift = layer(torch.zeros_like(inputs)).flatten(0, -2)[0]
    weight = (layer(units) - shift).flatten(0, -2).t()
    inputs = 10 * (inputs + 1)  # where it shows that a layer is not affine
    expected = layer(inputs)
    difference = (F.linear(inputs, weight, shift) - expected).abs().max()
    is_affine = difference <= _MERGE_TOLERANCE * expected.abs().max()
    if not is_affine or (frozen.bias is None and shift.any()):
        return False
    frozen.weight.copy_(weight)
    if frozen.bias is not None:
        frozen.bias.copy_(shift)
    return True


def _wrap_layers(
    tuner: Tuner,
    config: Any,
    frozen: Mapping[str, nn.Module],
    inputs: NamedTensors,
) -> tuple[Any, dict[str, Any]]:
    """Return a model of peft and its layers around frozen layers, which do not change.

    Raises:
        ValueError: peft raises an error, or changes or trains the frozen layers.
    """
    tree = _make_tree(frozen)
    before = {}
    for path, layer in frozen.items():
        before[path] = {name: x.clone() for name, x in layer.named_parameters()}
    try:
        model = tuner.tuner_class(tree, config, ADAPTER)
        layers = {path: tree.get_submodule(path) for path in frozen}
        with torch.no_grad():
            for path in frozen:
                layers[path].eval()(inputs[path])
    except Exception as error:
        # expected: a tuner of peft that does not suit the layers raises any error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{tuner.name} of peft: {reason}") from error
    for path, layer in frozen.items():
        changed = _freeze_again(layer, before[path])
        if changed:
            raise ValueError(
                f"{tuner.name} of peft, with these settings, changes {path}.{changed},"
                " which stays frozen"
            )
    return model, layers


def _make_tree(layers: Mapping[str, nn.Module]) -> nn.Module:
    """Return a module with these layers at their dotted paths."""
    tree = nn.Module()
    for path, layer in layers.items():
        *parents, name = path.split(".")
        parent = tree
        for part in parents:
            if not hasattr(parent, part):
                parent.add_module(part, nn.Module())
            parent = cast(nn.Module, getattr(parent, part))
        parent.add_module(name, layer)
    return tree


def _freeze_again(layer: nn.Module, before: NamedTensors) -> str:
    """Restore the parameters of a layer, and freeze them.

    Returns:
        The name of one that was trained or changed; "" if there is none.
    """
    changed = [
        name
        for name, x in layer.named_parameters()
        if x.requires_grad or not x.equal(before[name])
    ]
    layer.requires_grad_(False)
    for name, parameter in layer.named_parameters():
        parameter.copy_(before[name])
    return next(iter(changed), "")


def _own_tensors(layer: Any) -> Iterator[tuple[str, Any, str]]:
    """Yield name, owner and key of the tensors of a layer that are not frozen ones.

    Names are those of peft's files, without the name of the adapter. Generators of
    random numbers are yielded too.
    """
    for path, module in layer.named_modules():
        if path.split(".")[0] != "base_layer":
            for key in [*module._parameters, *module._buffers]:
                if _read(module, key) is not None:
                    names = [x for x in f"{path}.{key}".split(".") if x != ADAPTER]
                    yield ".".join(filter(None, names)), module, key
    for attribute in (*layer.adapter_layer_names, *layer.other_param_names):
        values = getattr(layer, attribute, None)
        if isinstance(values, dict):
            value = values.get(ADAPTER)
            if isinstance(value, Tensor | torch.Generator):
                yield attribute, values, ADAPTER


def _read(owner: Any, key: str) -> Any:
    if isinstance(owner, dict):
        return owner[key]
    return owner._parameters.get(key, owner._buffers.get(key))


def _probe(layer: nn.Module, has_maps: bool) -> Tensor:
    """Return an input of a layer: two tokens, or an image of 8 x 8 pixels.

    With `has_maps`, a linear layer gets a feature map of 1 x 2 tokens.
    """
    weight = cast(Tensor, layer.weight)
    shape: tuple[int, ...] = (1, 2, weight.shape[-1])
    if has_maps:
        shape = (1, *shape)
    if isinstance(layer, nn.Conv2d):
        shape = (1, layer.in_channels, 8, 8)
    count = torch.Size(shape).numel()
    return torch.linspace(-1, 1, count, device=weight.device, dtype=weight.dtype).view(
        shape
    )


def _rows_by_layer(
    vit: nn.Module, positions: str | Sequence[str], blocks: str | Sequence[int]
) -> dict[str, dict[Site, slice]]:
    """Return name of a layer -> its sites and their rows of its output.

    Raises:
        ValueError: some rows of a layer belong to no selected site.
    """
    names = {id(module): name for name, module in vit.named_modules()}
    layers: dict[str, dict[Site, slice]] = {}
    for site, target in target_layers(
        vit, select_sites(vit, positions, blocks)
    ).items():
        layers.setdefault(names[id(target.layer)], {})[site] = target.rows
    for path, rows in layers.items():
        count = sum(part.stop - part.start for part in rows.values())
        if count < len(cast(Tensor, vit.get_submodule(path).weight)):
            raise ValueError(
                f"a tuner of peft adapts {path} as a whole, and positions only has"
                f" {', '.join(site.position for site in rows)} of it: name q, k and v"
                " together, or use the method lora"
            )
    return layers
