"""Find encoders by name, and load their weights: all tensors or none."""

import difflib
import hashlib
import math
import re
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import timm
import torch
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.layers.pos_embed_rel import resize_rel_pos_bias_table
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from rsft.backbones.card import (
    Card,
    Remote,
    State,
    find_weights,
    published_checksum,
)
from rsft.backbones.checkpoint_files import read_checkpoint, read_metadata
from rsft.backbones.padded_windows import has_padding, shrink_windows
from rsft.backbones.registered import registered_cards
from rsft.backbones.unusable import check_usable
from rsft.errors import RequestError, WeightsError
from rsft.types import Names
from rsft.utils.atomic_files import sha256
from rsft.utils.licenses import UNKNOWN
from rsft.utils.user_folders import weights_dir


def names() -> list[str]:
    """Return the names of all encoders that `rsft backbones ls` lists.

    They are those of rsft and other packages, of timm and of TorchGeo, in this order.
    `find_card` also accepts timm's other ViTs.
    """
    from rsft.backbones import timm_vits, torchgeo_vits

    return [
        *registered_cards(),
        *timm_vits.NAMES,
        *timm_vits.HIERARCHICAL_NAMES,
        *torchgeo_vits.torchgeo_names(),
    ]


def find_card(name: str, blocks: int | None = None) -> Card:
    """Return the card of an encoder of rsft, timm or TorchGeo.

    Args:
        name: its name; `timm:MODEL` takes weights from a local file.
        blocks: number of transformer blocks to keep, from the first; None keeps all.

    Raises:
        RequestError: the encoder is unknown, or has no tokens that could be fine-tuned.
    """
    card = registered_cards().get(name) or _external_card(name)
    if not card:
        raise RequestError(
            f"no encoder is called {name!r}", "backbone.name", _hint_similar(name)
        )
    if blocks is None:
        return card
    return _with_first_blocks(card, blocks)


def _hint_similar(word: str) -> str:
    """Return a hint with the names of encoders, and parts of names, like a word."""
    hint = "`rsft backbones ls` lists all encoders"
    words = {}
    for name in names():
        for part in (*re.split(r"[._:]", name), name):
            words[part.lower()] = part
    similar = difflib.get_close_matches(word.lower(), words, n=3)
    if similar:
        hint = f"the nearest are {', '.join(words[name] for name in similar)}; {hint}"
    return hint


def _external_card(name: str) -> Card | None:
    """Return the card of an encoder of timm or TorchGeo; None if neither has one.

    Raises:
        RequestError: the encoder is known and cannot be used.
    """
    from rsft.backbones import timm_vits, torchgeo_vits

    check_usable(name)
    return timm_vits.timm_card(name) or torchgeo_vits.torchgeo_card(name)


def _with_first_blocks(card: Card, blocks: int) -> Card:
    """Return the card of a shorter encoder: its first blocks and its final norm.

    Its weights file may contain all blocks, or only the first ones.
    """

    def build(size: int, **options: Any) -> VisionTransformer:
        vit = card.build(size, **options)
        if not hasattr(vit, "blocks"):
            raise RequestError(
                f"{card.name} has stages of different resolution, so its first blocks"
                " are no encoder",
                "backbone.blocks",
                "leave the key out",
            )
        if blocks > len(vit.blocks):
            raise RequestError(
                f"{card.name} has {len(vit.blocks)} blocks, not {blocks}",
                "backbone.blocks",
            )
        vit.blocks = nn.Sequential(*list(vit.blocks.children())[:blocks])
        return vit

    def convert(state: State) -> State:
        tensors = card.convert(state)
        kept = {}
        for name, tensor in tensors.items():
            match = re.match(r"blocks\.(\d+)\.", name)
            if not match or int(match[1]) < blocks:
                kept[name] = tensor
        return kept

    about = f"{card.about}; the first {blocks} blocks"
    return replace(card, about=about, build=build, convert=convert)


_MAX_NAMES = 3
"""Tensors that an error message lists for each kind of fault."""


