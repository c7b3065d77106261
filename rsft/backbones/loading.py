"""Find encoders by name, and load their weights: all tensors or none, mapped from the file where possible.

A file is read as plain tensors, without running code from it. An encoder can be run on
fixed noise, to compare the encoders of two machines or two files, and written to a
safetensors file of its own.
"""

import argparse
import difflib
import glob
import hashlib
import json
import math
import re
import time
import zipfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import safetensors
import timm
import torch
from safetensors.torch import load_file
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.layers.pos_embed_rel import resize_rel_pos_bias_table
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn, serialization

from rsft.backbones.card import Card, Remote, State, drop_tensors, find_weights
from rsft.backbones.registered import registered_cards
from rsft.backbones.unusable import check_usable
from rsft.errors import RequestError, WeightsError
from rsft.utils.atomic_files import sha256
from rsft.utils.download import weights_dir
from rsft.utils.licenses import UNKNOWN
from rsft.utils.untrusted.documents import open_regular
from rsft.utils.untrusted.torch_files import (
    REWRITE_HINT,
    DamagedTorchFileError,
    check_torch_file,
)


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
    """Return the card of an encoder of rsft, timm or TorchGeo; `timm:MODEL` takes weights from a local file.

    Of its transformer blocks, the first `blocks` are kept; None keeps all.

    Raises:
        RequestError: the encoder is unknown, or has no tokens that could be fine-tuned.
    """
    card = registered_cards().get(name) or _external_card(name)
    if card is None:
        closest = difflib.get_close_matches(name, names(), n=1)
        if closest:
            hint = f"did you mean {closest[0]}?"
        else:
            hint = "list the encoders with `rsft backbones ls`"
        raise RequestError(f"no backbone is called {name!r}", "backbone.name", hint)
    if blocks is None:
        return card
    return _with_first_blocks(card, blocks)


def _external_card(name: str) -> Card | None:
    """Return the card of an encoder of timm or TorchGeo; None if neither has one of this name.

    Raises:
        RequestError: the encoder is known and cannot be used.
    """
    from rsft.backbones import timm_vits, torchgeo_vits

    check_usable(name)
    return timm_vits.timm_card(name) or torchgeo_vits.torchgeo_card(name)


def find_unlisted_card(word: str) -> Card:
    """Return the card of an encoder of timm or TorchGeo that `names` lacks.

    Raises:
        RequestError: no encoder has this name, or it cannot be fine-tuned. The hint has
            the nearest words in the list of encoders, and models of timm that are not
            listed.
    """
    card = _external_card(word)
    if card:
        return card
    parts = {
        part.lower(): part
        for name in names()
        for part in (*re.split(r"[._:]", name), name)
    }
    nearest = [
        parts[part] for part in difflib.get_close_matches(word.lower(), parts, n=3)
    ]
    hints = [f"the nearest are {', '.join(nearest)}"] if nearest else []
    in_timm = timm.list_models(f"*{glob.escape(word)}*", pretrained=True)
    if in_timm:
        hints.append(
            f"timm has {_first_few(in_timm)}: `rsft backbones check NAME` tells whether"
            " one can be fine-tuned"
        )
    hints.append("`rsft backbones ls` lists all encoders")
    raise RequestError(f"no encoder matches {word!r}", "", "; ".join(hints))


