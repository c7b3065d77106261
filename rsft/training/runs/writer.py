"""Write a run folder during the training: tables, status and origin."""

from __future__ import annotations

import errno
import logging
import platform
import shutil
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pandas as pd
import psutil
import torch
from filelock import FileLock

from rsft.errors import Interrupted, RequestError
from rsft.peft import Site
from rsft.peft.kernels.matmul import choose_matmul, use_matmul
from rsft.recipe.load import dump_recipe
from rsft.recipe.schema import Recipe
from rsft.training.processes import is_rank_zero
from rsft.training.runs import reader
from rsft.types import JsonObject
from rsft.utils.atomic_files import atomic_file, atomic_folder, write_json, write_text
from rsft.utils.cell.client import allow_reading
from rsft.utils.operating_system import (
    available_cores,
    describe_name_fault,
    processor_name,
)
from rsft.utils.write_errors import explain_os_error

if TYPE_CHECKING:
    from torch import Tensor

    from rsft.training.setup import TrainingSetup

_log = logging.getLogger(__name__)

RECORDED_PACKAGES = (
    "rsft",
    "torch",
    "lightning",
    "timm",
    "torchvision",
    "torchgeo",
    "rasterio",
    "albumentations",
    "numpy",
    "pandas",
)
"""Packages with versions that may change a result."""


