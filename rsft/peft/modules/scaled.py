"""Modules with a scale at every site: bottlenecks and low-rank additions.

The additions to convolutions are those of Hugging Face PEFT: A has the kernel, B is a 1
x 1 convolution.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import product
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rsft.peft.kernels import LowRankDelta, low_rank_linear
from rsft.peft.modules import adapter_module
from rsft.peft.modules.adapter_module import (
    AdapterModule,
    TargetLayer,
    Tensors,
    mangle_name,
    trainable_kwargs,
)
from rsft.peft.settings import (
    BottleneckMethod,
    LowRankMethod,
    resolve_scales,
    validate_ranks,
)
from rsft.peft.sites import (
    ALL_POSITIONS,
    Site,
    resolve_per_site,
    select_blocks,
    select_positions,
)


class BottleneckMlp(nn.Module):
    """A bottleneck, up(relu(down(LN(x)))) * m.

    One scale m is applied inside the bottleneck, which is cheap.

    Args:
        width: D, of input and output.
        dim: h, of the bottleneck.
        dropout: rate after the ReLU.
        learnable: whether the module learns a scale of its own, starting at 1.
        options: device and dtype of the parameters.
    """

    def __init__(
        self,
        width: int,
        dim: int,
        dropout: float,
        learnable: bool,
        options: dict[str, Any],
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, **options)
        self.down = nn.Linear(width, dim, **options)
        self.up = nn.Linear(dim, width, **options)
        self.dropout = nn.Dropout(dropout)
        self.scale = nn.Parameter(torch.ones((), **options)) if learnable else None
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        for tensor in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(tensor)

    def forward(self, x: Tensor, m: Tensor | float) -> Tensor:
        """Return the addition (B, N, D) to tokens x (B, N, D) at the scale m.

        m may also be a factor for every feature (D,).
        """
        if self.scale is not None:
            m = m * self.scale
        hidden = self.dropout(F.relu(self.down(self.norm(x))))
        if isinstance(m, Tensor) and m.ndim:
            return F.linear(hidden, self.up.weight, self.up.bias) * m
        return F.linear(hidden * m, self.up.weight, self.up.bias * m)


class BottleneckModule(AdapterModule):
    """A bottleneck at the MLP of every selected block.

    It cannot be folded into the weights.

    With `parallel`, its input is that of the MLP branch (AdaptFormer), else the output
    of the MLP (Adapter).

    Raises:
        ValueError: a block has no suitable MLP, or a setting is invalid.
    """

    def __init__(
        self, method: BottleneckMethod, vit: nn.Module, parallel: bool
    ) -> None:
        blocks = adapter_module.transformer_blocks(vit)
        dims = validate_ranks(
            method.dim,
            [Site(block, "mlp") for block in select_blocks(method.blocks, len(blocks))],
        )
        layers = {
            site: _output_layer(blocks[site.block], site, parallel) for site in dims
        }
        super().__init__(
            resolve_scales(method.scale, dims), _feature_counts(method, layers)
        )
        self.parallel = parallel
        self._blocks = {site: cast(Any, blocks[site.block]) for site in dims}
        self._inputs: dict[Site, Tensor] = {}  # of MLP branches that are being computed
        dropouts = resolve_per_site(method.dropout, self.sites)
        for site, dim in dims.items():
            weight = layers[site].weight
            learnable = self.fixed_scales[site] is None
            module = BottleneckMlp(
                len(weight), dim, dropouts[site], learnable, trainable_kwargs(weight)
            )
            self.add_module(mangle_name(site), module)

    def output_parameters(self, site: Site) -> list[nn.Parameter]:
        """Return weight and bias of the layer "up"."""
        return list(self.module_of(site).up.parameters())

    def inject(self) -> None:
        """Hook the MLPs.

        A parallel module also hooks the norms before them, which receive the input of
        the branch.
        """
        for site, block in self._blocks.items():
            hooks = [block.mlp.register_forward_hook(partial(self._add_output, site))]
            if self.parallel:
                hooks.append(
                    block.norm2.register_forward_pre_hook(
                        partial(self._store_input, site)
                    )
                )
            self.add_undo(str(site), *(hook.remove for hook in hooks))

    def _store_input(self, site: Site, norm: nn.Module, args: Tensors) -> None:
        self._inputs[site] = args[0]

    def _add_output(
        self, site: Site, mlp: nn.Module, args: Tensors, output: Tensor
    ) -> Tensor:
        x = self._inputs.pop(site) if self.parallel else output
        return output + cast(Tensor, self.module_of(site)(x, self.scale_fns[site]()))

    def drop_site(self, site: Site) -> None:
        super().drop_site(site)
        del self._blocks[site]


def _feature_counts(
    method: BottleneckMethod | LowRankMethod,
    layers: Mapping[Site, nn.Linear | TargetLayer],
) -> dict[Site, int] | None:
    """Return the output features of every site; None if a site has one scale."""
    if method.modulator == "site":
        return None
    return {site: len(layer.weight) for site, layer in layers.items()}


def _output_layer(block: Any, site: Site, parallel: bool) -> nn.Linear:
    layer = getattr(getattr(block, "mlp", None), "fc2", None)
    if not isinstance(layer, nn.Linear):
        raise ValueError(
            f"blocks.{site.block} has no linear layer mlp.fc2, so the network has no"
            f" site {site}"
        )
    kind = type(block).__name__
    has_norm_before = hasattr(block, "norm2") and not (
        "Post" in kind or "TransformerV2" in kind
    )
    if parallel and not has_norm_before:
        raise ValueError(
            f"blocks.{site.block} has no norm2 before its MLP, whose input AdaptFormer"
            " takes"
        )
    return layer


class _AdaptedLayer(nn.Module):
    """A frozen layer with low-rank additions.

    Only the class of a layer changes, as in torch.nn.utils.parametrize, so that the
    layer keeps its name, its parameters and its hooks.

    Attributes:
        adapters: the module of each site of the layer.
    """

    adapters: dict[Site, "LowRankModule"]

    def deltas(self) -> list[LowRankDelta]:
        """Return the current additions to the layer, one for each of its sites."""
        return [module.delta(site) for site, module in self.adapters.items()]


class LowRankLinear(_AdaptedLayer, nn.Linear):
    """A frozen linear layer with low-rank additions to rows of its output.

    A fused qkv layer stays one matrix product.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer with its additions.

        Args:
            x: (B, ..., width_in).

        Returns:
            (B, ..., width_out).
        """
        kernels = next(iter(self.adapters.values())).kernels
        return low_rank_linear(
            x, self.weight, self.bias, self.deltas(), kernels=kernels
        )


class LowRankConv2d(_AdaptedLayer, nn.Conv2d):
    """A frozen convolution with low-rank additions, m B(A(x)).

    A (r, in, h, w) has the kernel, stride, padding and dilation of the convolution; B
    (out, r) mixes its r outputs at every pixel.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Apply the convolution (B, in, H, W) -> (B, out, H', W') and its additions."""
        y = nn.Conv2d.forward(self, input)
        for delta in self.deltas():
            y = y + self.addition(input, delta)
        return y

    def addition(self, x: Tensor, delta: LowRankDelta) -> Tensor:
        """Return m B(A(x)) of one addition, (B, in, H, W) -> (B, out, H', W')."""
        a = delta.a.to(x.dtype)
        b = delta.b[:, :, None, None].to(x.dtype)
        hidden = F.conv2d(
            F.dropout(x, delta.dropout),
            a,
            None,
            self.stride,
            self.padding,
            self.dilation,
        )
        return F.conv2d(hidden * delta.scale, b)


_ADAPTED_CLASSES: dict[type, Any] = {
    nn.Linear: LowRankLinear,
    nn.Conv2d: LowRankConv2d,
}


class LowRankModule(AdapterModule):
    """Low-rank additions, m_p (x A) B at every site.

    An addition that reads the output W h + b of its layer equals one that reads h, with
    the factor A W, and the shift A b in rank space. So the kernels treat both alike.

    Raises:
        ValueError: the network lacks a site, or a setting is invalid.
    """

    def __init__(self, method: LowRankMethod, vit: nn.Module) -> None:
        ranks = validate_ranks(
            method.rank, select_sites(vit, method.positions, method.blocks)
        )
        layers = adapter_module.target_layers(vit, ranks)
        scales = resolve_scales(method.scale, ranks, method.alpha)
        super().__init__(scales, _feature_counts(method, layers))
        self.target_layers = layers
        self.dropouts = resolve_per_site(method.dropout, tuple(ranks))
        self._scaled_b: dict[Site, Tensor] = {}  # see `scale_together`
        self._sequential: set[Site] = set()
        if method.out_insertion == "sequential":
            self._sequential = {site for site in ranks if site.position == "out"}
        for site in self._sequential:
            if self.dropouts[site]:
                raise ValueError(
                    f"dropout {self.dropouts[site]} at {site}: a sequential module at"
                    " out has none; use 0 there, such as {'*.out': 0, '*': 0.1}"
                )
        for site, rank in ranks.items():
            self._add_parameters(site, rank, method.init)

    def _add_parameters(self, site: Site, rank: int, init: str) -> None:
        """Add the parameters of a site."""
        raise NotImplementedError

    def factors(self, site: Site) -> tuple[Tensor, Tensor]:
        """Return the factors of a site: A^T (r, *input_shape) and B^T (rows, r)."""
        raise NotImplementedError

    def input_shape(self, site: Site) -> torch.Size:
        """Return the shape that A of a site maps to r: (width,) or (in, h, w)."""
        shape = self.target_layers[site].weight.shape
        if site in self._sequential:
            return shape[:1]
        return shape[1:]

    def delta(self, site: Site) -> LowRankDelta:
        """Return the addition at a site.

        Its dropout is 0 unless the module is in training mode.
        """
        rate = self.dropouts[site] if self.training else 0.0
        shift = None
        a, b = self.factors(site)
        target = self.target_layers[site]
        if site in self._sequential:
            bias = target.layer.bias
            # autocast rounds the product
            if bias is not None:
                shift = (a @ bias.to(a.dtype)).to(a.dtype)
            a = (a @ target.weight.to(a.dtype)).to(a.dtype)
        if site in self._scaled_b:
            return LowRankDelta(target.rows, a, self._scaled_b[site], 1.0, rate, shift)
        scale = self.scale_fns[site]()
        if isinstance(scale, Tensor) and scale.ndim:  # a factor for every row of B^T
            return LowRankDelta(target.rows, a, b * scale[:, None], 1.0, rate, shift)
        return LowRankDelta(target.rows, a, b, scale, rate, shift)

    @contextmanager
    def scale_together(self) -> Iterator[None]:
        """Multiply the learned scales of all sites into B until the block ends.

        Sites of equal shape share their operators, which a GPU has to start one by one.

        Yields:
            Nothing.
        """
        groups = defaultdict[torch.Size, list[tuple[Site, Tensor, Tensor]]](list)
        for site in self.sites:
            scale = self.scale_fns[site]()
            b = self.factors(site)[1]
            if isinstance(scale, Tensor) and scale.ndim == 0:
                groups[b.shape].append((site, b, scale))
        for group in groups.values():
            sites, unscaled, scales = zip(*group, strict=True)
            scaled = torch.stack(unscaled) * torch.stack(scales)[:, None, None]
            self._scaled_b |= zip(sites, scaled, strict=True)
        try:
            yield
        finally:
            self._scaled_b.clear()

    def inject(self) -> None:
        """Turn the layers of all sites into `LowRankLinear` and `LowRankConv2d`."""
        for site in self.sites:
            layer = self.target_layers[site].layer
            if "adapters" not in vars(layer):
                layer.__class__ = _ADAPTED_CLASSES[type(layer)]
                vars(layer)["adapters"] = {}
            vars(layer)["adapters"][site] = self
            self.add_undo(str(site), partial(_remove_adapter, layer, site))

    @torch.no_grad()
    def merge(self) -> None:
        """Add m (A B)^T to the weight of every site, and m B^T s to the bias."""
        for site in self.sites:
            target = self.target_layers[site]
            delta = self.delta(site)
            weight = target.weight
            bias = target.layer.bias
            wide = torch.promote_types(weight.dtype, torch.float32)
            b = delta.b.to(wide)
            weight.copy_(
                weight.to(wide)
                + delta.scale * (b @ delta.a.to(wide).flatten(1)).view_as(weight)
            )
            if bias is not None and delta.shift is not None:
                bias.copy_(bias.to(wide) + delta.scale * (b @ delta.shift.to(wide)))
        self.remove()


def select_sites(
    vit: nn.Module, positions: str | Sequence[str], blocks: str | Sequence[int]
) -> list[Site]:
    """Return the selected sites of a network.

    Args:
        vit: a timm network.
        positions: see `rsft.peft.sites.select_positions`; "all" selects those that the
            network has.
        blocks: see `rsft.peft.sites.select_blocks`.
    """
    indices = select_blocks(blocks, len(adapter_module.transformer_blocks(vit)))
    sites = [Site(*pair) for pair in product(indices, select_positions(positions))]
    available = [
        site for site in adapter_module.find_target_layers(vit) if site in sites
    ]
    if positions == ALL_POSITIONS:
        return available
    # only first blocks of a stage have one
    if any(site.position == "downsample" for site in available):
        return [
            site for site in sites if site in available or site.position != "downsample"
        ]
    return sites


def _remove_adapter(layer: nn.Linear | nn.Conv2d, site: Site) -> None:
    del vars(layer)["adapters"][site]
    if not vars(layer)["adapters"]:
        del vars(layer)["adapters"]
        layer.__class__ = type(layer).__bases__[1]


class LoRAModule(LowRankModule):
    """Separate factors A and B for every site."""

    def _add_parameters(self, site: Site, rank: int, init: str) -> None:
        shape = (rank, *self.input_shape(site))
        factors = _make_factors(self.target_layers[site], shape, init)
        self.add_module(mangle_name(site), factors)

    def output_parameters(self, site: Site) -> list[nn.Parameter]:
        return [self.module_of(site).b]

    def factors(self, site: Site) -> tuple[Tensor, Tensor]:
        factors = self.module_of(site)
        return factors.a, factors.b


class LoTRModule(LowRankModule):
    """Factors A and B that all blocks of a position share, and a core G for every site.

    Raises:
        ValueError: ranks or widths differ between the blocks of a position; see also
            `LowRankModule`.
    """

    def _add_parameters(self, site: Site, rank: int, init: str) -> None:
        target = self.target_layers[site]
        name = f"shared/{site.position}"
        shape = (rank, *self.input_shape(site))
        if not hasattr(self, name):
            factors = _make_factors(target, shape, init)
            nn.init.kaiming_uniform_(factors["b"], a=math.sqrt(5))
            self.add_module(name, factors)
        shared: Any = self.get_submodule(name)
        if (len(shared.b), *shared.a.shape) != (len(target.weight), *shape):
            raise ValueError(
                "lotr shares A and B of a position between blocks: their ranks and"
                " widths must be equal"
            )
        core = torch.zeros(rank, rank, **trainable_kwargs(target.weight))
        self.add_module(mangle_name(site), nn.ParameterDict({"g": core}))

    def output_parameters(self, site: Site) -> list[nn.Parameter]:
        return [self.module_of(site).g]

    def factors(self, site: Site) -> tuple[Tensor, Tensor]:
        factors: Any = self.get_submodule(f"shared/{site.position}")
        return factors.a, factors.b @ self.module_of(site).g.t()


def _make_factors(
    target: TargetLayer, shape: tuple[int, ...], init: str
) -> nn.ParameterDict:
    """Return factors a, Kaiming-uniform with a = sqrt 5, and b, zero.

    Both are stored transposed, because torch's initializers and linear layers count
    fan-in along the last axis. LIFT and the paper's code store A untransposed, so the
    same initializer takes r as the fan-in: `init` = "rank".

    Args:
        target: the layer of the site.
        shape: shape of A^T: (r, width_in), or (r, in, h, w) of a convolution, as in
            Hugging Face PEFT.
        init: see `LowRankMethod`.

    Returns:
        "a" and "b", B^T (width_out, r).
    """
    options = trainable_kwargs(target.weight)
    a = torch.empty(shape, **options)
    fan_in_last = a.flatten(1).t() if init == "rank" else a
    nn.init.kaiming_uniform_(fan_in_last, a=math.sqrt(5))
    b = torch.zeros(len(target.weight), shape[0], **options)
    return nn.ParameterDict({"a": a, "b": b})
