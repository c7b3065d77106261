"""Distribute scenes to processes with Ray Data, on this machine or on a cluster.

Each scene is a separate block, so Ray repeats only this scene if its process or machine is lost. Ray may also run a
block twice. The output is still complete: it is written to a temporary file and renamed, and only one process at a time
can lock the journal that it is made from.
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

from rsft.inference.archive.archive import ATTEMPTS, SceneExecutor, SceneResult, classify_scene
from rsft.inference.predict.request import PredictionRequest
from rsft.utils.ray_cluster.session import ray_session


def ray_executor(address: str | None = None, jobs: int | None = None) -> SceneExecutor:
    """Return an executor that distributes scenes over a cluster or over this machine.

    All machines must see the working directory, bundle, scenes and outputs under the same paths.

    Args:
        address: address of the cluster; None for this machine.
        jobs: number of scenes at the same time (default: the number of cores, or of GPUs if the request uses them).

    Returns:
        The executor, which starts Ray when it is called and stops it at the end.
    """

    def execute(scenes: Sequence[SceneResult], bundle_dir: Path, request: PredictionRequest) -> Iterator[SceneResult]:
        os.environ["RAY_TASK_MAX_RETRIES"] = str(ATTEMPTS - 1)  # of a task whose process is killed
        with ray_session(address):
            _configure(ray.data.DataContext.get_current())
            resources: Any = ray.cluster_resources  # not typed
            uses_gpu = request.device == "cuda" or (request.device == "auto" and "GPU" in resources())
            classify: Any = _classify
            data = ray.data.from_items([asdict(scene) for scene in scenes], override_num_blocks=len(scenes)).map(
                classify,
                fn_kwargs={"bundle_dir": bundle_dir, "request": request, "working_dir": Path.cwd()},
                num_cpus=1,
                num_gpus=int(uses_gpu),
                concurrency=jobs,
            )
            for row in data.iter_rows():
                yield SceneResult(**row)

    return execute


def _classify(row: dict[str, Any], bundle_dir: Path, request: PredictionRequest, working_dir: Path) -> dict[str, Any]:
    os.chdir(working_dir)  # so that relative paths mean the same as in the parent process
    return asdict(classify_scene(SceneResult(**row), bundle_dir, request))


def _configure(context: Any) -> None:
    """Switch off Ray's output, and continue with other scenes if Ray gives up on one."""
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = -1
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
