"""Write the encoder in a checkpoint to a safetensors file, tensor by tensor."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rsft.backbones.card import Card, State
from rsft.backbones.checkpoint_files import read_checkpoint
from rsft.backbones.loading import load_encoder_weights, tensor_bytes
from rsft.errors import RequestError, WeightsError
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
    left_out: tuple[str, ...]


def convert_weights(card: Card, source: Path, target: Path) -> ConvertedWeights:
    """Write only the encoder's tensors of a checkpoint to a safetensors file.

    The dtypes of the tensors stay. The metadata of the new file contains the encoder's
    name, the SHA-256 of `source` and the names of the tensors that were left out. Only
    one of the two files is mapped at a time.

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
        count = stream_tensors(temporary, tensors, metadata)
        del tensors  # unmaps the source
        if load_encoder_weights(card, card.size, temporary).sha256 != digest:
            raise WeightsError(
                "the converted weights differ from their source",
                source,
                "report this file",
            )
    return ConvertedWeights(digest, count, left_out)


SAFETENSORS_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""Names of dtypes in the header of a safetensors file."""


def stream_tensors(path: Path, tensors: State, metadata: Mapping[str, str]) -> int:
    """Write tensors to a safetensors file one after another, and return their number.

    `save_file` of some versions of safetensors copies all tensors first. The layout of
    the file is described at https://github.com/huggingface/safetensors#format.
    """
    # this order keeps every tensor aligned
    names = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name in names:
        tensor = tensors[name]
        start = end
        end += tensor.nbytes
        header[name] = {
            "dtype": SAFETENSORS_DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for name in names:
            file.write(tensor_bytes(tensors[name]))
    return len(names)
