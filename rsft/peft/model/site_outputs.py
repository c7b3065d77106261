"""Observe what PEFT modules add to a network during its forward passes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from rsft.peft.model.adapted_model import AdaptedModel
from rsft.peft.model.block_outputs import append_output
from rsft.peft.modules.adapter_module import mangle_name, transformer_blocks
from rsft.peft.modules.scaled import BottleneckModule, LowRankConv2d, LowRankModule
from rsft.peft.sites import Site

SiteObserver = Callable[[Site, Tensor, Tensor], None]
"""Called with a site, the addition m_p f_p(x), and the frozen output it is added to,
both of the same shape."""


@contextmanager
def observe_additions(adapted: AdaptedModel, observer: SiteObserver) -> Iterator[None]:
    """Call `observer` for every site in each forward pass within the context.

    The frozen output is W_p x without bias at a linear layer or convolution, and the
    output of the MLP at a bottleneck. Methods without additions (BitFit, prompts, SSF)
    have no sites.

    Args:
        adapted: a model with attached modules.
        observer: the function to call.

    Yields:
        Nothing.

    Example:
        >>> import timm, torch
        >>> from rsft.peft import LoRA, attach
        >>> vit = timm.create_model("vit_tiny_patch16_224", img_size=32)
        >>> adapted = attach(vit, LoRA(positions="q", blocks="last:1"))
        >>> def show(site, addition, frozen):
        ...     print(site, addition.abs().max().item())
        >>> with observe_additions(adapted, show):
        ...     _ = adapted.forward_features(torch.zeros(1, 3, 32, 32))
        blocks.11.q 0.0
    """
    blocks = transformer_blocks(adapted.vit)
    handles = []
    for module in adapted.adapter_modules:
        for site in module.sites:
            if isinstance(module, LowRankModule):
                hook = partial(_observe_layer, module, site, observer)
                handles.append(
                    module.target_layers[site].layer.register_forward_hook(hook)
                )
            elif isinstance(module, BottleneckModule):
                additions: list[Tensor] = []
                bottleneck = module.get_submodule(mangle_name(site))
                handles.append(
                    bottleneck.register_forward_hook(partial(append_output, additions))
                )
                mlp = cast(nn.Module, blocks[site.block].mlp)
                handles.append(
                    mlp.register_forward_hook(
                        partial(_observe_mlp, site, additions, observer)
                    )
                )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _observe_layer(
    module: LowRankModule,
    site: Site,
    observer: SiteObserver,
    layer: nn.Module,
    args: tuple[Tensor, ...],
    output: Tensor,
) -> None:
    if isinstance(layer, LowRankConv2d):
        frozen = F.conv2d(
            args[0], layer.weight, None, layer.stride, layer.padding, layer.dilation
        )
        observer(site, layer.addition(args[0], module.delta(site)), frozen)
        return
    delta = module.delta(site)
    addition = F.linear(F.linear(args[0], delta.a, delta.shift), delta.b) * delta.scale
    observer(site, addition, F.linear(args[0], module.target_layers[site].weight))


def _observe_mlp(
    site: Site,
    additions: list[Tensor],
    observer: SiteObserver,
    mlp: nn.Module,
    args: tuple[Tensor, ...],
    output: Tensor,
) -> None:
    # the hook of `BottleneckModule` ran before and added it to the output
    addition = additions.pop()
    observer(site, addition, output - addition)
