"""Base classes and registries of engines and export formats.

An engine computes the logits and features of a bundle. An export format writes a bundle as files for other programs.
Each of them is one class with a `name`. To add one, register a class in a module of this package, or list a class of
another package in the entry-point group `rsft.engines` or `rsft.export_formats`. An engine that runs an exported graph
(`GraphEngine`) belongs into both.

The modules of this package import PyTorch and the runtimes inside methods, because `rsft --help` imports them.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from rsft.errors import RequestError
from rsft.utils.optional_dependencies import require
from rsft.utils.registry import Registry, UnknownComponentError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from rsft.models.averaging import SupportsPredict
    from rsft.models.bundle.bundle import Bundle
    from rsft.models.outputs import ClassifierOutputs

IMAGES, LOGITS, FEATURES = "images", "logits", "features"
"""Names of the input and the outputs of an exported graph."""

METADATA_KEY = "rsft"
"""Key of the metadata inside exported files."""

CPU_BATCH_SIZE = 16
"""Images that a CPU computes at once. Larger batches are not faster and need more memory."""


class InferenceFn(Protocol):
    """Function from network inputs to outputs."""

    def __call__(self, images: NDArray[np.float32], /) -> ClassifierOutputs:
        """Return logits (N, C) and features (N, D) of images (N, P, S, S)."""


class EngineSpec(NamedTuple):
    """Name of an engine, number type, and whether `torch.compile` is used."""

    engine: str
    precision: str = "fp32"
    compiled: bool = False

    def __str__(self) -> str:
        return f"{self.engine} {self.precision}{', compiled' if self.compiled else ''}"


REFERENCE = EngineSpec("torch")
"""The engine that all others are compared with: PyTorch in float32."""


class EngineModel(NamedTuple):
    """A bundle's network in an engine, before test-time augmentation.

    Attributes:
        model: returns logits and features of a tensor of images on `device`.
        spec: what was loaded; it may differ from the requested one, and `note` then says why.
        device: device of the inputs.
        batch_size: images per call; None for all at once.
        concurrency: threads that may call the model at the same time.
        note: sentence for the user, or "".
    """

    model: SupportsPredict
    spec: EngineSpec
    device: torch.device | str = "cpu"
    batch_size: int | None = CPU_BATCH_SIZE
    concurrency: int = 1
    note: str = ""


@dataclass(frozen=True)
class Tolerance:
    """Largest difference from PyTorch in float32 that is accepted.

    Attributes:
        limit: for a logit, and for a feature as a share of the largest feature where that is above 1. None means that
            the accuracy of each group of classes is compared instead of single outputs.
        relative: whether `limit` is a share of the largest logit where that is above 1 (cosine heads reach 25).
    """

    limit: float | None
    relative: bool = False


EXACT = Tolerance(1e-3)
"""Tolerance of float32."""

ROUNDED = Tolerance(1e-2, relative=True)
"""Tolerance of bfloat16."""

QUANTIZED = Tolerance(None)
"""Tolerance of int8, which is calibrated and whose accuracy is measured."""


class _Component(ABC):
    """What engines and export formats have in common.

    Attributes:
        name: value of `--engine` or `--format`; it is stored with exports and predictions.
        title: name in sentences.
        precisions: number types and their tolerance.
        unsupported: reasons for which other number types are missing; optional.
        packages: packages that it needs to run; a cached export is used only with the same versions of them.
        extra: extra of rsft that installs them.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    precisions: ClassVar[Mapping[str, Tolerance]]
    unsupported: ClassVar[Mapping[str, str]] = {}
    packages: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""

    def check_precision(self, precision: str) -> None:
        """Raise an error if a number type is not supported.

        Args:
            precision: fp32, bf16, int8, or another number type.

        Raises:
            RequestError: it is not.
        """
        if precision not in self.precisions:
            choices = " or ".join(self.precisions)
            reason = self.unsupported.get(precision, f"{self.name} supports {choices}")
            raise RequestError(f"no {precision} for {self.name}: {reason}", "--precision", f"choose {choices}")

    def is_installed(self) -> bool:
        """Return whether all packages can be found."""
        return all(find_spec(package) for package in self.packages)

    def require(self, module: str) -> Any:
        """Import a package of the extra, or a module of one.

        Args:
            module: name of the package or module.

        Returns:
            The module.

        Raises:
            RequestError: it is not installed.
        """
        return require(module, self.extra)


