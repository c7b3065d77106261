"""Write the encoder in a checkpoint to a safetensors file."""

import json
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save_file

from rsft.backbones.card import Card
from rsft.backbones.checkpoint_files import read_checkpoint
from rsft.backbones.loading import load_encoder_weights
from rsft.errors import RequestError
from rsft.types import Names
from rsft.utils.atomic_files import atomic_file, sha256


@dataclass(frozen=True)
class ConvertedWeights:
    """The content of a file that `convert_weights` wrote.

    Attributes:
        sha256: SHA-256 of the encoder's tensors.
        count: number of tensors in the file.
        left_out: names of the tensors of the source that do not belong to the encoder.
    """

    sha256: str
    count: int
    left_out: Names


def convert_weights(card: Card, source: Path, target: Path) -> ConvertedWeights:
    """Write only the encoder's tensors of a checkpoint to a safetensors file.

    The dtypes of the tensors stay. The metadata of the new file contains the encoder's
    name, the SHA-256 of `source` and the names of the tensors that were left out.

    Args:
        card: the card of the encoder in `source`.
        source: the checkpoint.
        target: the new file, with suffix .safetensors.

    Returns:
        What the new file contains.

    Raises:
        RequestError: `target` has another suffix.
        WeightsError: `source` cannot be read, or does not contain the whole encoder.
    """
    if target.suffix != ".safetensors":
        other = target.suffix or "a file without a suffix"
        raise RequestError(
            f"weights are written as .safetensors, not as {other}", target
        )
    backbone = load_encoder_weights(card, card.size, source)
    digest = backbone.sha256
    left_out = backbone.left_out
    del backbone  # unmaps the source
    metadata = {
        "format": "pt",
        "backbone": card.name,
        "encoder_sha256": digest,
        "source": source.name,
        "source_sha256": sha256(source),
        "left_out": json.dumps(left_out),
    }
    with atomic_file(target) as temporary:
        tensors = card.convert(read_checkpoint(source))
        contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
        save_file(contiguous, temporary, metadata)
    return ConvertedWeights(digest, len(tensors), left_out)
