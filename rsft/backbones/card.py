"""Cards: descriptions of encoders without their weights, and their weights files.

This module imports no torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from rsft.backbones.archived_weights import Archive, fetch_archived_weights
from rsft.errors import RequestError, WeightsError
from rsft.types import Names, Progress
from rsft.utils.atomic_files import sha256, write_text
from rsft.utils.licenses import license_restrictions
from rsft.utils.user_folders import weights_dir

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer
    from torch import Tensor

    from rsft.data.imagery.stretch import Stretch

State: TypeAlias = "dict[str, Tensor]"
"""Name -> tensor."""

ENCODER_GROUP = "rsft.encoders"
"""Entry-point group of encoders; an entry point is a sequence of cards."""

_PRETRAINED = Path(__file__).parent / "pretrained"


@dataclass(frozen=True)
class Remote:
    """A published weights file.

    Attributes:
        file: its name in the weights folder.
        url: download address; None if the file must be fetched by hand.
        bytes: published size; None if unknown.
        sha256: published SHA-256, or the leading digits that the publisher gives; None
            if unknown.
        page: web page about the file.
        md5: published MD5, where the publisher (Zenodo) gives no SHA-256.
        archive: what `url` sends, if it is not the file itself.
    """

    file: str
    url: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    page: str = ""
    md5: str | None = None
    archive: Archive | None = None


@dataclass(frozen=True, kw_only=True)
class EncoderInfo:
    """What a card and an entry of the list say of an encoder.

    Attributes:
        about: one line with architecture and training data.
        size: side of the native input, in pixels.
        patch: side of a patch, in pixels; in a network without patches, of the region
            of one feature vector.
        bands: names of the input planes, in order.
        unit: unit of `mean` and `std`: "uint8" for bytes scaled to 0-1, else a unit of
            `rsft.data.imagery`.
        mean: mean of each input plane in pre-training; `std` likewise.
        license: SPDX identifier of the weights' license, or free text; `restrictions`
            are derived from it.
        sensor: source of the images in pre-training.
        is_frozen: whether the encoder has no weights file and no blocks to adapt, but
            brings its weights with its network.
    """

    name: str
    about: str
    size: int
    patch: int
    bands: Names
    unit: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    license: str
    sensor: str = "photographs"
    is_frozen: bool = False

    @property
    def restrictions(self) -> Names:
        """What the license of the weights does not allow.

        These are names of `rsft.utils.licenses.RESTRICTIONS`.
        """
        return license_restrictions(self.license)


@dataclass(frozen=True, kw_only=True)
class PublishedClassifier:
    """The classifier in a weights file, which becomes a bundle.

    Attributes:
        classes: names in the order of the logits.
        head: maps the tensors of a checkpoint to "weight" (C, D) and "bias" (C,) of the
            linear layer on the features of the encoder.
        spacing_m: pixel spacing of the chips in meters. They have the size of the card.
        stretch: stretch of each input plane, whose values are restored.
        left_out: what else the file predicts, which rsft does not read.
    """

    classes: Names
    head: Callable[[State], State]
    spacing_m: float
    stretch: Stretch
    left_out: str


@dataclass(frozen=True, kw_only=True)
class Card(EncoderInfo):
    """The description of an encoder that `load_backbone` can load.

    Attributes:
        weights: a file in this package, or a published one; None for a network that
            starts at random weights.
        build: maps an input size to the architecture with random weights and without a
            head. It raises RequestError if the size is not a multiple of the patch
            side. Networks of timm take further arguments of timm.
        convert: maps the tensors of a checkpoint to those of `build(size)`. It drops
            the tensors that the encoder is known not to use. The loader refuses a
            checkpoint with any other surplus tensor. Tensors are not copied.
        antialias: whether to resample the position embedding with antialiasing. timm
            does, many publishers do not.
        classifier: the classifier in the weights file; None if it has none.
    """

    weights: Path | Remote | None
    build: Callable[..., VisionTransformer]
    convert: Callable[[State], State] = dict
    antialias: bool = True
    classifier: PublishedClassifier | None = None


@dataclass(frozen=True, kw_only=True)
class ListedEncoder(EncoderInfo):
    """An entry of the list: a card without its functions.

    Attributes:
        parameters: number of parameters at the native input size.
        file: name of the weights file in rsft; None if the weights are published
            elsewhere, or random.
        remote: the published weights file; None if rsft contains the weights, or they
            are random.
    """

    parameters: int
    file: str | None
    remote: Remote | None

    @property
    def weights(self) -> Path | Remote | None:
        """A file in this package, or a published one; None for random weights."""
        if self.file:
            return _PRETRAINED / self.file
        return self.remote

    @property
    def path(self) -> Path | None:
        """The weights file, which need not exist; None for random weights."""
        if not self.weights:
            return None
        return weights_path(self)

    @property
    def state(self) -> str:
        """Where the weights are: "random", "in rsft", "here", "to get" or "by hand"."""
        if not self.remote:
            if self.file or self.is_frozen:
                return "in rsft"
            return "random"
        if weights_path(self).is_file():
            return "here"
        if self.remote.url:
            return "to get"
        return "by hand"


PublishedEncoder: TypeAlias = Card | ListedEncoder
"""An encoder with weights."""


def check_input_size(name: str, patch: int, size: int) -> None:
    """Raise an error if the side of the input does not suit an encoder.

    Args:
        name: name of the encoder.
        patch: the side must be a positive multiple of this number of pixels.
        size: side of the input, in pixels.

    Raises:
        RequestError: the encoder `name` cannot take inputs of this size.
    """
    if size < patch or size % patch:
        raise RequestError(
            f"{name} takes input sides that are multiples of {patch}, not {size}",
            "size",
            f"try {max(patch, round(size / patch) * patch)}",
        )


def drop_tensors(state: State, *names: str) -> State:
    """Return `state` without the tensors of these names, or of modules of these names.

    Returns:
        Name -> tensor for the remaining tensors, without copies.
    """
    modules = tuple(f"{name}." for name in names)
    return {
        key: value
        for key, value in state.items()
        if key not in names and not key.startswith(modules)
    }


@dataclass(frozen=True)
class WeightsStatus:
    """The result of verifying a weights file.

    Attributes:
        path: the file.
        bytes: its size.
        sha256: its hash.
        published: the published checksum, which the file matches; None if there is
            none. Unless it is a whole SHA-256, the hash is recorded beside the file.
    """

    path: Path
    bytes: int
    sha256: str
    published: str | None


def weights_path(card: PublishedEncoder) -> Path:
    """Return the path of an encoder's weights file, which need not exist.

    Raises:
        WeightsError: the encoder has no weights.
    """
    if not card.weights:
        raise WeightsError(
            "this network has no weights file",
            card.name,
            "train it from a recipe: backbone.name",
        )
    if isinstance(card.weights, Remote):
        return weights_dir() / card.weights.file
    return card.weights


def find_weights(card: PublishedEncoder) -> Path:
    """Return the path of an encoder's weights file, which exists.

    Raises:
        WeightsError: the file is missing; the message states what to fetch and where to
            put it.
    """
    path = weights_path(card)
    if not path.is_file():
        raise WeightsError(
            f"the weights of {card.name} are missing", path, _hint_fetch(card)
        )
    return path


def fetch_weights(
    card: PublishedEncoder, progress: Progress | None = None
) -> WeightsStatus:
    """Download the weights of an encoder unless they exist, and verify them.

    Args:
        card: the encoder.
        progress: called with numbers of bytes.

    Returns:
        The status of the file.

    Raises:
        WeightsError: the file can only be fetched by hand, or is not the published one.
        DataError: the server cannot be reached or sends another file; the message
            states what to fetch by hand.
    """
    from rsft.utils.download import download

    remote = card.weights
    path = weights_path(card)
    if isinstance(remote, Remote) and remote.url and not path.exists():
        if remote.archive:
            fetch_archived_weights(remote.url, remote.archive, path, progress)
        else:
            checksum = published_checksum(card)
            download(remote.url, path, checksum, size=remote.bytes, progress=progress)
    return verify_weights(card)


def verify_weights(card: PublishedEncoder) -> WeightsStatus:
    """Compare an encoder's weights with what is published and what was recorded.

    The digest is recorded at first sight, unless a whole SHA-256 is published.

    Returns:
        The status of the file.

    Raises:
        WeightsError: the file is missing, has another size, or was changed.
    """
    path = find_weights(card)
    record = path.with_name(f"{path.name}.sha256")
    published = published_checksum(card)
    size = path.stat().st_size
    expected = card.weights.bytes if isinstance(card.weights, Remote) else None
    digest = sha256(path)
    is_recorded = record.is_file()
    fault = ""
    if expected not in (None, size):
        fault = f"the file has {size:,} bytes, the published one {expected:,}"
    elif published and not _matches(path, digest, published):
        fault = f"this is not the published file: its SHA-256 is {digest}"
    elif is_recorded and digest not in record.read_text(errors="replace"):
        fault = (
            f"the file has changed since {record.name} was written: its SHA-256 is"
            f" {digest}"
        )
    if fault:
        raise WeightsError(fault, path, f"move the file away, then {_hint_fetch(card)}")
    if published != digest and not is_recorded:
        write_text(record, f"{digest}  {path.name}\n")  # as sha256sum does
    return WeightsStatus(path, size, digest, published)


def _matches(path: Path, digest: str, published: str) -> bool:
    """Return whether a file, whose SHA-256 is known, has the published checksum."""
    if not published.startswith("md5:"):
        return digest.startswith(published)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest() == published[4:]


def published_checksum(card: PublishedEncoder) -> str | None:
    """Return the published checksum as `rsft.utils.download` takes it.

    Packaged weights have it in their model card.
    """
    if isinstance(card.weights, Remote):
        if card.weights.sha256 or not card.weights.md5:
            return card.weights.sha256
        return f"md5:{card.weights.md5}"
    if card.weights:
        model_card = card.weights.with_suffix(".json")
        if model_card.is_file():
            return str(json.loads(model_card.read_text("utf-8"))["sha256"])
    return None


def _hint_fetch(card: PublishedEncoder) -> str:
    """Return a hint how to get missing weights."""
    remote = card.weights
    path = weights_path(card)
    if not isinstance(remote, Remote):
        return "reinstall rsft"
    size = f" ({remote.bytes / 1e6:,.0f} MB)" if remote.bytes else ""
    if not remote.url:
        return (
            f"create or download {remote.file}{size} by hand ({card.about};"
            f" {remote.page}) and put it at {path}"
        )
    target = path
    if remote.archive:
        # the same command then takes the weights out of it
        target = path.with_name(f"{path.name}.zip")
    return (
        f"run `rsft weights get {card.name}`, or download {remote.url}{size} by hand to"
        f" {target}"
    )
