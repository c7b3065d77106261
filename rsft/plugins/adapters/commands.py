"""The command that makes a bundle of an adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from rsft.cli.display.console import console, show_paths
from rsft.cli.options import OUT, documented
from rsft.types import Names
from rsft.utils.command_options import Argument, Option


@documented
def bundle_import(
    adapter: Annotated[Path, Argument()],
    out: Annotated[Path, OUT],
    classes: Annotated[Names, Option(metavar="NAME,NAME")],
    size: Annotated[int, Option(min=1)],
    backbone: str | None = None,
    weights: Path | None = None,
    bands: Names = ("R", "G", "B"),
    pool: str = "token",
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    overwrite: bool = False,
) -> None:
    """Make a bundle of a LoRA adapter of Hugging Face PEFT, with its linear head.

    The adapter belongs to a network of timm. The bundle takes images of bytes and gives
    the logits of the adapter. What it cannot hold is refused.

    Args:
        adapter: Folder of save_pretrained: adapter_config.json,
            adapter_model.safetensors, and the head.
        out: Folder of the bundle.
        classes: Names of the classes in the order of the logits, with commas.
        size: Side of the network's input, in pixels.
        backbone: Encoder (default: the base that the adapter names, if it is one of
            timm).
        weights: File of the encoder's weights (default: the published ones).
        bands: Names of the bands of an image, with commas; one band is repeated for all
            inputs.
        pool: Feature: token (class token) or avg (mean of the patch tokens or of the
            feature map).
        mean: Mean of each input in the training, 0-1, with commas (default: that of the
            encoder).
        std: Standard deviation of each input in the training, 0-1, with commas
            (default: that of the encoder).
    """
    from rsft.plugins.adapters.adapter_import import ImportedInput, import_adapter

    inputs = ImportedInput(size, bands, mean, std, pool)
    bundle = import_adapter(
        adapter,
        out,
        classes,
        inputs,
        backbone=backbone,
        weights=weights,
        overwrite=overwrite,
    )
    contract = bundle.contract
    method = bundle.recipe.peft.settings
    positions = ", ".join(method["positions"])
    for line in (
        f"LoRA at {positions} of {len(method['blocks'])} blocks, and the head",
        f"images of bytes are normalized with mean {contract.mean} and std"
        f" {contract.std}",
        "probabilities are not calibrated, and the numbers of training chips are"
        " unknown",
    ):
        console.print(line)
    show_paths({"bundle": out})