def _with_first_blocks(card: Card, blocks: int) -> Card:
    """Return the card of a shorter encoder, which keeps the first transformer blocks and the final norm.

    Its weights file may contain all blocks, or only the first ones.
    """

    def build(size: int, **options: Any) -> VisionTransformer:
        vit = card.build(size, **options)
        if not hasattr(vit, "blocks"):
            raise RequestError(
                (
                    f"{card.name} has stages of different resolution, so its first blocks"
                    " are no encoder"
                ),
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

    def convert(state: State) -> dict[str, Tensor]:
        tensors = card.convert(state)
        indices = {
            int(match[1])
            for name in tensors
            if (match := re.match(r"blocks\.(\d+)\.", name))
        }
        return drop_tensors(
            tensors, *(f"blocks.{index}" for index in indices if index >= blocks)
        )

    return replace(
        card,
        about=f"{card.about}; the first {blocks} blocks",
        build=build,
        convert=convert,
    )


WRAPPERS = ("model", "state_dict", "model_state_dict", "teacher")
"""Keys under which training scripts store the network; the first key in the file is
used."""

_DOWNLOAD_HINT = "download it again"
_MAX_WRAPPERS = 8
_TRUST_HINT = (
    "use the publisher's own file, or a safetensors file from a source you trust"
)


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a network from a safetensors file or a torch.save file (.pth, .pt, .bin, .ckpt).

    The tensors are views of the mapped file. Pages are loaded when they are read, and
    the system can release them again. A write to a tensor changes memory of this
    process only, not the file. While the tensors are in use, the file may be replaced,
    but not overwritten in place. A pickle may contain only containers, numbers, tensors
    and an `argparse.Namespace`.

    Args:
        path: the file. The network may be stored under one of the keys in `WRAPPERS`,
            or as one mapping per part.

    Returns:
        Tensors by name; those of a part have its name and a dot before their own.

    Raises:
        WeightsError: the file is missing, is damaged, has another format, or contains
            more than tensors.
    """
    try:
        with open_regular(path) as file:
            start = file.read(24)
    except OSError as error:
        raise WeightsError(
            f"the weights file cannot be read: {error.strerror}", path, "check the path"
        ) from error
    if start.startswith(b"PK"):
        stored = read_torch_file(path)
    elif _is_safetensors(start):
        try:
            stored = load_file(path)
        except (safetensors.SafetensorError, OSError, ValueError) as error:
            raise WeightsError(
                f"the file is damaged: {error}", path, _DOWNLOAD_HINT
            ) from error
    elif start.startswith(b"\x80"):
        raise WeightsError(
            "this is a pickle from before torch 1.6, which cannot be mapped",
            path,
            REWRITE_HINT,
        )
    else:
        if start:
            message = f"this is not a weights file: it begins with {start!r}"
        else:
            message = "the weights file is empty"
        raise WeightsError(message, path, _DOWNLOAD_HINT)
    return _take_tensors(stored, path)


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a safetensors file that `read_checkpoint` has read; empty for other files."""
    with path.open("rb") as file:
        if not _is_safetensors(file.read(24)):
            return {}
    with safetensors.safe_open(path, "pt") as tensors:
        return dict(tensors.metadata() or {})


def _is_safetensors(start: bytes) -> bool:
    return start[8:9] == b"{"  # after the length of the header


def read_torch_file(path: Path) -> Any:
    """Read a torch.save file of plain containers, numbers and tensors, which are views of the mapped file.

    Raises:
        WeightsError: the file is damaged, or contains more than tensors.
        OSError: the file cannot be read.
    """
    try:
        is_complete = zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # its last bytes say that it has several parts
        is_complete = False
    if not is_complete:
        raise WeightsError(
            "the file is truncated: its end is missing", path, _DOWNLOAD_HINT
        )
    try:
        check_torch_file(path)
    except DamagedTorchFileError as error:
        raise WeightsError(
            f"the file is damaged: {error}", path, _DOWNLOAD_HINT
        ) from error
    except ValueError as error:
        raise WeightsError(
            f"the file is not safe to load: {error}", path, _TRUST_HINT
        ) from error
    allowed = serialization.get_safe_globals()
    serialization.clear_safe_globals()  # of classes that other libraries have allowed
    try:
        with serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except Exception as error:  # a damaged or hostile pickle raises anything
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        match = re.search(r"GLOBAL (\S+)|function (<.*?>)|(TorchScript)", str(error))
        if match:
            raise WeightsError(
                (
                    f"the file asks for {match[match.lastindex or 0]}, which is not"
                    " allowed; no code in it was run"
                ),
                path,
                _TRUST_HINT,
            ) from error
        raise WeightsError(
            f"the file is damaged: {first_line}", path, _DOWNLOAD_HINT
        ) from error
    finally:
        serialization.clear_safe_globals()
        serialization.add_safe_globals(allowed)


def _take_tensors(stored: Any, path: Path) -> dict[str, Tensor]:
    """Return the innermost mapping of a file, which must hold tensors alone."""
    for _ in range(_MAX_WRAPPERS):  # a mapping may contain itself
        if isinstance(stored, Mapping):
            stored = next(
                (
                    stored[key]
                    for key in WRAPPERS
                    if isinstance(stored.get(key), Mapping)
                ),
                stored,
            )
    if isinstance(stored, Mapping) and all(
        isinstance(part, Mapping) for part in stored.values()
    ):
        stored = {
            f"{part}.{key}": value
            for part, tensors in stored.items()
            for key, value in tensors.items()
        }
    hint = (
        "use a file that maps names to tensors, directly or under one of"
        f" {', '.join(WRAPPERS)}"
    )
    if not isinstance(stored, Mapping) or not stored:
        raise WeightsError(
            f"the file holds {type(stored).__name__}, not a network", path, hint
        )
    for key, value in stored.items():
        if not (
            isinstance(key, str)
            and isinstance(value, Tensor)
            and value.layout == torch.strided
        ):
            raise WeightsError(
                f"{key!r} is not a plain tensor but {type(value).__name__}", path, hint
            )
        if value.nbytes > path.stat().st_size:  # a view can repeat one number
            raise WeightsError(
                f"the tensor {key!r} is larger than the file", path, _TRUST_HINT
            )
    return {key: value.detach() for key, value in stored.items()}


_MAX_NAMES_IN_MESSAGE = 3
"""Names of tensors that an error message lists."""


@dataclass(frozen=True)
class Backbone:
    """A frozen vision transformer without its head.

    Attributes:
        name: the name in a recipe.
        sha256: hash of the encoder's tensors (`tensors_sha256`). It depends neither on
            the file format nor on the input size.
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
    is_random: bool = False

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
    """
    card = find_card(name, blocks)
    if weights is None and card.weights is None:
        return _start_at_random(card, size, seed)
    if weights is None:
        weights = find_weights(card)
        if isinstance(card.weights, Path):
            model_card = card.weights.with_suffix(".json")
            if not model_card.is_file():
                raise WeightsError(
                    f"the model card of {card.name} is missing",
                    model_card,
                    "reinstall rsft",
                )
            if sha256(weights) != json.loads(model_card.read_text("utf-8"))["sha256"]:
                raise WeightsError(
                    f"the weights of {card.name} differ from their model card",
                    weights,
                    "reinstall rsft",
                )
    elif (
        weights.name == str(weights)
        and not weights.exists()
        and (weights_dir() / weights).exists()
    ):
        weights = weights_dir() / weights
    return load_encoder_weights(card, size, weights)


def _start_at_random(card: Card, size: int, seed: int) -> Backbone:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vit = card.build(size).requires_grad_(False).eval()
    sha256 = tensors_sha256(
        {name: torch.zeros_like(tensor) for name, tensor in vit.state_dict().items()}
    )
    values = card.mean, card.std, card.bands, card.unit
    return Backbone(
        card.name, sha256, vit, *values, license=card.license, is_random=True
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
    left_out = tuple(
        sorted(name for name, tensor in stored.items() if tensor.data_ptr() not in used)
    )
    _check_names(state, vit, card, path)
    if card.name.startswith("timm:") and (
        channels := _input_channels(state, vit)
    ) != len(card.bands):
        card = _with_channels(card, channels)
        with torch.device("meta"):
            vit = card.build(size)
    state = {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in state.items()
    }
    resampled = _resample_positions(state, vit, card)
    expected = {
        name: _dtype_and_shape(tensor) for name, tensor in vit.state_dict().items()
    }
    actual = {name: _dtype_and_shape(resampled[name]) for name in expected}
    faults = [
        f"{x} is {actual[x]}, not {expected[x]}"
        for x in expected
        if actual[x] != expected[x]
    ]
    if faults:
        message = (
            f"{len(faults)} of the {len(resampled)} tensors do not fit {card.name}:"
            f" {_first_few(faults)}"
        )
        raise WeightsError(message, path, _hint_other_file(card))
    faults = [name for name, tensor in state.items() if not tensor.sum().isfinite()]
    if faults:  # a sum needs no extra memory
        message = (
            f"{len(faults)} of the {len(state)} tensors of {card.name} hold NaN or"
            f" infinity: {_first_few(faults)}"
        )
        raise WeightsError(message, path, "download it again")
    vit.load_state_dict(resampled, assign=True)
    _initialize_buffers(vit, card, path)
    vit.requires_grad_(False).eval()
    if isinstance(card.weights, Remote):
        published = card.weights.file
    else:
        published = getattr(card.weights, "name", "")
    # `rsft weights convert` writes the name of the encoder into its files
    is_published = (
        path.name == published or read_metadata(path).get("backbone") == card.name
    )
    if is_published:
        terms = card.license
    else:
        terms = f"{UNKNOWN}; the weights are those of {path.name}"
    return Backbone(
        card.name,
        tensors_sha256(state),
        vit,
        card.mean,
        card.std,
        card.bands,
        card.unit,
        left_out,
        terms,
    )


def _input_channels(state: State, vit: VisionTransformer) -> int | None:
    """Return the channels of the first layer of a file, if it differs from that of the network in them alone."""
    layers = [
        (state[name].shape, tensor.shape)
        for name, tensor in vit.state_dict().items()
        if tensor.ndim == 4
    ]
    return next(
        (
            a[1]
            for a, b in layers
            if a != b and len(a) == 4 and (a[0], *a[2:]) == (b[0], *b[2:])
        ),
        None,
    )


def _with_channels(card: Card, channels: int | None) -> Card:
    """Return the card of a network of timm whose local file has been trained on other images than RGB."""
    if channels is None:
        return card
    mean, std = (
        [values[index % len(values)] for index in range(channels)]
        for values in (card.mean, card.std)
    )
    bands = tuple(f"input {index}" for index in range(channels))
    return replace(
        card,
        bands=bands,
        mean=tuple(mean),
        std=tuple(std),
        build=partial(card.build, in_chans=channels),
    )


def tensor_bytes(tensor: Tensor) -> memoryview:
    """Return the bytes of a tensor on the CPU, without a copy if it is contiguous."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data


def tensors_sha256(state: State) -> str:
    """Return the SHA-256 of tensors by name.

    The hash covers one line per tensor, sorted by name, with name, dtype, shape and the
    SHA-256 of its bytes.
    """

    def digest(tensor: Tensor) -> str:
        return hashlib.sha256(tensor_bytes(tensor)).hexdigest()

    with ThreadPoolExecutor() as pool:  # hashing releases the GIL
        digests = pool.map(digest, (state[name] for name in sorted(state)))
        lines = [
            f"{name} {_dtype_and_shape(state[name])} {next(digests)}\n"
            for name in sorted(state)
        ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _resample_positions(
    state: dict[str, Tensor], vit: VisionTransformer, card: Card
) -> dict[str, Tensor]:
    """Resample position embeddings and tables of relative positions to the grid of the encoder, as timm does.

    A tensor that is none, and has another shape than that of the encoder, is returned
    unchanged.
    """
    changed: dict[str, Tensor] = {}
    for name, target in vit.state_dict().items():
        stored = state[name]
        if stored.shape == target.shape:
            continue
        if (
            name == "pos_embed" and stored.ndim == 3
        ):  # from (1, prefix + n^2, D) to (1, prefix + m^2, D)
            grid = vit.patch_embed.grid_size
            prefix = target.shape[1] - math.prod(grid)
            side = math.isqrt(max(0, stored.shape[1] - prefix))
            if side and stored.shape == (1, prefix + side**2, target.shape[2]):
                sides = [side, side]
                changed[name] = resample_abs_pos_embed(
                    stored, list(grid), sides, prefix, antialias=card.antialias
                )
        elif (
            name.endswith("relative_position_bias_table") and stored.ndim == 2
        ):  # ((2n - 1)^2 + k, heads), same for m
            attention: Any = vit.get_submodule(name.rpartition(".")[0])
            grid = getattr(
                attention, "window_size", vit.patch_embed.grid_size
            )  # a window is the grid, but in Swin
            extra = target.shape[0] - math.prod(2 * side - 1 for side in grid)
            side = math.isqrt(max(0, stored.shape[0] - extra))
            if side and stored.shape == (side**2 + extra, target.shape[1]):
                changed[name] = resize_rel_pos_bias_table(stored, grid, target.shape)
    return state | changed


def _initialize_buffers(vit: VisionTransformer, card: Card, path: Path) -> None:
    """Compute the buffers that no checkpoint contains, such as the periods of rotary embeddings.

    They were built on the meta device and have no values yet.
    """
    for path_in_vit, module in vit.named_modules():
        names = [
            name
            for name, buffer in module.named_buffers(recurse=False)
            if buffer.is_meta
        ]
        if not names:
            continue
        if not hasattr(module, "init_non_persistent_buffers"):
            raise WeightsError(
                (
                    f"timm {timm.__version__} cannot initialize {path_in_vit}.{names[0]} of"
                    f" {card.name}"
                ),
                path,
                "install a newer version of timm",
            )
        for name in names:
            module.register_buffer(
                name,
                torch.empty_like(module.get_buffer(name), device="cpu"),
                persistent=False,
            )
        cast(Any, module).init_non_persistent_buffers()


def _check_names(state: State, vit: VisionTransformer, card: Card, path: Path) -> None:
    expected = vit.state_dict().keys()
    missing = [name for name in expected if name not in state]
    unexpected = [name for name in state if name not in expected]
    if missing or unexpected:
        faults = [
            f"{len(expected) - len(missing)} of the {len(expected)} tensors of"
            f" {card.name} are in the file"
        ]
        faults += [f"missing: {_first_few(missing)}"] if missing else []
        faults += [f"not expected: {_first_few(unexpected)}"] if unexpected else []
        raise WeightsError("; ".join(faults), path, _hint_other_file(card))


def _dtype_and_shape(tensor: Tensor) -> str:
    return (
        f"{str(tensor.dtype).removeprefix('torch.')}"
        f" {'x'.join(map(str, tensor.shape)) or 'scalar'}"
    )


def _first_few(texts: Iterable[str]) -> str:
    first = (texts := list(texts))[:_MAX_NAMES_IN_MESSAGE]
    others = len(texts) - _MAX_NAMES_IN_MESSAGE
    return ", ".join(first) + (f" and {others} more" if others > 0 else "")


def _hint_other_file(card: Card) -> str:
    usual = "the one in the rsft package"
    if isinstance(card.weights, Remote):
        usual = f"{card.weights.file} of {card.weights.page}"
    return (
        "name the encoder that the file holds, or use the file of this encoder:"
        f" {usual}"
    )


BATCH_SIZE = 4
"""Number of noise images."""


class EncoderCheck(NamedTuple):
    """The result of `check_encoder`.

    Attributes:
        tokens: tokens per image, or pixels of the feature map.
        features: mean and standard deviation of all entries, and mean Euclidean norm,
            of one feature vector per image: of the class token (if the encoder has one)
            and of the mean of the patch tokens or of the feature map.
        speed: images per second.
        device: the device, in words.
    """

    tokens: int
    features: dict[str, tuple[float, float, float]]
    speed: float
    device: str


def check_encoder(backbone: Backbone, size: int, seconds: float = 1.0) -> EncoderCheck:
    """Compute features of noise images and measure the speed of an encoder.

    Args:
        backbone: the loaded encoder.
        size: side of the input, in pixels.
        seconds: minimum duration of the speed measurement.

    Returns:
        Features of 4 images (bands, size, size) of normal noise with seed 0, and the
        speed at a batch size of 4.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    vit = backbone.vit.to(device)
    shape = (BATCH_SIZE, len(backbone.bands), size, size)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)
    with torch.inference_mode():
        output: Tensor = vit.forward_features(noise)
        batches = 0
        start = time.perf_counter()
        while not batches or time.perf_counter() - start < seconds:
            vit.forward_features(noise).sum().item()  # waits for the device
            batches += 1
        speed = batches * BATCH_SIZE / (time.perf_counter() - start)
        # the vectors (B, D) that a recipe can pool from a feature map, or from tokens
        # (B, N, D)
        if output.ndim == 4:
            vectors = {"map mean": vit.forward_head(output, pre_logits=True)}
        else:
            if vit.cls_token is not None:
                vectors = {"class token": output[:, 0]}
            else:
                vectors = {}
            vectors["patch mean"] = output[:, vit.num_prefix_tokens :].mean(1)
    features = {
        x: (v.mean().item(), v.std().item(), v.norm(dim=1).mean().item())
        for x, v in vectors.items()
    }
    if device.type == "cpu":
        device_text = f"cpu, {torch.get_num_threads()} threads"
    else:
        device_text = torch.cuda.get_device_name()
    return EncoderCheck(
        output[0].numel() // backbone.width, features, speed, device_text
    )
