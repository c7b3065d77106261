"""What turns network inputs into logits: one callable, in PyTorch, ONNX Runtime or OpenVINO."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsft.data.imagery.contract import Contract
from rsft.errors import RequestError
from rsft.inference.engines.export_cache import kept_runtime
from rsft.inference.export.metadata import read_about
from rsft.inference.export.runtimes import FILES, Run, Runtime, open_graph, spread, still
from rsft.inference.export.traceable import Half, network_of
from rsft.models.averaging import Answering, with_views
from rsft.models.bundle.bundle import Bundle
from rsft.models.factory import choose_device, load_classifier
from rsft.models.outputs import Outputs
from rsft.utils.optional_dependencies import RUNTIMES, need

Engine = Callable[[NDArray[np.float32]], Outputs]
"""(N, P, S, S) -> logits (N, C) and features (N, D)."""

ENGINES = ("torch", "onnx", "openvino")
PRECISIONS = ("fp32", "bf16", "int8")

CHUNK = 16
"""Images that a processor computes at once: more are no faster and hold more memory."""


class Kind(NamedTuple):
    """An engine: which runtime, in which numbers, and of PyTorch whether it is compiled."""

    engine: str
    precision: str = "fp32"
    compiled: bool = False

    def __str__(self) -> str:
        return f"{self.engine} {self.precision}{', compiled' if self.compiled else ''}"


PLAIN = Kind("torch")
"""What all others are held against."""


class Opened(NamedTuple):
    """An engine that is ready, the contract of its inputs, what it is, and threads that may call it at once."""

    run: Engine
    contract: Contract
    kind: Kind
    note: str = ""
    callers: int = 1


def torch_engine(bundle: Bundle, device: str = "auto") -> Opened:
    """The bundle's classifier in PyTorch, merged, in float32; test-time crops take larger inputs.

    Raises:
        WeightsError: the backbone on this machine is not the one that the bundle was trained on.
    """
    model = load_classifier(bundle, device)
    place = next(model.parameters()).device
    return _opened(bundle, model, PLAIN, place, CHUNK if place.type == "cpu" else None)


def open_engine(bundle: Bundle, kind: Kind, device: str, images: Tensor | None = None) -> Opened:
    """The bundle in any engine; its export is made first, where none is kept.

    Args:
        images: chips of the job (n, P, S, S), which a new export is checked on.

    Raises:
        RequestError: an engine or precision that there is not, or that is not installed.
        WeightsError: as `torch_engine`, or an export that differs from PyTorch.
    """
    if kind == PLAIN:
        return torch_engine(bundle, device)
    _check(kind, device)
    if kind.engine == "torch":
        return _half(bundle, kind, choose_device(device))
    runtime = kept_runtime(bundle, kind.engine, kind.precision, images)()
    return _opened(bundle, runtime, kind)


def open_file(bundle: Bundle, path: Path) -> Opened:
    """An export of this bundle, by its folder or its file.

    Raises:
        RequestError: it is none, of another bundle, or holds no graph for a runtime.
        WeightsError: it is altered.
    """
    folder = path if path.is_dir() else path.parent
    about = read_about(folder)
    if about["bundle_sha256"] != bundle.sha256:
        what = f"an export of the bundle {about['bundle_sha256'][:12]}, but this is {bundle.sha256[:12]}"
        raise RequestError(what, path, "export this bundle: rsft export")
    kind = Kind(about["kind"], about["precision"])
    if kind.engine not in RUNTIMES:
        raise RequestError(f"rsft runs no {kind.engine} export", path, "export onnx or openvino, or use --engine torch")
    runtime = open_graph(kind.engine, folder / FILES[kind.engine], kind.precision)
    return _opened(bundle, runtime, kind)


def compiler() -> str | None:
    """The C++ compiler that torch.compile would call, if there is one."""
    return next(filter(None, map(shutil.which, (os.environ.get("CXX", "g++"), "g++", "clang++"))), None)


def _check(kind: Kind, device: str) -> None:
    if kind.engine not in ENGINES:
        what = f"{kind.engine} is neither an engine nor an export that is here"
        raise RequestError(what, "--engine", f"choose auto, {', '.join(ENGINES)}, or name an export")
    if kind.precision not in PRECISIONS:
        raise RequestError(f"there is no precision {kind.precision}", "--precision", f"choose {', '.join(PRECISIONS)}")
    if kind.engine in RUNTIMES:
        need(RUNTIMES[kind.engine])
        if device == "cuda":
            raise RequestError(f"{kind.engine} runs on the processor here", "--device", "use --engine torch on a GPU")
    elif kind.precision == "int8":
        raise RequestError("PyTorch has no int8 here", "--precision", "use --engine openvino, or onnx")


def _half(bundle: Bundle, kind: Kind, place: torch.device) -> Opened:
    """In bfloat16, compiled where that is asked for and can be done: on a processor, with a C++ compiler."""
    note = ""
    if kind.compiled and place.type == "cpu":
        try:
            return _opened(bundle, _compiled(bundle), kind)
        except Exception as error:  # whatever the compiler fails with, the network runs without it
            note = f"not compiled: {(str(error).strip() or type(error).__name__).splitlines()[0][:200]}"
    module = Half(network_of(bundle)).to(place)
    chunk = CHUNK if place.type == "cpu" else None
    opened = _opened(bundle, Runtime(still(module, place)), kind._replace(compiled=False), chunk=chunk)
    return opened._replace(note=note)


def _compiled(bundle: Bundle) -> Runtime:
    """Frozen: weights are laid out once as the products read them, and small layers fused with them."""
    if compiler() is None:
        raise RuntimeError("there is no C++ compiler")
    from torch._inductor import config as inductor  # takes a second

    module: Any = Half(network_of(bundle), products=True)
    pool, side = _one_core_each(), bundle.contract.size
    share = -(-CHUNK // torch.get_num_threads())
    run = _padded(still(torch.compile(module, dynamic=False)), share)
    first = inductor.patch(freezing=True)(run)  # read at the first call: an option of torch.compile comes too late
    pool.submit(first, np.zeros((share, len(bundle.contract.planes), side, side), np.float32)).result()
    return spread(run, pool)


def _one_core_each() -> ThreadPoolExecutor:
    """As many threads as PyTorch has, in which it computes on one core; elsewhere it keeps them all."""
    threads = torch.get_num_threads()
    all_there = Barrier(threads)

    def begin() -> None:
        torch.set_num_threads(1)  # of this thread, and of those that begin later
        torch.get_num_threads()  # until it is asked, a thread goes by what was set last, by whatever thread
        all_there.wait()

    pool = ThreadPoolExecutor(threads, "engine", initializer=begin)
    list(pool.map(abs, range(threads)))
    torch.set_num_threads(threads)
    return pool


def _opened(
    bundle: Bundle, model: Answering, kind: Kind, place: torch.device | str = "cpu", chunk: int | None = CHUNK
) -> Opened:
    """Test-time crops and pieces around a model that takes images at `place`, at most `chunk` at once."""
    seeing, contract = with_views(model, bundle.contract, bundle.recipe.evaluate)

    @torch.inference_mode()
    def run(inputs: NDArray[np.float32]) -> Outputs:
        parts = torch.split(torch.from_numpy(inputs), chunk or len(inputs))
        answers = [seeing.answer(part.to(place)) for part in parts]
        return Outputs(*(torch.cat(each).float().cpu().numpy() for each in zip(*answers, strict=True)))

    return Opened(run, contract, kind, callers=model.callers if isinstance(model, Runtime) else 1)


def _padded(run: Run, size: int) -> Run:
    """Always `size` images, so that one size is compiled."""

    def whole(x: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        missing = [(0, size - len(x)), *[(0, 0)] * (x.ndim - 1)]
        logits, features = run(np.pad(x, missing))
        return logits[: len(x)], features[: len(x)]

    return whole
