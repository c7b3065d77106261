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

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple, TypeVar

LAYER_POSITIONS = (
    "q",
    "k",
    "v",
    "out",
    "mlp1",
    "mlp2",
    "conv1",
    "conv2",
    "conv3",
    "downsample",
)
"""The positions that are convolutions, linear layers, or rows of one."""

POSITIONS = (*LAYER_POSITIONS, "mlp")
"""Positions of a block, in the order of the forward pass."""

ALL_POSITIONS = "all"
"""Selects every position that a block has."""

_LETTERS = dict(zip("qkvo12", LAYER_POSITIONS, strict=False))

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


def select_positions(positions: str | Sequence[str]) -> tuple[str, ...]:
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
    if isinstance(positions, str):
        unknown = sorted(set(positions) - set(_LETTERS))
        if unknown or not positions:
            raise ValueError(
                f"positions {positions!r}: use 'all' or letters of 'qkvo12' (query,"
                " key, value, out, mlp1, mlp2)"
            )
        return tuple(
            position for letter, position in _LETTERS.items() if letter in positions
        )
    if not positions or set(positions) - set(LAYER_POSITIONS):
        raise ValueError(
            f"positions {list(positions)}: use names of {', '.join(LAYER_POSITIONS)}"
        )
    return tuple(position for position in LAYER_POSITIONS if position in positions)


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
        outside = [index for index in blocks if not 0 <= index < depth]
        if outside or not blocks:
            raise ValueError(
                f"blocks {list(blocks)}: the network has blocks 0 to {depth - 1}"
            )
        return tuple(sorted(set(blocks)))
    if blocks == "all":
        return tuple(range(depth))
    low, dash, high = blocks.partition("-")
    if dash and low.isdecimal() and high.isdecimal() and int(low) <= int(high) < depth:
        return tuple(range(int(low), int(high) + 1))
    form, _, number = blocks.partition(":")
    if form in ("last", "every") and number.isdecimal() and 1 <= int(number) <= depth:
        count = int(number)
        if form == "last":
            return tuple(range(depth - count, depth))
        return tuple(range(count - 1, depth, count))
    forms = (
        f"'all', 'last:N', 'every:N' (1 <= N <= {depth}), a range such as '0-5', or a"
        " list of indices"
    )
    raise ValueError(f"blocks {blocks!r}: use {forms}")


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
    matches = {
        site: [pattern for pattern in setting if fnmatchcase(str(site), pattern)]
        for site in sites
    }
    unused = set(setting) - {
        pattern for patterns in matches.values() for pattern in patterns
    }
    if unused:
        raise ValueError(
            f"pattern {min(unused)!r} matches no site; names of sites look like"
            f" {sites[0]}"
        )
    for site, patterns in matches.items():
        if not patterns:
            raise ValueError(f"no pattern matches the site {site}: add '*'")
    return {site: setting[patterns[0]] for site, patterns in matches.items()}
