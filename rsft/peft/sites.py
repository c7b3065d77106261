"""A site is one place of the network that can be adapted: (block, position).

| position | layer of the block |
|---|---|
| q, k, v | a third of the output of `attn.qkv` where it is fused, else `attn.q_proj`, `attn.k_proj`, `attn.v_proj` |
| out | `attn.proj` |
| mlp1 | `mlp.fc1`: in a packed gated MLP (timm's GluMlp, SwiGLUPacked) gate and value together; none in timm's SwiGLU |
| mlp2 | `mlp.fc2` |
| mlp | `mlp` as a whole, for bottleneck adapters |
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import NamedTuple, TypeVar, cast

from torch import Tensor, nn

POSITIONS = ("q", "k", "v", "out", "mlp1", "mlp2", "mlp")
"""Positions of a transformer block, in the order of the forward pass."""

_LETTERS = dict(zip("qkvo12", POSITIONS, strict=False))
_LAYERS = {
    "q": ("attn.qkv", "attn.q_proj"),
    "k": ("attn.qkv", "attn.k_proj"),
    "v": ("attn.qkv", "attn.v_proj"),
    "out": ("attn.proj",),
    "mlp1": ("mlp.fc1",),
    "mlp2": ("mlp.fc2",),
}

T = TypeVar("T")


class Site(NamedTuple):
    """One (block, position) of a vision transformer."""

    block: int
    position: str

    def __str__(self) -> str:
        return f"blocks.{self.block}.{self.position}"


class Host(NamedTuple):
    """Where a site of a linear layer lives: the layer and the rows of its output that belong to the site."""

    linear: nn.Linear
    rows: slice

    @property
    def weight(self) -> Tensor:
        """The site's own part of the matrix, (rows, width_in)."""
        return self.linear.weight[self.rows]


def select_positions(letters: str) -> tuple[str, ...]:
    """Positions named by letters of "qkvo12", in forward order: "2q" -> ("q", "mlp2").

    Raises:
        ValueError: a letter that names no position, or none at all.
    """
    unknown = sorted(set(letters) - set(_LETTERS))
    if unknown or not letters:
        raise ValueError(f"positions {letters!r}: use letters of 'qkvo12' (query, key, value, out, mlp1, mlp2)")
    return tuple(position for letter, position in _LETTERS.items() if letter in letters)


def select_blocks(blocks: str | Sequence[int], depth: int) -> tuple[int, ...]:
    """Blocks named by "all", "last:N", "every:N", "0-5" or indices from 0 (a list or a range), in order.

    Raises:
        ValueError: a form that is none of these, or an index outside of the network.
    """
    if not isinstance(blocks, str):
        outside = [index for index in blocks if not 0 <= index < depth]
        if outside or not blocks:
            raise ValueError(f"blocks {list(blocks)}: the network has blocks 0 to {depth - 1}")
        return tuple(sorted(set(blocks)))
    if blocks == "all":
        return tuple(range(depth))
    low, dash, high = blocks.partition("-")
    if dash and low.isdigit() and high.isdigit() and int(low) <= int(high) < depth:
        return tuple(range(int(low), int(high) + 1))
    form, _, number = blocks.partition(":")
    if form in ("last", "every") and number.isdigit() and 1 <= int(number) <= depth:
        count = int(number)
        return tuple(range(depth - count, depth)) if form == "last" else tuple(range(count - 1, depth, count))
    forms = f"'all', 'last:N', 'every:N' (1 <= N <= {depth}), a range such as '0-5', or a list of indices"
    raise ValueError(f"blocks {blocks!r}: use {forms}")


def at_each(setting: T | Mapping[str, T], sites: Sequence[Site]) -> dict[Site, T]:
    """A setting at every site: one for all, or by patterns such as {"blocks.*.q": 8, "*": 4}, the first that fits.

    Patterns are those of the shell (`fnmatch`) on a site's name, "blocks.3.q".

    Raises:
        ValueError: a site that no pattern fits, or a pattern that fits no site.
    """
    if not isinstance(setting, Mapping):
        return dict.fromkeys(sites, setting)
    fitting = {site: [pattern for pattern in setting if fnmatchcase(str(site), pattern)] for site in sites}
    idle = set(setting) - {pattern for patterns in fitting.values() for pattern in patterns}
    if idle:
        raise ValueError(f"pattern {min(idle)!r} fits no site; a site is named like {sites[0]}")
    for site, patterns in fitting.items():
        if not patterns:
            raise ValueError(f"no pattern fits the site {site}: add '*'")
    return {site: setting[patterns[0]] for site, patterns in fitting.items()}


def blocks_of(vit: nn.Module) -> Sequence[nn.Module]:
    """The transformer blocks.

    Raises:
        ValueError: the network has none.
    """
    blocks = getattr(vit, "blocks", None)
    if not isinstance(blocks, nn.Sequential | nn.ModuleList):
        raise ValueError(f"{type(vit).__name__} has no blocks: it is no vision transformer of timm's kind")
    return cast(Sequence[nn.Module], blocks)


def find_hosts(vit: nn.Module) -> dict[Site, Host]:
    """Every site of a timm vision transformer that is a linear layer or a part of one."""
    hosts = {
        Site(index, position): _host(block, position)
        for index, block in enumerate(blocks_of(vit))
        for position in _LAYERS
    }
    return {site: host for site, host in hosts.items() if host is not None}


def hosts_of(vit: nn.Module, sites: Iterable[Site]) -> dict[Site, Host]:
    """The layers of some sites.

    Raises:
        ValueError: the network has no such layer.
    """
    hosts, chosen = find_hosts(vit), tuple(sites)
    for site in chosen:
        if site not in hosts:
            there = ", ".join(position for block, position in hosts if block == site.block) or "none"
            layer = f"blocks.{site.block}.{_LAYERS[site.position][0]}"
            raise ValueError(
                f"{type(vit).__name__} has no linear layer {layer}, so no site {site}; positions of that block: {there}"
            )
    return {site: hosts[site] for site in chosen}


def _host(block: nn.Module, position: str) -> Host | None:
    for path in _LAYERS[position]:
        parent, _, name = path.rpartition(".")
        layer = getattr(getattr(block, parent, None), name, None)
        if type(layer) is not nn.Linear:  # a subclass may compute something else
            continue
        width = layer.out_features
        if name != "qkv":
            return Host(layer, slice(0, width))
        start = POSITIONS.index(position) * (width // 3)
        return Host(layer, slice(start, start + width // 3))
    return None


def call_fused_layers(vit: nn.Module) -> list[Callable[[], object]]:
    """Let attention call its fused qkv layer where it would read the layer's weight alone (timm's EVA and BEiT).

    Returns:
        Calls that undo it.
    """
    undo: list[Callable[[], object]] = []
    for module in vit.modules():
        if vars(module).get("qkv_bias_separate") is False:
            vars(module)["qkv_bias_separate"] = True
            undo.append(partial(setattr, module, "qkv_bias_separate", False))
    return undo