def collect_provenance(recipe: Recipe, source: Path | None) -> JsonObject:
    """Return the entries of run.json on the origin of a run.

    Returns:
        "seed", "recipe", "recipe_file", "git", "data", "classes", "auto_stretch",
        "versions", "machine", "matmul" (see `rsft.peft.kernels.matmul`) and "hardware":
        name of the CPU, cores available to this process, threads of torch, memory in
        GB, and names of the GPUs.
    """
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    return {
        "seed": recipe.seed,
        "recipe": recipe.model_dump(),
        "recipe_file": str(source.resolve()) if source else None,
        "git": git_state(source) if source else None,
        **reader.describe_data(recipe.data),
        # version of the rule of data.stretch=auto; a resumed run of rsft 0.2 keeps the
        # first one
        "auto_stretch": 2,
        "versions": package_versions(),
        "machine": platform.platform(),
        "matmul": choose_matmul(),
        "hardware": {
            "cpu": processor_name(),
            "cores": len(available_cores()),
            "threads": torch.get_num_threads(),
            "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
            "gpus": [torch.cuda.get_device_name(index) for index in gpus],
        },
    }


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of `RECORDED_PACKAGES` by name."""
    return {"python": platform.python_version()} | {
        name: metadata.version(name) for name in RECORDED_PACKAGES
    }


def git_state(path: Path) -> JsonObject | None:
    """Return the state of the Git repository around a file or folder.

    Returns:
        "commit", and "dirty" if tracked files have changed; None without a repository,
        without a commit, or without git.
    """
    folder = path if path.is_dir() else path.parent
    describe = ("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    command = ["git", "--no-optional-locks", "-C", str(folder), *describe]
    try:
        done = subprocess.run(command, capture_output=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    commit, _, change = done.stdout.decode().strip().partition("-")
    return {"commit": commit, "dirty": bool(change)}


MODULATOR_FILE = "modulator.csv"


@dataclass
class Run:
    """A run in progress: the folder runs/<recipe>/<number>/ with its tables.

    Only the process of rank zero writes files; other processes have the metadata in
    memory.

    Attributes:
        folder: the run folder.
        metadata: the content of run.json: status, times, versions, device, parameters.
        recipe: the recipe of the run; None if it is only read.
        is_writer: whether this process writes files.
    """

    folder: Path
    metadata: JsonObject = field(default_factory=dict)
    recipe: Recipe | None = None
    is_writer: bool = field(default_factory=is_rank_zero)
    _lock: FileLock | None = field(default=None, repr=False)
    # of sessions before this one
    _earlier_seconds: float = field(default=0.0, repr=False)
    _session_began: float = field(default_factory=time.monotonic, repr=False)
    # by table
    _rows: defaultdict[str, list[JsonObject]] = field(
        default_factory=lambda: defaultdict(list), repr=False
    )

    @classmethod
    def create(
        cls,
        recipe: Recipe,
        runs: Path,
        source: Path | None = None,
        entries: Mapping[str, Any] | None = None,
    ) -> Self:
        """Create and lock the next run folder of a recipe, with recipe and metadata.

        A run of other data than the earlier ones gets another folder
        (`rsft.training.runs.reader.choose_runs_folder`).

        Args:
            recipe: the recipe of the run.
            runs: folder of all runs.
            source: the recipe's file.
            entries: further entries of run.json.

        Raises:
            RequestError: this system cannot hold a folder of that name.
        """
        parent = reader.find_runs_folder(runs, recipe.name)
        if not is_rank_zero():
            return cls(parent, recipe=recipe)
        fault = describe_name_fault(recipe.name)
        if fault:
            raise RequestError(fault, "name", "choose another name in the recipe")
        provenance = collect_provenance(recipe, source)
        chosen = reader.choose_runs_folder(runs, recipe.name, provenance)
        if chosen != parent:
            _log.warning(
                "%s has runs of other chips or classes, so this run is in %s",
                parent,
                chosen,
            )
            parent = chosen
        parent.mkdir(parents=True, exist_ok=True)
        numbers = [int(path.name) for path in reader.numbered_runs(parent)]
        for number in count(max(numbers, default=0) + 1):
            folder = parent / f"{number:03d}"
            try:
                with atomic_folder(folder, replace=False) as new:
                    run = cls(new, recipe=recipe)
                    write_text(new / reader.RECIPE_FILE, dump_recipe(recipe))
                    run.update(
                        status="running",
                        started=_now(),
                        **provenance,
                        **(entries or {}),
                    )
                break
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise  # otherwise another process took the number in the meantime
        run.folder = folder
        run._lock = reader.lock_run(folder)
        allow_reading(folder)
        return run

    @classmethod
    def resume(cls, info: reader.RunInfo) -> Self:
        """Lock an unfinished run and record the new session.

        Products are computed by the library with which the run began.

        Raises:
            RequestError: the run is broken, or in progress in another process, or this
                machine lacks the library of its products.
        """
        if info.faults:
            raise RequestError(
                "; ".join(info.faults), info.folder, "start a new run of the recipe"
            )
        run = cls(info.folder, recipe=info.recipe)
        if run.is_writer:
            run._lock = reader.lock_run(info.folder)
        # the last owner of the lock may have changed it
        metadata = reader.read_run_metadata(info.folder)
        run.metadata = {
            key: value
            for key, value in metadata.items()
            if key not in ("fault", "chips")
        }
        run._earlier_seconds = metadata.get("seconds") or 0.0
        if "matmul" in metadata:
            use_matmul(metadata["matmul"])
        if run.is_writer:
            sessions = [
                *run.metadata.get("resumed", []),
                {"at": _now(), "versions": package_versions()},
            ]
            run.update(status="running", resumed=sessions)
        return run

    @contextmanager
    def track_status(self) -> Iterator[None]:
        """Write what ends the block to run.json, and release the lock.

        Raises:
            Interrupted: SIGINT or SIGTERM; the hint is the command that resumes the
                run.
            RsftError: a file cannot be read or written.
        """
        try:
            yield
        except Interrupted as error:
            self._fail("interrupted")
            error.location = f"{self.folder}, {error.location}"
            error.hint = self.resume_command
            raise
        except (KeyboardInterrupt, SystemExit) as error:
            # before training, or at the second Ctrl-C, which Lightning turns into
            # SystemExit
            self._fail("interrupted")
            raise Interrupted(
                signal.SIGINT, self.folder, self.resume_command
            ) from error
        except OSError as error:
            self._fail("failed", fault=str(error))
            raise explain_os_error(
                error, self.folder, f"resume with `{self.resume_command}`"
            ) from error
        except BaseException as error:
            chips = getattr(error, "chips", ())
            self._fail(
                "failed", fault=str(error), **({"chips": list(chips)} if chips else {})
            )
            raise
        finally:
            if self._lock:
                self._lock.release()
                self._lock = None

    @property
    def resume_command(self) -> str:
        """The command that resumes the run."""
        return f"rsft finetune --resume {self.folder}"

    @property
    def seconds(self) -> float:
        """Wall-clock seconds so far, summed over all resumed sessions."""
        return round(self._earlier_seconds + time.monotonic() - self._session_began, 1)

    @property
    def bundle_dir(self) -> Path:
        """The folder of the bundle."""
        return self.folder / "bundle"

    @property
    def checkpoints_dir(self) -> Path:
        """The folder of the checkpoints; a finished run has none."""
        return self.folder / reader.CHECKPOINTS_DIR

    def update(self, **entries: Any) -> None:
        """Add entries (key -> JSON value) to run.json."""
        self.metadata.update(entries)
        if self.is_writer:
            write_json(self.folder / reader.METADATA_FILE, self.metadata)

    def finish(self) -> None:
        """Write to run.json that training has ended, and delete the checkpoints.

        `mark_done` follows.
        """
        self.update(status="trained", finished=_now(), seconds=self.seconds)
        if self.is_writer:
            shutil.rmtree(self.checkpoints_dir, ignore_errors=True)

    def _fail(self, status: str, **entries: Any) -> None:
        # the disk may be full, and the caller raises the error that ended the run
        with suppress(OSError):
            self.update(status=status, finished=_now(), seconds=self.seconds, **entries)

    def drop_epochs_from(self, epoch: int) -> None:
        """Delete the rows of an epoch and of later epochs, which are trained again."""
        for name in (reader.METRICS_FILE, MODULATOR_FILE, reader.PSEUDO_LABELS_FILE):
            path = self.folder / name
            if self.is_writer and path.is_file():
                table = pd.read_csv(path)
                rows: list[Any] = table[table["epoch"] < epoch].to_dict("records")
                self._add_rows(name, rows)
                if not rows:
                    path.unlink()

    def add_epoch(self, row: reader.Epoch, factors: dict[Site, Tensor]) -> None:
        """Append an epoch to metrics.csv, and the learned scales to modulator.csv.

        Args:
            row: a row of metrics.csv.
            factors: learned factors of each site, whose mean is its scale.
        """
        self._add_rows(reader.METRICS_FILE, [row])
        scales = []
        for site, values in factors.items():
            scale = {"epoch": row["epoch"], **site._asdict()}
            scale["value"] = float(values.mean())
            if len(values) > 1:
                scale["spread"] = float(values.std(correction=0))
            scales.append(scale)
        self._add_rows(MODULATOR_FILE, scales)

    def add_pseudo_labels(self, epoch: int, counts: Sequence[int]) -> None:
        """Append an epoch to pseudo_labels.csv."""
        if counts:
            columns = (
                *(f"class_{index}" for index in range(len(counts) - 2)),
                "foreign",
                "chips",
            )
            row = {"epoch": epoch, **dict(zip(columns, counts, strict=True))}
            self._add_rows(reader.PSEUDO_LABELS_FILE, [row])

    def _add_rows(self, name: str, rows: Sequence[JsonObject]) -> None:
        """Append rows to a table, which is written whole; no file without rows."""
        self._rows[name] += rows
        if rows and self.is_writer:
            with atomic_file(self.folder / name) as temporary:
                pd.DataFrame(self._rows[name]).to_csv(
                    temporary, index=False, float_format="%.6g"
                )


def mark_done(folder: Path) -> None:
    """Write to run.json that nothing of a trained run is missing.

    A run of another status stays as it is.
    """
    metadata = reader.read_run_metadata(folder)
    if metadata.get("status") == "trained":
        # of a process that was killed earlier
        shutil.rmtree(folder / reader.CHECKPOINTS_DIR, ignore_errors=True)
        write_json(folder / reader.METADATA_FILE, metadata | {"status": "done"})


def require_unchanged_inputs(
    info: reader.RunInfo, setup: TrainingSetup, device: str
) -> None:
    """Raise an error if something that the weights depend on has changed.

    Args:
        info: the run.
        setup: its data and network now.
        device: "cpu" or "cuda". The sums of a CPU depend on the number of its threads.

    Raises:
        RequestError: the chips, the backbone or the number of threads have changed.
    """
    root = setup.store.root
    reader.require_same_chips(info, setup.recipe.data)
    now = setup.encoder.sha256
    before = info.metadata.get("backbone_sha256", now)
    reader.require_same_hash(info, root, "the backbone's weights", before, now)
    began_with = info.metadata.get("hardware", {}).get("threads")
    threads = torch.get_num_threads()
    is_on_cpu = device == "cpu" == info.metadata.get("device")
    if is_on_cpu and began_with not in (None, threads):
        raise RequestError(
            f"the run began with {began_with} threads, but PyTorch has {threads} now:"
            " its weights would differ",
            info.folder,
            f"resume with OMP_NUM_THREADS={began_with}, or start a new run",
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
