"""Weights into an architecture: every tensor or none, and nothing copied that can stay in the file."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from rsft.backbones.card import Card, Remote, State
from rsft.backbones.checkpoints import read_checkpoint
from rsft.errors import WeightsError

_SHOWN = 3  # names in a message


@dataclass(frozen=True)
class Backbone:
    """A frozen vision transformer without its head.

    Attributes:
        name: as a recipe names it.
        sha256: of the encoder's tensors (see `digest`), whatever file they came in and whatever the input size.
        vit: maps (B, len(bands), size, size) to tokens (B, N, width) by `forward_features`; `vit.fc_norm` follows the
            pooling, and is the identity unless the encoder was trained with mean pooling before its last norm.
        mean, std: of the inputs it was trained on, one a band, in `unit`.
        bands: names of the inputs, in order.
        unit: "uint8" for bytes as 0-1, else a unit of `rsft.data.imagery`.
        left_out: names of the file's tensors that belong to no encoder: a decoder, a head.
    """

    name: str
    sha256: str
    vit: VisionTransformer
    mean: tuple[float, ...]
    std: tuple[float, ...]
    bands: tuple[str, ...]
    unit: str
    left_out: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """Features of a token."""
        return int(self.vit.embed_dim)


def load_encoder_weights(card: Card, size: int, path: Path) -> Backbone:
    """The encoder of `card` with the weights in `path`, for inputs of `size` x `size`, frozen and in evaluation mode.

    Float32 tensors stay mapped: loading takes little more memory than the encoder's size, however large the file.

    Raises:
        RequestError: an input side that the patches do not divide.
        WeightsError: a file that cannot be read, or whose tensors are not exactly those of the encoder.
    """
    with torch.device("meta"):  # shapes alone
        vit = card.build(size)
    stored = read_checkpoint(path)
    state = card.convert(stored)
    used = {id(tensor) for tensor in state.values()}
    left_out = tuple(sorted(name for name, tensor in stored.items() if id(tensor) not in used))
    _check_names(state, vit, card, path)
    state = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    resampled = _resampled(state, vit, card)
    _check_shapes(resampled, vit, card, path)
    _check_values(state, card, path)
    vit.load_state_dict(resampled, assign=True)
    vit.requires_grad_(False).eval()
    return Backbone(card.name, tensors_sha256(state), vit, card.mean, card.std, card.bands, card.unit, left_out)


def tensors_sha256(state: State) -> str:
    """SHA-256 over a line for each tensor, in the order of the names: name, type, shape and SHA-256 of its bytes."""
    with ThreadPoolExecutor() as pool:  # hashing leaves the interpreter to the others
        lines = pool.map(_line, sorted(state), (state[name] for name in sorted(state)))
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def _line(name: str, tensor: Tensor) -> str:
    numbers: NDArray[np.uint8] = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
    return f"{name} {_kind(tensor)} {hashlib.sha256(numbers.data).hexdigest()}\n"


def _resampled(state: dict[str, Tensor], vit: VisionTransformer, card: Card) -> dict[str, Tensor]:
    """Position embedding (1, prefix + n^2, D) -> (1, prefix + m^2, D); another form is left to the check."""
    wanted = vit.pos_embed
    if wanted is None or state["pos_embed"].shape == wanted.shape:
        return state
    stored = state["pos_embed"]
    prefix = 0 if vit.no_embed_class else vit.num_prefix_tokens
    side = math.isqrt(max(0, stored.shape[1] - prefix)) if stored.ndim == 3 else 0
    if not side or stored.shape != (1, prefix + side**2, wanted.shape[2]):
        return state
    grid = list(vit.patch_embed.grid_size)
    new = resample_abs_pos_embed(stored, grid, [side, side], prefix, antialias=card.antialias)
    return state | {"pos_embed": new}


def _check_names(state: State, vit: VisionTransformer, card: Card, path: Path) -> None:
    wanted = vit.state_dict().keys()
    missing, strange = [name for name in wanted if name not in state], [name for name in state if name not in wanted]
    if missing or strange:
        faults = [f"{len(wanted) - len(missing)} of the {len(wanted)} tensors of {card.name} are in the file"]
        faults += [f"missing: {_some(missing)}"] if missing else []
        faults += [f"not expected: {_some(strange)}"] if strange else []
        raise WeightsError("; ".join(faults), path, _other_file(card))


def _check_shapes(state: State, vit: VisionTransformer, card: Card, path: Path) -> None:
    faults = [
        f"{name} is {_kind(state[name])}, not {_kind(wanted)}"
        for name, wanted in vit.state_dict().items()
        if _kind(state[name]) != _kind(wanted)
    ]
    if faults:
        what = f"{len(faults)} of the {len(state)} tensors do not fit {card.name}: {_some(faults)}"
        raise WeightsError(what, path, _other_file(card))


def _check_values(state: State, card: Card, path: Path) -> None:
    faults = [name for name, tensor in state.items() if not tensor.sum().isfinite()]  # a sum needs no memory
    if faults:
        what = f"{len(faults)} of the {len(state)} tensors of {card.name} hold infinite values or none: {_some(faults)}"
        raise WeightsError(what, path, "fetch it anew")


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {'x'.join(map(str, tensor.shape)) or 'scalar'}"


def _some(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _other_file(card: Card) -> str:
    own = (
        f"{card.weights.file} of {card.weights.page}" if isinstance(card.weights, Remote) else "the one in rsft itself"
    )
    return f"name the encoder that the file holds, or take the file of this one: {own}"
