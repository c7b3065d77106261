"""Several bundles in one pass over the chips, which are read once, as far as the bundles agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from rsft.errors import RequestError
from rsft.inference.engines.engines import CHUNK, PLAIN
from rsft.inference.predict.job import Predictions, inputs_of, job_key, journal_of, make_plan, write_result
from rsft.inference.predict.pipeline import Model, batches, classify_all
from rsft.inference.predict.request import AS_USUAL, Plan, Request, columns
from rsft.inference.predict.resume_journal import Journal
from rsft.inference.scenes.raster import gdal_limits
from rsft.inference.writers.tables import check_output
from rsft.models.averaging import seen_contract
from rsft.models.bundle.bundle import Bundle
from rsft.models.outputs import Outputs
from rsft.models.shared_backbone import Shared, load_shared
from rsft.types import Progress


def predict_together(
    folders: Sequence[Path],
    inputs: Sequence[Path],
    out: Path,
    request: Request = AS_USUAL,
    progress: Progress | None = None,
) -> list[Predictions]:
    """Classify by several bundles: the table of the first is `out`, that of another `<out stem>.<its name>` beside it.

    Raises:
        RequestError: bundles of two backbones or contracts, and as `rsft.inference.predict.job.predict`.
        WeightsError, DataError: as there.
    """
    _check(request)
    bundles = [Bundle.load(folder) for folder in folders]
    outs = tables_of(out, bundles)
    for bundle, path in zip(bundles, outs, strict=True):
        check_output(path, columns(bundle.classes), overwrite=request.overwrite)
    shared = load_shared(bundles, request.device)
    paths, declared, skipped = inputs_of(inputs, request)
    files = [journal_of(path) for path in outs]
    finished = False
    journals: list[Journal] = []
    try:
        for file, bundle in zip(files, bundles, strict=True):
            journals.append(Journal(file, job_key(bundle, paths, declared, request)))
        with gdal_limits(), ExitStack() as stack:
            plan = make_plan(bundles[0], paths, declared, request, journals[0], progress)
            for source in plan.sources:
                stack.callback(source.close)
            _classify(bundles, shared, plan, request, journals, progress)
            facts = {"kind": str(PLAIN), "asked": request.engine, "with": [bundle.sha256 for bundle in bundles]}
            told = f"engine: {PLAIN}; {_words(shared, len(bundles))}"
            results = [
                write_result(bundle, plan, request, journal, path, skipped, told, facts)
                for bundle, journal, path in zip(bundles, journals, outs, strict=True)
            ]
        finished = True
    finally:
        for journal in journals:
            journal.close(finished)
    return results


def _classify(
    bundles: Sequence[Bundle],
    shared: Shared,
    plan: Plan,
    request: Request,
    journals: Sequence[Journal],
    progress: Progress | None,
) -> None:
    engine, first = _engine(shared), bundles[0]
    contract = seen_contract(first.contract, first.recipe.evaluate)
    models = [
        Model(partial(_one, engine, number), contract, bundle.classes, bundle.confidence)
        for number, bundle in enumerate(bundles)
    ]
    todo = batches(plan.sources, request.batch_size)
    classify_all(todo, engine, models, journals, readers=request.readers, progress=progress)


def _one(engine: Callable[[NDArray[np.float32]], list[Outputs]], number: int, inputs: NDArray[np.float32]) -> Outputs:
    return engine(inputs)[number]


def tables_of(out: Path, bundles: Sequence[Bundle]) -> list[Path]:
    """`out`, and beside it a file for every other bundle, by the name of its recipe; numbered where names repeat."""
    found = [out]
    for bundle in bundles[1:]:
        name, number = bundle.recipe.name, 2
        while out.with_name(f"{out.stem}.{name}{out.suffix}") in found:
            name, number = f"{bundle.recipe.name}-{number}", number + 1
        found.append(out.with_name(f"{out.stem}.{name}{out.suffix}"))
    return found


def _check(request: Request) -> None:
    if request.html is not None:
        raise RequestError("a review page is of one bundle", "--html", "leave out --also, or the page")
    if request.engine not in ("auto", "torch") or request.precision not in (None, "fp32"):
        what = "bundles share what they have in common in PyTorch, in float32"
        raise RequestError(what, "--also", "leave out --engine and --precision, or classify with each by itself")


def _engine(shared: Shared) -> Callable[[NDArray[np.float32]], list[Outputs]]:
    place = next(shared.parameters()).device

    @torch.inference_mode()
    def run(inputs: NDArray[np.float32]) -> list[Outputs]:
        parts = torch.split(torch.from_numpy(inputs), CHUNK if place.type == "cpu" else len(inputs))
        answers = zip(*(shared.answers(part.to(place)) for part in parts), strict=True)
        return [Outputs(*(torch.cat(each).float().cpu().numpy() for each in zip(*own, strict=True))) for own in answers]

    return run


def _words(shared: Shared, count: int) -> str:
    below = {-1: "nothing but the chips is", 0: "chips and embedding are"}
    return f"{below.get(shared.stage, f'chips and {shared.stage} blocks are')} shared by {count} bundles"
