"""`rsft finetune RECIPE --dry-run`: what a run needs, and what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psutil

from rsft.cli.environment_report import EnvironmentCheck, Status
from rsft.errors import RequestError, RsftError
from rsft.recipe.schema import Recipe
from rsft.utils.operating_system import free_disk
from rsft.utils.write_errors import explain_os_error


def list_needs(
    recipe: Recipe, runs: Path, fault: RequestError | None
) -> Iterator[EnvironmentCheck]:
    """Yield one row each for data, weights, precision, memory, disk and time of a run.

    Without the chips, disk and time are unknown.

    Args:
        recipe: the recipe.
        runs: folder of all runs.
        fault: why its chip store cannot be chosen; None if it can.

    Raises:
        RequestError: the backbone is unknown, or lacks a site of the recipe.
    """
    import torch

    from rsft.data.chips.manifest import SPLITS
    from rsft.data.chips.store import ChipStore
    from rsft.models.devices import choose_device
    from rsft.training import cost
    from rsft.training.precision import resolve_precision
    from rsft.training.processes import HALF_DTYPES
    from rsft.utils.speedup import operations_per_second

    store = None
    root = Path(recipe.data.root)
    try:
        if fault:
            raise fault
        store = ChipStore.open(root)
        chips = {split: sum(store.counts[split].values()) for split in SPLITS}
        numbers = ", ".join(f"{number:,} {split}" for split, number in chips.items())
        yield EnvironmentCheck("data", f"{root}: {numbers} chips")
    except RsftError as error:
        yield _failure("data", error)
    yield _check_weights(recipe)
    try:
        device = choose_device(recipe.train.device)
        recipe = resolve_precision(recipe, device)
        yield EnvironmentCheck(
            "precision", f"{recipe.train.precision} on {device.type}"
        )
    except RequestError as error:
        yield _failure("precision", error)
        return
    network = cost.count_network(recipe, len(store.classes) if store else 10)
    memory = cost.count_memory(recipe, network) + psutil.Process().memory_info().rss
    yield _check_space("memory, at most", memory, _free_memory(device.type), "warn")
    if not store:
        return
    inputs, run = cost.count_disk(
        recipe, network, chips, len(recipe.data.bands or store.bands)
    )
    yield _check_space("disk, chip store", inputs, free_disk(root))
    yield _check_space("disk, run", run, free_disk(runs))
    operations = cost.count_operations(recipe, network, chips)
    rate = operations_per_second(
        device, HALF_DTYPES.get(recipe.train.precision, torch.float32)
    )
    hours = timedelta(seconds=round(operations / rate))
    text = (
        f"{hours} (h:mm:ss): {operations / 1e12:,.3g} Tflop at {rate / 1e9:,.3g}"
        " Gflop/s"
    )
    yield EnvironmentCheck(
        "time", text, hint="without baselines, report and the reading of chips"
    )


def _failure(name: str, error: RsftError) -> EnvironmentCheck:
    return EnvironmentCheck(
        name, f"{error.message}: {error.location}", "fail", error.hint
    )


def _check_weights(recipe: Recipe) -> EnvironmentCheck:
    """Check that the weights file of the backbone exists."""
    from rsft.backbones.card import find_weights
    from rsft.backbones.catalog import find_encoder

    try:
        if recipe.backbone.weights is not None:
            path = Path(recipe.backbone.weights)
        else:
            encoder = find_encoder(recipe.backbone.name)
            if not encoder.weights:
                return EnvironmentCheck("weights", f"{encoder.name} needs no file")
            path = find_weights(encoder)
        size = path.stat().st_size
    except RsftError as error:
        return _failure("weights", error)
    except OSError as error:
        return _failure("weights", explain_os_error(error))
    return EnvironmentCheck("weights", f"{path} ({size / 1e6:,.1f} MB)")


def _check_space(
    name: str, needed: float, free: float, otherwise: Status = "fail"
) -> EnvironmentCheck:
    """Compare numbers of bytes; `otherwise` is the status if too few are free."""
    text = f"{needed / 1e9:,.2g} GB of {free / 1e9:,.1f} GB free"
    if needed <= free:
        return EnvironmentCheck(name, text)
    return EnvironmentCheck(
        name,
        text,
        otherwise,
        "free some of it, or take fewer chips, a smaller train.batch_size or another"
        " machine",
    )


def _free_memory(device: str) -> float:
    if device == "cuda":
        import torch

        return float(torch.cuda.mem_get_info()[0])
    return float(psutil.virtual_memory().available)