@dataclass(frozen=True)
class Backbone:
    """A frozen vision transformer without its head.

    Attributes:
        name: the name in a recipe.
        sha256: hash of the encoder's tensors (`tensors_sha256`), and of whether it pads
            its windows at this input size. It does not depend on the file format.
        vit: maps (B, len(bands), size, size) to tokens (B, N, D) with
            `forward_features`. `vit.fc_norm` follows the pooling; it is the identity
            unless the encoder was trained with mean pooling before its last norm.
            Networks of `rsft.backbones.timm_vits` return a feature map instead.
        mean: mean of each input in pre-training, in `unit`.
        std: standard deviation of each input in pre-training, in `unit`.
        bands: names of the inputs, in order.
        unit: "uint8" for bytes scaled to 0-1, else a unit of `rsft.data.imagery`.
        left_out: names of the file's tensors that do not belong to the encoder, such as
            a decoder or a head.
        license: license of the weights; that of the card if the file is known to be the
            published one by its name.
        is_random: whether the weights are random. Then a recipe must train all of them,
            and `sha256` only depends on their names and shapes.
        shrunk_sha256: hash of the encoder in rsft 0.2, whose windows shrank instead of
            being padded; None if no window is padded.
    """

    name: str
    sha256: str
    vit: VisionTransformer
    mean: tuple[float, ...]
    std: tuple[float, ...]
    bands: Names
    unit: str
    left_out: Names = ()
    license: str = UNKNOWN
    is_random: bool = False
    shrunk_sha256: str | None = None

    @property
    def width(self) -> int:
        """Width of a token, or number of channels of the feature map."""
        return int(self.vit.num_features)


def load_backbone(
    name: str,
    size: int,
    weights: Path | None = None,
    blocks: int | None = None,
    seed: int = 0,
) -> Backbone:
    """Load an encoder, frozen and in evaluation mode.

    Args:
        name: the name in a recipe.
        size: side of the input, in pixels.
        weights: a file of the same architecture. A bare file name is also looked up in
            the weights folder. None takes the default file of the card, from this
            package or from the weights folder.
        blocks: number of transformer blocks to keep, from the first; None keeps all.
        seed: seed of the random weights of an encoder that has no others.

    Returns:
        The encoder for inputs (B, bands, size, size).

    Raises:
        RequestError: the encoder is unknown or has fewer blocks, or the size is not a
            multiple of its patch side.
        WeightsError: the weights are missing, incomplete or altered.

    Example:
        >>> encoder = load_backbone("vit_tiny_patch8_64.simship", 64)
        >>> encoder.bands, encoder.unit, encoder.width
        (('R', 'G', 'B'), 'uint8', 192)
        >>> tokens = encoder.vit.forward_features(torch.zeros(1, 3, 64, 64))
        >>> tokens.shape
        torch.Size([1, 65, 192])
    """
    card = find_card(name, blocks)
    if weights is None:
        if card.is_frozen:
            vit = card.build(size)
            digest = tensors_sha256(vit.state_dict())
            return make_backbone(card, vit, digest, license=card.license)
        if not card.weights:
            return _start_at_random(card, size, seed)
        weights = find_weights(card)
        if isinstance(card.weights, Path):
            _check_packaged(card, weights)
    elif weights.name == str(weights) and not weights.exists():
        in_folder = weights_dir() / weights
        if in_folder.exists():
            weights = in_folder
    return load_encoder_weights(card, size, weights)


def _check_packaged(card: Card, weights: Path) -> None:
    """Raise an error unless a file of this package agrees with its model card."""
    if sha256(weights) != published_checksum(card):
        raise WeightsError(
            f"the weights of {card.name} differ from their model card",
            weights,
            "reinstall rsft",
        )


def _start_at_random(card: Card, size: int, seed: int) -> Backbone:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vit = card.build(size)
    zeros = {name: torch.zeros_like(x) for name, x in vit.state_dict().items()}
    digest = tensors_sha256(zeros)
    return make_backbone(card, vit, digest, license=card.license, is_random=True)


def make_backbone(
    card: Card, vit: VisionTransformer, digest: str, **fields: Any
) -> Backbone:
    """Return a frozen encoder, with what its card says of its inputs."""
    return Backbone(
        name=card.name,
        sha256=digest,
        vit=vit.requires_grad_(False).eval(),
        mean=card.mean,
        std=card.std,
        bands=card.bands,
        unit=card.unit,
        **fields,
    )


