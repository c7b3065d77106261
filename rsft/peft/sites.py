"""Sites: the (block, position) pairs of a network that a PEFT method can adapt.

Blocks are counted from 0 through all stages of the network. Positions of transformer
blocks, also of Swin:

| position | layer of the block |
|---|---|
| q, k, v | a third of `attn.qkv`, or `attn.q_proj`, `attn.k_proj`, `attn.v_proj` |
| out | `attn.proj` |
| mlp1 | `mlp.fc1`; in GluMlp and SwiGLUPacked with the gate; no layer in SwiGLU |
| mlp2 | `mlp.fc2` |
| mlp | `mlp` as a whole, for bottleneck adapters |

ConvNeXt has mlp1 and mlp2, which are linear layers or 1 x 1 convolutions. Positions of
ResNet's blocks:

| position | layer of the block |
|---|---|
| conv1, conv2, conv3 | the convolution of this name |
| downsample | the 1 x 1 convolution of the shortcut, in the first block of a stage |

This module does not import torch. `rsft.peft.modules.adapter_module` finds the layers
of a site.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple, TypeVar, get_args

from rsft.types import Names

LayerPosition = Literal[
    "q", "k", "v", "out", "mlp1", "mlp2", "conv1", "conv2", "conv3", "downsample"
]
"""A position that is a convolution, a linear layer, or rows of one."""

LAYER_POSITIONS: Names = get_args(LayerPosition)
"""These positions in the order of the forward pass."""

POSITIONS = (*LAYER_POSITIONS, "mlp")
"""Positions of a block, in the order of the forward pass."""

ALL_POSITIONS = "all"
"""Selects every position that a block has."""

_BY_LETTER = dict(zip("qkvo12", LAYER_POSITIONS, strict=False))
_BY_NAME = {position: position for position in LAYER_POSITIONS}

_BLOCK_FORMS: dict[str, Callable[..., range]] = {
    r"all": range,
    r"last:(\d+)": lambda depth, count: range(depth - count, depth),
    r"every:([1-9]\d*)": lambda depth, step: range(step - 1, depth, step),
    r"(\d+)-(\d+)": lambda depth, first, last: range(first, last + 1),
}
"""Form of a selection -> function of depth and numbers that returns the indices."""

T = TypeVar("T")
"""Type of a setting's value."""


class Site(NamedTuple):
    """One (block, position) of a network.

    Example:
        >>> str(Site(block=3, position="q"))
        'blocks.3.q'
    """

    block: int
    position: str

    def __str__(self) -> str:
        """Return the name of the site, such as "blocks.3.q"."""
        return f"blocks.{self.block}.{self.position}"


def select_positions(positions: str | Sequence[str]) -> Names:
    """Return the selected positions in forward order.

    Args:
        positions: letters of "qkvo12", names of positions such as ["q", "mlp2"], or
            "all".

    Returns:
        Names of positions.

    Raises:
        ValueError: a letter or a name is not a position, or `positions` is empty.

    Example:
        >>> select_positions("2q")
        ('q', 'mlp2')
        >>> select_positions(["v", "q"])
        ('q', 'v')
    """
    if positions == ALL_POSITIONS:
        return LAYER_POSITIONS
    words = _BY_LETTER if isinstance(positions, str) else _BY_NAME
    if not positions or set(positions) - set(words):
        raise ValueError(
            f"positions {positions!r}: use 'all', letters of 'qkvo12' (query, key,"
            f" value, out, mlp1, mlp2), or a list of {', '.join(LAYER_POSITIONS)}"
        )
    return tuple(position for word, position in words.items() if word in positions)


def select_blocks(blocks: str | Sequence[int], depth: int) -> tuple[int, ...]:
    """Return the indices of the selected blocks in ascending order.

    Args:
        blocks: "all", "last:N", "every:N" (every N-th), a range such as "0-5", or
            indices from 0.
        depth: number of blocks of the network.

    Returns:
        Indices from 0 to depth - 1.

    Raises:
        ValueError: `blocks` has another form, or an index is outside of the network.

    Example:
        >>> select_blocks("last:3", depth=12)
        (9, 10, 11)
        >>> select_blocks("every:4", depth=12)
        (3, 7, 11)
    """
    if not isinstance(blocks, str):
        if not blocks or min(blocks) < 0 or max(blocks) >= depth:
            raise ValueError(
                f"blocks {list(blocks)}: the network has blocks 0 to {depth - 1}"
            )
        return tuple(sorted(set(blocks)))
    for form, select in _BLOCK_FORMS.items():
        match = re.fullmatch(form, blocks)
        if match:
            indices = select(depth, *map(int, match.groups()))
            if indices and indices[0] >= 0 and indices[-1] < depth:
                return tuple(indices)
    raise ValueError(
        f"blocks {blocks!r}: use 'all', 'last:N', 'every:N' (1 <= N <= {depth}), a"
        " range such as '0-5', or a list of indices"
    )


def in_forward_order(sites: Iterable[Site]) -> tuple[Site, ...]:
    """Return sites in the order of the forward pass."""
    return tuple(
        sorted(sites, key=lambda site: (site.block, POSITIONS.index(site.position)))
    )


def resolve_per_site(
    setting: T | Mapping[str, T], sites: Sequence[Site]
) -> dict[Site, T]:
    """Return the value of a setting at every site.

    Args:
        setting: one value for all sites, or values by pattern such as {"blocks.*.q": 8,
            "*": 4}. Patterns are those of the shell (`fnmatch`) on the name of a site,
            "blocks.3.q". The first pattern that matches a site is used.
        sites: the sites to resolve.

    Returns:
        Site -> value.

    Raises:
        ValueError: no pattern matches a site, or a pattern matches no site.

    Example:
        >>> resolve_per_site({"*.q": 8, "*": 4}, [Site(0, "q"), Site(0, "v")])
        {Site(block=0, position='q'): 8, Site(block=0, position='v'): 4}
    """
    if not isinstance(setting, Mapping):
        return dict.fromkeys(sites, setting)
    values = {}
    unused = set(setting)
    for site in sites:
        patterns = [name for name in setting if fnmatchcase(str(site), name)]
        unused.difference_update(patterns)
        if patterns:
            values[site] = setting[patterns[0]]
    if unused:
        raise ValueError(
            f"pattern {min(unused)!r} matches no site; names of sites look like"
            f" {sites[0]}"
        )
    for site in sites:
        if site not in values:
            raise ValueError(f"no pattern matches the site {site}: add '*'")
    return values
