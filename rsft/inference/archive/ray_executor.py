"""Scenes given to processes by Ray Data, on this machine or on a cluster.

A scene is a block of its own, so that Ray runs it again, and it alone, if its process or its machine is lost. A block
may be run twice; that there is one output is not Ray's doing but ours: it is renamed into place, and made of a journal
that one process at a time can hold.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray
import ray.data

from rsft.inference.archive.archive import ATTEMPTS, Outcome, Spread, classify_scene
from rsft.inference.predict.request import Request
from rsft.utils.ray_cluster import started


def on_ray(address: str | None = None, jobs: int | None = None) -> Spread:
    """What spreads an archive over the cluster at `address`, or over this machine.

    All machines see the working directory, bundle, scenes and outputs under the same paths.

    Args:
        jobs: scenes at once; None is as many as there are cores, or GPUs where they are used.
    """

    def spread(scenes: Sequence[Outcome], bundle_dir: Path, request: Request) -> Iterator[Outcome]:
        with started(address):
            _settle(ray.data.DataContext.get_current())
            resources: Any = ray.cluster_resources  # not typed
            gpu = request.device == "cuda" or (request.device == "auto" and "GPU" in resources())
            classify: Any = _classify
            data = ray.data.from_items([asdict(scene) for scene in scenes], override_num_blocks=len(scenes)).map(
                classify,
                fn_kwargs={"bundle_dir": bundle_dir, "request": request, "place": Path.cwd()},
                num_cpus=1,
                num_gpus=int(gpu),
                concurrency=jobs,
                ray_remote_args_fn=_retried,
            )
            for row in data.iter_rows():
                yield Outcome(**row)

    return spread


def _classify(row: dict[str, Any], bundle_dir: Path, request: Request, place: Path) -> dict[str, Any]:
    os.chdir(place)  # from which relative paths count
    return asdict(classify_scene(Outcome(**row), bundle_dir, request))


def _retried() -> dict[str, Any]:
    return {"max_retries": ATTEMPTS - 1}


def _settle(context: Any) -> None:
    """No output of its own, and a scene that is lost for good does not end the others."""
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = -1
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
