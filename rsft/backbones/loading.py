"""Load weights into an architecture: all tensors or none, mapped from the file instead of copied where possible."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.layers.pos_embed_rel import resize_rel_pos_bias_table
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from rsft.backbones.card import Card, Remote, State
from rsft.backbones.checkpoints import read_checkpoint, read_metadata
from rsft.errors import WeightsError
from rsft.utils.licenses import UNKNOWN

_MAX_NAMES_IN_MESSAGE = 3
"""Names of tensors that an error message lists."""


@dataclass(frozen=True)
class Backbone:
    """A frozen vision transformer without its head.

    Attributes:
        name: the name in a recipe.
        sha256: hash of the encoder's tensors (`tensors_sha256`). It depends neither on the file format nor on the input
            size.
        vit: maps (B, len(bands), size, size) to tokens (B, N, D) with `forward_features`. `vit.fc_norm` follows the
            pooling; it is the identity unless the encoder was trained with mean pooling before its last norm. Networks
            of `rsft.backbones.hierarchical` return a feature map instead.
        mean: mean of each input in pre-training, in `unit`.
        std: standard deviation of each input in pre-training, in `unit`.
        bands: names of the inputs, in order.
        unit: "uint8" for bytes scaled to 0-1, else a unit of `rsft.data.imagery`.
        left_out: names of the file's tensors that do not belong to the encoder, such as a decoder or a head.
        license: license of the weights; that of the card if the file is known to be the published one by its name.
    """

    name: str
    sha256: str
    vit: VisionTransformer
    mean: tuple[float, ...]
    std: tuple[float, ...]
    bands: tuple[str, ...]
    unit: str
    left_out: tuple[str, ...] = ()
    license: str = UNKNOWN

    @property
    def width(self) -> int:
        """Width of a token, or number of channels of the feature map."""
        return int(self.vit.num_features)


def load_encoder_weights(card: Card, size: int, path: Path) -> Backbone:
    """Load the encoder that a card describes, frozen and in evaluation mode.

    Float32 tensors stay mapped. Loading takes little more memory than the encoder's size, even if the file is larger.

    Args:
        card: the card of the encoder.
        size: side of the input, in pixels. The position embedding is resampled to this size.
        path: the weights file.

    Returns:
        The encoder for inputs (B, bands, size, size).

    Raises:
        RequestError: the input size is not a multiple of the patch side.
        WeightsError: the file cannot be read, or its tensors are not exactly those of the encoder.
    """
    with torch.device("meta"):  # shapes without memory
        vit = card.build(size)
    stored = read_checkpoint(path)
    state = card.convert(stored)
    used = {tensor.data_ptr() for tensor in state.values()}
    left_out = tuple(sorted(name for name, tensor in stored.items() if tensor.data_ptr() not in used))
    _check_names(state, vit, card, path)
    state = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    resampled = _resample_positions(state, vit, card)
    _check_shapes(resampled, vit, card, path)
    _check_values(state, card, path)
    vit.load_state_dict(resampled, assign=True)
    _initialize_buffers(vit, card, path)
    vit.requires_grad_(False).eval()
    license_text = _license(card, path)
    digest = tensors_sha256(state)
    return Backbone(card.name, digest, vit, card.mean, card.std, card.bands, card.unit, left_out, license_text)


def tensors_sha256(state: State) -> str:
    """Return the SHA-256 of tensors.

    The hash covers one line per tensor, sorted by name, with name, dtype, shape and the SHA-256 of its bytes.

    Args:
        state: name -> tensor.
    """
    with ThreadPoolExecutor() as pool:  # hashing releases the GIL
        lines = pool.map(_hash_line, sorted(state), (state[name] for name in sorted(state)))
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def _license(card: Card, path: Path) -> str:
    """Return the license of a weights file: that of the card, if the file has the published name or was made from it.

    `rsft weights convert` writes the name of the encoder into its files.
    """
    published = card.weights.file if isinstance(card.weights, Remote) else card.weights.name
    if path.name == published or read_metadata(path).get("backbone") == card.name:
        return card.license
    return f"{UNKNOWN}; the weights are those of {path.name}"


def _hash_line(name: str, tensor: Tensor) -> str:
    numbers: NDArray[np.uint8] = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
    return f"{name} {_dtype_and_shape(tensor)} {hashlib.sha256(numbers.data).hexdigest()}\n"


def _resample_positions(state: dict[str, Tensor], vit: VisionTransformer, card: Card) -> dict[str, Tensor]:
    """Resample position embeddings and tables of relative positions to the grid of the encoder.

    A tensor of another shape is returned unchanged, and `_check_shapes` refuses it.
    """
    changed: dict[str, Tensor] = {}
    for name, target in vit.state_dict().items():
        if state[name].shape == target.shape:
            continue
        if name == "pos_embed":
            changed[name] = _resample_embedding(state[name], target, vit.patch_embed.grid_size, card.antialias)
        elif name.endswith("relative_position_bias_table"):
            attention: Any = vit.get_submodule(name.rpartition(".")[0])
            grid = getattr(attention, "window_size", vit.patch_embed.grid_size)  # a window is the grid, but in Swin
            changed[name] = _resample_table(state[name], target, grid)
    return state | changed


def _resample_embedding(stored: Tensor, target: Tensor, grid: tuple[int, int], antialias: bool) -> Tensor:
    """Resample a position embedding from (1, prefix + n^2, D) to (1, prefix + m^2, D)."""
    prefix = target.shape[1] - math.prod(grid)
    side = math.isqrt(max(0, stored.shape[1] - prefix)) if stored.ndim == 3 else 0
    if not side or stored.shape != (1, prefix + side**2, target.shape[2]):
        return stored
    return cast(Tensor, resample_abs_pos_embed(stored, list(grid), [side, side], prefix, antialias=antialias))


def _resample_table(stored: Tensor, target: Tensor, grid: tuple[int, int]) -> Tensor:
    """Resample a table of relative positions from ((2n - 1)^2 + k, heads) to ((2m - 1)^2 + k, heads), as timm does."""
    extra = target.shape[0] - math.prod(2 * side - 1 for side in grid)
    side = math.isqrt(max(0, stored.shape[0] - extra)) if stored.ndim == 2 else 0
    if not side or stored.shape != (side**2 + extra, target.shape[1]):
        return stored
    return cast(Tensor, resize_rel_pos_bias_table(stored, grid, target.shape))


def _initialize_buffers(vit: VisionTransformer, card: Card, path: Path) -> None:
    """Compute the buffers that no checkpoint contains, such as the periods of rotary embeddings.

    They were built on the meta device and have no values yet.
    """
    for path_in_vit, module in vit.named_modules():
        names = [name for name, buffer in module.named_buffers(recurse=False) if buffer.is_meta]
        if not names:
            continue
        if not hasattr(module, "init_non_persistent_buffers"):
            message = f"timm {timm.__version__} cannot initialize {path_in_vit}.{names[0]} of {card.name}"
            raise WeightsError(message, path, "install a newer version of timm")
        for name in names:
            module.register_buffer(name, torch.empty_like(module.get_buffer(name), device="cpu"), persistent=False)
        cast(Any, module).init_non_persistent_buffers()


def _check_names(state: State, vit: VisionTransformer, card: Card, path: Path) -> None:
    expected = vit.state_dict().keys()
    missing, unexpected = (
        [name for name in expected if name not in state],
        [name for name in state if name not in expected],
    )
    if missing or unexpected:
        faults = [f"{len(expected) - len(missing)} of the {len(expected)} tensors of {card.name} are in the file"]
        faults += [f"missing: {_first_few(missing)}"] if missing else []
        faults += [f"not expected: {_first_few(unexpected)}"] if unexpected else []
        raise WeightsError("; ".join(faults), path, _hint_other_file(card))


def _check_shapes(state: State, vit: VisionTransformer, card: Card, path: Path) -> None:
    faults = [
        f"{name} is {_dtype_and_shape(state[name])}, not {_dtype_and_shape(expected)}"
        for name, expected in vit.state_dict().items()
        if _dtype_and_shape(state[name]) != _dtype_and_shape(expected)
    ]
    if faults:
        message = f"{len(faults)} of the {len(state)} tensors do not fit {card.name}: {_first_few(faults)}"
        raise WeightsError(message, path, _hint_other_file(card))


def _check_values(state: State, card: Card, path: Path) -> None:
    faults = [name for name, tensor in state.items() if not tensor.sum().isfinite()]  # a sum needs no extra memory
    if faults:
        message = f"{len(faults)} of the {len(state)} tensors of {card.name} hold NaN or infinity: {_first_few(faults)}"
        raise WeightsError(message, path, "download it again")


def _dtype_and_shape(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {'x'.join(map(str, tensor.shape)) or 'scalar'}"


def _first_few(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _MAX_NAMES_IN_MESSAGE} more" if len(names) > _MAX_NAMES_IN_MESSAGE else ""
    return ", ".join(names[:_MAX_NAMES_IN_MESSAGE]) + more


def _hint_other_file(card: Card) -> str:
    usual_file = (
        f"{card.weights.file} of {card.weights.page}"
        if isinstance(card.weights, Remote)
        else "the one in the rsft package"
    )
    return f"name the encoder that the file holds, or use the file of this encoder: {usual_file}"