def load_encoder_weights(card: Card, size: int, path: Path) -> Backbone:
    """Load the encoder that a card describes, frozen and in evaluation mode.

    Float32 tensors stay mapped. Loading takes little more memory than the encoder's
    size, even if the file is larger.

    Args:
        card: the card of the encoder.
        size: side of the input, in pixels. The position embedding is resampled to this
            size.
        path: the weights file.

    Returns:
        The encoder for inputs (B, bands, size, size).

    Raises:
        RequestError: the input size is not a multiple of the patch side.
        WeightsError: the file cannot be read, or its tensors are not exactly those of
            the encoder.
    """
    with torch.device("meta"):  # shapes without memory
        vit = card.build(size)
    stored = read_checkpoint(path)
    state = card.convert(stored)
    used = {tensor.data_ptr() for tensor in state.values()}
    left_out = [name for name, x in stored.items() if x.data_ptr() not in used]
    channels = _other_channels(state, vit)
    if channels is not None and card.name.startswith("timm:"):
        card = _with_channels(card, channels)
        with torch.device("meta"):
            vit = card.build(size)
    for name, tensor in state.items():
        if tensor.is_floating_point():
            state[name] = tensor.float()
    resampled = _resample_positions(state, vit, card)
    _check_tensors(resampled, vit, card, path)
    vit.load_state_dict(resampled, assign=True)
    _initialize_buffers(vit, card, path)
    terms = card.license
    if not _is_published(card, path):
        terms = f"{UNKNOWN}; the weights are those of {path.name}"
    digest = tensors_sha256(state)
    shrunk_digest = None
    if has_padding(vit):
        shrunk_digest = digest
        digest = hashlib.sha256(f"{digest} with padded windows".encode()).hexdigest()
    return make_backbone(
        card,
        vit,
        digest,
        left_out=tuple(sorted(left_out)),
        license=terms,
        shrunk_sha256=shrunk_digest,
    )


def with_shrunk_windows(backbone: Backbone) -> Backbone:
    """Return an encoder with padded windows as rsft 0.2 computed it."""
    assert backbone.shrunk_sha256 is not None
    shrink_windows(backbone.vit)
    return replace(backbone, sha256=backbone.shrunk_sha256, shrunk_sha256=None)


def _is_published(card: Card, path: Path) -> bool:
    """Return whether the name of a file, or the name in it, is that of the encoder.

    `rsft weights convert` writes the name of the encoder into its files.
    """
    published = ""
    if isinstance(card.weights, Remote):
        published = card.weights.file
    elif card.weights:
        published = card.weights.name
    return path.name == published or read_metadata(path).get("backbone") == card.name


def _check_tensors(
    state: State, vit: VisionTransformer, card: Card, path: Path
) -> None:
    """Raise an error unless tensors are exactly those of an encoder, and finite."""
    expected = vit.state_dict()
    faults: dict[str, list[str]] = defaultdict(list)
    for name, target in expected.items():
        tensor = state.get(name)
        shape = _dtype_and_shape(target)
        if tensor is None:
            faults["missing"].append(name)
        elif _dtype_and_shape(tensor) != shape:
            text = f"{name} is {_dtype_and_shape(tensor)}, not {shape}"
            faults["of another shape"].append(text)
        elif not tensor.sum().isfinite():  # a sum needs no extra memory
            faults["NaN or infinity in"].append(name)
    sound = len(expected) - sum(map(len, faults.values()))
    unexpected = [name for name in state if name not in expected]
    if unexpected:
        faults["not expected"] = unexpected
    if not faults:
        return
    message = f"{sound} of the {len(expected)} tensors of {card.name} are in the file"
    for kind, texts in faults.items():
        message += f"; {kind}: {', '.join(texts[:_MAX_NAMES])}"
        if len(texts) > _MAX_NAMES:
            message += f" and {len(texts) - _MAX_NAMES} more"
    usual = "the one in the rsft package"
    if isinstance(card.weights, Remote):
        usual = f"{card.weights.file} of {card.weights.page}"
    raise WeightsError(
        message,
        path,
        "name the encoder that the file holds, or use the file of this encoder:"
        f" {usual}",
    )


def _other_channels(state: State, vit: VisionTransformer) -> int | None:
    """Return the channels of the first layer of a file, if they alone differ."""
    for name, tensor in vit.state_dict().items():
        expected = tensor.shape
        actual = state.get(name, tensor).shape
        if len(expected) != 4 or len(actual) != 4 or actual == expected:
            continue
        if actual[0] == expected[0] and actual[2:] == expected[2:]:
            return int(actual[1])
    return None


