"""Find the blocks of a network: of a plain vision transformer, or of all stages of a hierarchical network."""

from __future__ import annotations

from torch import nn


def named_blocks(network: nn.Module) -> dict[str, nn.Module]:
    """Return the blocks of a timm network in forward order.

    Args:
        network: a plain vision transformer (`blocks`), a Swin transformer or ConvNeXt (`layers` or `stages`, each with
            `blocks`), or a ResNet (`layer1`, `layer2`, ...).

    Returns:
        Dotted name of the module, such as "blocks.3", "stages.0.blocks.1" or "layer1.2" -> block.

    Raises:
        ValueError: the network has no blocks.
    """
    blocks = _children(network, "blocks")
    for name in ("layers", "stages"):
        for stage, module in _children(network, name).items():
            blocks |= {f"{stage}.{path}": block for path, block in _children(module, "blocks").items()}
    number = 1
    while stage_blocks := _children(network, f"layer{number}"):
        blocks |= stage_blocks
        number += 1
    if not blocks:
        raise ValueError(
            f"{type(network).__name__} has no blocks: a timm network has them in `blocks` (plain vision transformer), "
            "in the stages `layers` or `stages` (Swin, ConvNeXt), or in `layer1`, `layer2`, ... (ResNet)"
        )
    return blocks


def is_hierarchical(network: nn.Module) -> bool:
    """Return whether a network has stages of different resolution, so that feature maps pass between its blocks.

    Args:
        network: a network for which `named_blocks` finds blocks.
    """
    return not next(iter(named_blocks(network))).startswith("blocks.")


def stage_depths(network: nn.Module) -> list[int]:
    """Return the number of blocks in each stage of a network; one number for a plain vision transformer.

    Args:
        network: a network for which `named_blocks` finds blocks.

    Example:
        >>> import timm
        >>> stage_depths(timm.create_model("resnet18"))
        [2, 2, 2, 2]
    """
    stages = [name.removesuffix(f".{name.rpartition('.')[2]}") for name in named_blocks(network)]
    return [stages.count(stage) for stage in dict.fromkeys(stages)]


def require_tokens(network: nn.Module, method: str, reason: str) -> None:
    """Raise an error if a network is hierarchical.

    Args:
        network: a network for which `named_blocks` finds blocks.
        method: name of the PEFT method that needs tokens.
        reason: why the method needs them.

    Raises:
        ValueError: the network is hierarchical.
    """
    if is_hierarchical(network):
        raise ValueError(
            f"{method} needs a plain vision transformer, and {type(network).__name__} is not one: {reason}"
        )


def _children(module: nn.Module, name: str) -> dict[str, nn.Module]:
    """Return the children of a container by dotted name; nothing if it is not a container of modules."""
    container = getattr(module, name, None)
    if not isinstance(container, nn.Sequential | nn.ModuleList):
        return {}
    return {f"{name}.{index}": child for index, child in enumerate(container)}
