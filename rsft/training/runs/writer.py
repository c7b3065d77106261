"""The folder of a run, and what is written into it while it goes."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock

from rsft.errors import Interrupted, RequestError, RsftError
from rsft.peft import Site
from rsft.recipe.load import dump_recipe
from rsft.recipe.schema import Recipe
from rsft.training.distributed.collectives import writes
from rsft.training.runs.provenance import data, provenance, versions
from rsft.training.runs.reader import CHECKPOINTS, FACTS, METRICS, RECIPE, hold, read_run
from rsft.utils.atomic_files import replacing, write_text

MODULATOR = "modulator.csv"


@dataclass
class Run:
    """runs/<recipe>/<number>/ and its tables. Of several processes the first alone writes; the others hold facts.

    Attributes:
        folder: of this run alone.
        facts: what run.json holds: status, times, versions, device, parameters.
        writing: whether this process is the one that writes.
    """

    folder: Path
    facts: dict[str, Any] = field(default_factory=dict)
    writing: bool = field(default_factory=writes)
    _lock: FileLock | None = field(default=None, repr=False)
    _before: float = field(default=0.0, repr=False)  # seconds of the sittings until now
    _started: float = field(default_factory=time.monotonic, repr=False)
    _rows: list[dict[str, float]] = field(default_factory=list, repr=False)
    _scales: list[dict[str, Any]] = field(default_factory=list, repr=False)

    @classmethod
    def create(cls, recipe: Recipe, runs: Path, source: Path | None = None) -> Run:
        """Take the next free number under `runs`/<recipe name>/ and write the resolved recipe there.

        Args:
            source: the recipe's file, whose repository's state is noted.
        """
        parent = runs / recipe.name
        if not writes():
            return cls(parent)
        facts = provenance(recipe, source)
        parent.mkdir(parents=True, exist_ok=True)
        number = max((int(path.name) for path in parent.iterdir() if path.name.isdigit()), default=0) + 1
        while True:
            folder = parent / f"{number:03d}"
            try:
                folder.mkdir()
                break
            except FileExistsError:  # another run took it meanwhile
                number += 1
        run = cls(folder, _lock=hold(folder))
        write_text(folder / RECIPE, dump_recipe(recipe))
        run.update(status="running", started=_now(), **facts)
        return run

    @classmethod
    def resume(cls, folder: Path) -> Run:
        """Take up a run where it ended.

        Raises:
            RequestError: there is none, it is broken, or another process is at work on it.
        """
        found = read_run(folder)
        if found.faults:
            raise RequestError("; ".join(found.faults), folder, "start the recipe again")
        facts = {key: value for key, value in found.facts.items() if key not in ("fault", "chips")}
        run = cls(folder, facts, _before=found.seconds or 0.0)
        if run.writing:
            run._lock = hold(folder)
            sittings = [*facts.get("resumed", []), {"at": _now(), "versions": versions()}]
            run.update(status="running", resumed=sittings)
        return run

    @contextmanager
    def going(self) -> Iterator[None]:
        """The run goes on until the block ends; however it ends, run.json says so."""
        try:
            yield
        except Interrupted as error:
            self._fail("interrupted")
            error.where, error.fix = f"{self.folder}, {error.where}", self.resume_line
            raise
        except (KeyboardInterrupt, SystemExit) as error:
            self._fail("interrupted")  # before training, or at the second Ctrl-C, of which Lightning makes an exit
            raise Interrupted(signal.SIGINT, self.folder, self.resume_line) from error
        except OSError as error:
            self._fail("failed", fault=str(error))
            fix = f"check the path, its permissions and the free space; then {self.resume_line}"
            raise RsftError(error.strerror or str(error), error.filename or self.folder, fix) from error
        except BaseException as error:
            chips = getattr(error, "chips", ())
            self._fail("failed", fault=str(error), **({"chips": list(chips)} if chips else {}))
            raise
        finally:
            if self._lock is not None:
                self._lock.release()
                self._lock = None

    @property
    def resume_line(self) -> str:
        """The command that takes it up again."""
        return f"rsft finetune --resume {self.folder}"

    @property
    def seconds(self) -> float:
        """That it took up to now, over all its sittings."""
        return round(self._before + time.monotonic() - self._started, 1)

    @property
    def bundle(self) -> Path:
        """Where the bundle goes."""
        return self.folder / "bundle"

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints go; there are none once it is done."""
        return self.folder / CHECKPOINTS

    def update(self, **facts: Any) -> None:
        """Add to run.json."""
        self.facts.update(facts)
        if self.writing:
            write_text(self.folder / FACTS, json.dumps(self.facts, indent=1))

    def finish(self) -> None:
        """Close run.json with the time taken; the bundle stands for the checkpoints now."""
        self.update(status="done", finished=_now(), seconds=self.seconds)
        if self.writing:
            shutil.rmtree(self.checkpoints, ignore_errors=True)

    def _fail(self, status: str, **facts: Any) -> None:
        with suppress(OSError):  # the disk may be full: what ended the run is told in any case
            self.update(status=status, finished=_now(), seconds=self.seconds, **facts)

    def rewind(self, epoch: int) -> None:
        """Forget the rows of `epoch` and later ones, which are trained again."""
        for name, rows in ((METRICS, self._rows), (MODULATOR, self._scales)):
            if self.writing and (self.folder / name).is_file():
                table = pd.read_csv(self.folder / name)
                kept: list[Any] = table[table["epoch"] < epoch].to_dict("records")
                rows[:] = kept
                self._table(name, rows) if rows else (self.folder / name).unlink()

    def add_epoch(self, row: dict[str, float], scales: dict[Site, float]) -> None:
        """Append an epoch to metrics.csv, and the modulator's values to modulator.csv."""
        self._rows.append(row)
        self._table(METRICS, self._rows)
        if scales:
            self._scales += [
                {"epoch": row["epoch"], "block": site.block, "position": site.position, "value": value}
                for site, value in scales.items()
            ]
            self._table(MODULATOR, self._scales)

    def _table(self, name: str, rows: list[dict[str, Any]]) -> None:
        if not self.writing:
            return
        with replacing(self.folder / name) as temporary:
            pd.DataFrame(rows).to_csv(temporary, index=False, float_format="%.6g")


def refuse_changed(folder: Path, root: Path, backbone_sha256: str) -> None:
    """A run goes on with the chips and the backbone that it began with, or not at all.

    Raises:
        RequestError: one of them is another.
    """
    facts = read_run(folder).facts
    pairs = {
        "the chips": (facts.get("data", {}).get("manifest_sha256"), data(root)["manifest_sha256"], root),
        "the backbone's weights": (facts.get("backbone_sha256"), backbone_sha256, folder),
    }
    for words, (before, now, where) in pairs.items():
        if before is not None and before != now:
            what = f"{words} are not those that the run began with (hash {before[:12]}, now {now[:12]})"
            raise RequestError(what, where, "bring back what was there, or start the recipe again")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