def _with_channels(card: Card, channels: int) -> Card:
    """Return the card of a network of timm that was trained on other images."""
    inputs = range(channels)
    return replace(
        card,
        bands=tuple(f"input {index}" for index in inputs),
        mean=tuple(card.mean[index % len(card.mean)] for index in inputs),
        std=tuple(card.std[index % len(card.std)] for index in inputs),
        build=partial(card.build, in_chans=channels),
    )


def tensors_sha256(state: State) -> str:
    """Return the SHA-256 of tensors by name.

    The hash covers one line per tensor, sorted by name, with name, dtype, shape and the
    SHA-256 of its bytes.
    """
    names = sorted(state)

    def digest(name: str) -> str:
        values = state[name].detach().contiguous().reshape(-1).view(torch.uint8)
        content = hashlib.sha256(values.numpy().data).hexdigest()
        return f"{name} {_dtype_and_shape(state[name])} {content}\n"

    with ThreadPoolExecutor() as pool:  # hashing releases the GIL
        lines = "".join(pool.map(digest, names))
    return hashlib.sha256(lines.encode()).hexdigest()


def _resample_positions(state: State, vit: VisionTransformer, card: Card) -> State:
    """Resample the embeddings of positions to the grid of the encoder, as timm does.

    A tensor that is none, and has another shape than that of the encoder, is returned
    unchanged.
    """
    resampled = dict(state)
    for name, target in vit.state_dict().items():
        stored = state.get(name, target)
        if stored.shape == target.shape:
            continue
        if name == "pos_embed" and stored.ndim == 3:
            resampled[name] = _resample_absolute(stored, target, vit, card)
        elif name.endswith("relative_position_bias_table") and stored.ndim == 2:
            # a window is the grid, but in Swin
            attention: Any = vit.get_submodule(name.rpartition(".")[0])
            grid = getattr(attention, "window_size", vit.patch_embed.grid_size)
            resampled[name] = _resample_relative(stored, target, grid)
    return resampled


def _resample_absolute(
    stored: Tensor, target: Tensor, vit: VisionTransformer, card: Card
) -> Tensor:
    """Resample embeddings (1, prefix + n^2, D) to (1, prefix + m^2, D)."""
    grid = vit.patch_embed.grid_size
    prefix = target.shape[1] - math.prod(grid)
    side = math.isqrt(max(0, stored.shape[1] - prefix))
    if not side or stored.shape != (1, prefix + side**2, target.shape[2]):
        return stored
    resampled: Tensor = resample_abs_pos_embed(
        stored, list(grid), [side, side], prefix, antialias=card.antialias
    )
    return resampled


def _resample_relative(stored: Tensor, target: Tensor, grid: Any) -> Tensor:
    """Resample a table ((2n - 1)^2 + k, heads) to ((2m - 1)^2 + k, heads)."""
    extra = target.shape[0] - math.prod(2 * side - 1 for side in grid)
    side = math.isqrt(max(0, stored.shape[0] - extra))
    if not side or stored.shape != (side**2 + extra, target.shape[1]):
        return stored
    resampled: Tensor = resize_rel_pos_bias_table(stored, grid, target.shape)
    return resampled


def _initialize_buffers(vit: VisionTransformer, card: Card, path: Path) -> None:
    """Compute the buffers that no checkpoint contains, such as rotary embeddings.

    They were built on the meta device and have no values yet.
    """
    for path_in_vit, module in vit.named_modules():
        buffers = dict(module.named_buffers(recurse=False))
        without_values = {name: x for name, x in buffers.items() if x.is_meta}
        if not without_values:
            continue
        if not hasattr(module, "init_non_persistent_buffers"):
            name = next(iter(without_values))
            raise WeightsError(
                f"timm {timm.__version__} cannot initialize {path_in_vit}.{name} of"
                f" {card.name}",
                path,
                "install a newer version of timm",
            )
        for name, buffer in without_values.items():
            empty = torch.empty_like(buffer, device="cpu")
            module.register_buffer(name, empty, persistent=False)
        cast(Any, module).init_non_persistent_buffers()


def _dtype_and_shape(tensor: Tensor) -> str:
    shape = "x".join(map(str, tensor.shape)) or "scalar"
    return f"{str(tensor.dtype).removeprefix('torch.')} {shape}"
