"""Base classes and registries of engines and export formats.

An engine computes the logits and features of a bundle. An export format writes a bundle
as files for other programs. Each of them is one class with a `name`. To add one,
register a class in a module of this package, or list a class of another package in the
entry-point group `rsft.engines` or `rsft.export_formats`. An engine that runs an
exported graph (`rsft.inference.engines.graph.GraphEngine`) belongs to both groups.

`rsft --help` imports the modules of this package, so they import PyTorch and the
runtimes inside methods only.
"""

from __future__ import annotations

import os
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from rsft.errors import RequestError
from rsft.utils.dependencies import require
from rsft.utils.operating_system import available_cores
from rsft.utils.registry import Registry

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from rsft.data.imagery.contract import Contract
    from rsft.models.bundle.bundle import Bundle
    from rsft.models.outputs import ClassifierOutputs
    from rsft.types import Bytes, Floats32, JsonObject, Names


IMAGES = "images"
LOGITS = "logits"
FEATURES = "features"
"""Names of the input and the outputs of an exported graph."""

METADATA_KEY = "rsft"
"""Key of the metadata inside exported files."""

CPU_BATCH_SIZE = 16
"""Number of images in a batch on a CPU. Larger batches are not faster and need more
memory."""

InferenceFn = Callable[["Floats32"], "ClassifierOutputs"]
"""A function that computes logits (N, C) and features (N, D) of images (N, P, S, S)."""


class EngineSpec(NamedTuple):
    """An engine with its options; the text form is its key in metadata."""

    engine: str
    precision: str = "fp32"

    def __str__(self) -> str:
        return f"{self.engine} {self.precision}"


REFERENCE = EngineSpec("torch")
"""The engine that all others are compared with: PyTorch in float32."""


class LoadedEngine(NamedTuple):
    """An engine that is ready to classify.

    Attributes:
        infer: computes logits and features of network inputs, including test-time
            augmentation.
        contract: turns chips into the inputs of `infer`.
        concurrency: number of threads that may call `infer` at the same time.
        takes_bytes: whether `infer` also takes images (N, S, S, P) as bytes, which it
            normalizes on its device.
    """

    infer: InferenceFn
    contract: Contract
    spec: EngineSpec
    note: str = ""
    concurrency: int = 1
    takes_bytes: bool = False

    def make_inputs(self, images: Sequence[Bytes]) -> NDArray[Any]:
        """Return what `infer` reads of n images (size, size, P)."""
        if self.takes_bytes:
            return self.contract.stack(images)
        return self.contract.normalize(images)

    @property
    def summary(self) -> str:
        """One line for the user."""
        return "; ".join(filter(None, (f"engine: {self.spec}", self.note)))

    @property
    def metadata(self) -> JsonObject:
        """Entry "engine" of the metadata of the output."""
        return {
            "kind": str(self.spec),
            "reason": self.note,
            "version": installed_versions(find_engine(self.spec.engine).packages),
            "threads": engine_threads(),
        }


@dataclass(frozen=True)
class Tolerance:
    """Largest accepted difference from PyTorch in float32.

    Attributes:
        limit: largest difference of a logit, and of a feature divided by the largest
            feature. None compares the accuracy of each group of classes instead of
            single outputs.
        relative: whether differences of logits are divided by the largest logit as well
            (cosine heads reach 25). Divisors below 1 count as 1.
    """

    limit: float | None
    relative: bool = False


EXACT = Tolerance(1e-3)
"""Tolerance of float32."""

SAME_NETWORK = Tolerance(1e-5, relative=True)
"""Tolerance of a network that PyTorch itself runs, with the same weights in float32."""

ROUNDED = Tolerance(1e-2, relative=True)
"""Tolerance of bfloat16."""

QUANTIZED = Tolerance(None)
"""Tolerance of int8. Its outputs are not compared one by one; its accuracy is
measured."""