class Engine(_Component):
    """Base class of engines.

    Attributes:
        devices: types of device that it computes on.
    """

    devices: ClassVar[tuple[str, ...]] = ("cpu",)

    def spec(self, precision: str) -> EngineSpec:
        """Return what a user gets who asks for this engine by name.

        Args:
            precision: number type.

        Returns:
            Engine, number type, and whether it is compiled.
        """
        return EngineSpec(self.name, precision)

    def candidates(self, device_type: str) -> list[EngineSpec]:
        """Return what "auto" may select on a device; int8 is never among it.

        Args:
            device_type: cpu or cuda.

        Returns:
            Engine and number type of each candidate.
        """
        if device_type not in self.devices or not self.is_installed():
            return []
        return [EngineSpec(self.name, name) for name, allowed in self.precisions.items() if allowed.limit is not None]

    def check(self, precision: str, device: str) -> None:
        """Raise an error if the engine cannot be used.

        Args:
            precision: number type.
            device: auto, cpu or cuda.

        Raises:
            RequestError: an unsupported number type or device, or a package that is not installed.
        """
        self.check_precision(precision)
        for package in self.packages:
            self.require(package)
        if device == "cuda" and device not in self.devices:
            raise RequestError(f"{self.name} computes on the CPU only", "--device", f"use --engine {REFERENCE.engine}")

    @abstractmethod
    def load(self, bundle: Bundle, spec: EngineSpec, device: str, images: Tensor | None) -> EngineModel:
        """Load a bundle's network.

        Args:
            bundle: merged classifiers are made of it.
            spec: number type, and whether to compile.
            device: auto, cpu or cuda.
            images: chips of the job (N, P, S, S), on which a new export is checked; None if there are none.

        Returns:
            The network, before test-time augmentation.

        Raises:
            RequestError: a missing package, or for int8 missing training chips.
            WeightsError: the backbone on this machine is not the bundle's, or an export differs from PyTorch.
        """


class ExportFormat(_Component):
    """Base class of export formats.

    Attributes:
        file_name: name of the main file in the folder of an export.
        export_packages: more packages, which it needs to write files.
    """

    file_name: ClassVar[str]
    export_packages: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def write(
        self, bundle: Bundle, folder: Path, metadata: dict[str, Any], images: Tensor, reference: ClassifierOutputs
    ) -> ClassifierOutputs:
        """Write a bundle into an empty folder, open the files again, and compute the outputs of `images` with them.

        Args:
            bundle: its networks are merged where the format allows.
            folder: the export, without export.json, is written here.
            metadata: content of export.json, "precision" included; the format may add entries.
            images: network inputs (N, P, S, S).
            reference: outputs of PyTorch in float32 for these images.

        Returns:
            Logits (N, C) and features (N, D).

        Raises:
            RequestError: a bundle that this format cannot hold, or a package that is not installed.
        """


ENGINES: Registry[type[Engine]] = Registry("engine", "rsft.engines", "rsft.inference.engines")
"""All engines by name."""

FORMATS: Registry[type[ExportFormat]] = Registry("export format", "rsft.export_formats", "rsft.inference.engines")
"""All export formats by name."""


def find_engine(name: str) -> Engine:
    """Return an engine by name.

    Args:
        name: name of the engine.

    Returns:
        An instance of the engine.

    Raises:
        RequestError: no package provides it, or the package that does cannot be imported.
    """
    try:
        return ENGINES[name]()
    except UnknownComponentError as error:
        message = f"{name} is neither an engine nor the path of an export"
        raise RequestError(message, "--engine", f"choose auto, {', '.join(ENGINES)}, or name an export") from error
    except ImportError as error:
        raise RequestError(f"the engine {name} cannot be imported: {error}", "--engine", "install it again") from error


def all_engines() -> list[Engine]:
    """Return all engines; one whose package cannot be imported is left out with a warning.

    Returns:
        One instance of each engine.
    """
    engines = []
    for name in ENGINES:
        try:
            engines.append(find_engine(name))
        except RequestError as error:
            warnings.warn(str(error), stacklevel=2)
    return engines


def find_format(name: str) -> ExportFormat:
    """Return an export format by name.

    Args:
        name: name of the format.

    Returns:
        An instance of the format.

    Raises:
        RequestError: no package provides it, or the package that does cannot be imported.
    """
    try:
        return FORMATS[name]()
    except UnknownComponentError as error:
        raise RequestError(f"unknown format {name}", "--format", f"choose from {', '.join(FORMATS)}") from error
    except ImportError as error:
        raise RequestError(f"the format {name} cannot be imported: {error}", "--format", "install it again") from error
