"""Convert a checkpoint of another project to a safetensors file with the encoder's tensors only."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save_file

from rsft.backbones.card import Card
from rsft.backbones.checkpoints import read_checkpoint
from rsft.backbones.loading import Backbone, load_encoder_weights
from rsft.errors import RequestError, WeightsError
from rsft.utils.atomic_files import atomic_file, sha256


def convert_weights(card: Card, source: Path, target: Path) -> Backbone:
    """Write only the encoder's tensors of a checkpoint to a safetensors file.

    The dtypes of the tensors stay. The metadata of the new file contains the encoder's name and the SHA-256 of
    `source`.

    Args:
        card: the card of the encoder in `source`.
        source: the checkpoint.
        target: the new file, with suffix .safetensors.

    Returns:
        The encoder, loaded from the new file's tensors.

    Raises:
        RequestError: `target` has another suffix.
        WeightsError: `source` cannot be read, or does not contain the whole encoder.
    """
    if target.suffix != ".safetensors":
        raise RequestError(
            f"weights are written as .safetensors, not as {target.suffix or 'a file without a suffix'}", target
        )
    backbone = load_encoder_weights(card, card.size, source)
    tensors = {name: tensor.contiguous().clone() for name, tensor in card.convert(read_checkpoint(source)).items()}
    metadata = {
        "format": "pt",
        "backbone": card.name,
        "encoder_sha256": backbone.sha256,
        "source": source.name,
        "source_sha256": sha256(source),
    }
    with atomic_file(target) as temporary:
        save_file(tensors, temporary, metadata)
        if load_encoder_weights(card, card.size, temporary).sha256 != backbone.sha256:
            raise WeightsError("the converted weights differ from their source", source, "report this file")
    return backbone