class _Component(ABC):
    """Base class of engines and export formats.

    Attributes:
        name: value of `--engine` or `--format`; it is stored with exports and
            predictions.
        title: name in messages.
        precisions: tolerance of each supported precision.
        packages: packages that it needs to run. A cached export is only used with the
            same versions of them.
        extra: extra of rsft that installs these packages.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    precisions: ClassVar[Mapping[str, Tolerance]]
    packages: ClassVar[Names] = ()
    extra: ClassVar[str] = ""

    def check_precision(self, precision: str) -> None:
        """Raise a RequestError if a precision, such as fp32, is not supported."""
        if precision not in self.precisions:
            choices = " or ".join(self.precisions)
            raise RequestError(
                f"no {precision} for {self.name}", "--precision", f"choose {choices}"
            )

    def require(self, module: str) -> Any:
        """Import a package of the extra, or one of its modules.

        A missing package is a RequestError.
        """
        return require(module, self.extra)


class Engine(_Component):
    """Base class of engines.

    A subclass is a `DirectEngine`, or a `rsft.inference.engines.graph.GraphEngine`.
    """

    devices: ClassVar[Names] = ("cpu",)

    def check(self, precision: str, device: str) -> None:
        """Raise an error if the engine cannot be used.

        Args:
            precision: fp32, bf16 or int8.
            device: auto, cpu or cuda.

        Raises:
            RequestError: an unsupported precision or device, or a package that is not
                installed.
        """
        self.check_precision(precision)
        for package in self.packages:
            self.require(package)
        if device == "cuda" and device not in self.devices:
            raise RequestError(
                f"{self.name} computes on the CPU only",
                "--device",
                f"use --engine {REFERENCE.engine}",
            )


class DirectEngine(Engine):
    """Base class of engines that run a bundle without an export."""

    @abstractmethod
    def load(self, bundle: Bundle, spec: EngineSpec, device: str) -> LoadedEngine:
        """Load a bundle's network on a device: auto, cpu or cuda.

        Its test-time views are part of it.

        Raises:
            RequestError: a package is missing.
            WeightsError: the local backbone is not the bundle's.
        """


class ExportFormat(_Component):
    """Base class of export formats.

    Attributes:
        file_name: name of the main file in the folder of an export.
        export_packages: additional packages that it needs to write files.
        whole_only: whether every export holds the whole pipeline, from pixels to
            probabilities.
    """

    file_name: ClassVar[str]
    export_packages: ClassVar[Names] = ()
    whole_only: ClassVar[bool] = False

    @abstractmethod
    def write(
        self,
        bundle: Bundle,
        folder: Path,
        metadata: JsonObject,
        images: Tensor,
    ) -> ClassifierOutputs:
        """Write a bundle into an empty folder, and compute outputs with its files.

        Args:
            bundle: PEFT modules are merged if the format needs it.
            folder: folder of the export. The caller writes export.json.
            metadata: content of export.json with its "precision"; the format may add
                entries.
            images: network inputs (N, P, S, S).

        Returns:
            Logits (N, C) and features (N, D).

        Raises:
            RequestError: the format cannot store this bundle, or a package is not
                installed.
        """


ENGINES: Registry[type[Engine]] = Registry(
    "engine", "rsft.engines", "rsft.inference.engines"
)
"""Registry of engines."""

FORMATS: Registry[type[ExportFormat]] = Registry(
    "export format", "rsft.export_formats", "rsft.inference.engines"
)
"""Registry of export formats."""


def find_engine(name: str) -> Engine:
    """Return the engine with a given name.

    Raises:
        RequestError: the name is unknown.
    """
    if name not in ENGINES:
        raise RequestError(
            f"{name} is neither an engine nor the path of an export",
            "--engine",
            f"choose auto, {', '.join(ENGINES)}, or give the path of an export",
        )
    return ENGINES[name]()


def find_format(name: str) -> ExportFormat:
    """Return the export format with a given name.

    Raises:
        RequestError: the name is unknown.
    """
    if name not in FORMATS:
        raise RequestError(
            f"unknown format {name}", "--format", f"choose from {', '.join(FORMATS)}"
        )
    return FORMATS[name]()


def installed_versions(packages: Names) -> dict[str, str]:
    """Return the version of each package that is installed, by its name."""
    versions = {}
    for package in packages:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


def first_line(error: Exception) -> str:
    """Return the first line of a library's message, or the name of the error."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


_TOPOLOGY = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"


def engine_threads() -> int:
    """Return the number of threads with which an engine computes.

    It is that of PyTorch, if this process has imported it.

    Otherwise it is `OMP_NUM_THREADS`, or the number of physical cores that the process
    may use, as in PyTorch.
    """
    if "torch" in sys.modules:
        return int(sys.modules["torch"].get_num_threads())
    limit = re.match(r"\s*(\d+)", os.environ.get("OMP_NUM_THREADS", ""))
    if limit:
        return max(1, int(limit[1]))
    cores = set()
    for number in available_cores():
        siblings = str(number)
        with suppress(OSError):  # two hardware threads of a core count once
            siblings = Path(_TOPOLOGY.format(number)).read_text("utf-8").strip()
        cores.add(siblings)
    return max(1, len(cores))
