"""`rsft finetune` with chips or scenes in place of a recipe: its steps, and what it keeps of an earlier call.

The steps before the choice of a recipe are commands of rsft, which run as they are printed.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text
from typer.main import get_command

from rsft.cli import INTERRUPTED, build_app
from rsft.cli.display.console import console, emit_json_event
from rsft.errors import RequestError, RsftError
from rsft.utils.untrusted.gdal_drivers import LIMIT

if TYPE_CHECKING:
    from rsft.recipe.schema import Recipe
    from rsft.training.runs.reader import RunInfo


@dataclass(frozen=True)
class FinetuneRequest:
    """The arguments of `rsft finetune`, see its help."""

    recipe: str = ""
    overrides: Sequence[str] = ()
    runs: Path = Path("runs")
    resume: bool = False
    start: Path | None = None
    quiet: bool = False
    as_json: bool = False
    log_every: int = 50
    no_report: bool = False
    budget: str | None = None
    measure: str | None = None
    labels: Path | None = None
    ais: Path | None = None
    root: Path | None = None
    prepare: str = ""

    @property
    def keys(self) -> list[str]:
        """The options that are keys of a file with `method: auto`, as overrides."""
        from rsft.recipe.text import to_yaml

        values = {"budget": self.budget, "for": self.measure}
        return [f"{key}={to_yaml(value)}" for key, value in values.items() if value is not None]


_TITLES = {
    "prepare": "build the chip store",
    "audit": "look for faults in the chips",
    "choose": "choose the method",
    "train": "train it on all training chips",
    "report": "evaluate it, and write the report",
}
"""The steps. The command of the step `choose` does the later ones as well."""

_PROGRAM = (  # on Linux it ends with this process, even if this one is killed
    "import ctypes, signal, sys; sys.platform == 'linux' and ctypes.CDLL(None).prctl(1, signal.SIGTERM); "
    "from rsft.cli import run; sys.argv[0] = 'rsft'; run()"
)


class Steps:
    """The steps from chips or scenes to a report.

    Args:
        request: its `recipe` names the chips or scenes.
        kind: the command of `rsft prepare` that takes them: folder or scenes; "" for a chip store.

    Attributes:
        root: the chip store.
        keys: keys of recipes/auto.yaml.
        commands: step -> words of the command.
    """

    def __init__(self, request: FinetuneRequest, kind: str) -> None:
        from rsft.recipe.library import AUTO
        from rsft.recipe.text import to_yaml

        self.request, source = request, Path(request.recipe)
        self.root = request.root or _choose_root(source) if kind else source
        self.keys = [f"data.root={to_yaml(str(self.root))}", f"name={to_yaml(self.root.resolve().name)}"]
        self.keys += [*request.keys, *request.overrides]
        given = {"root": self.root, "labels": request.labels, "ais": request.ais}
        options = [word for name, value in given.items() if value for word in (f"--{name}", str(value))]
        prepare = ["rsft", "prepare", kind, str(source), *options, *shlex.split(request.prepare)]
        runs = [] if request.runs == Path("runs") else ["--runs", str(request.runs)]
        choose = ["rsft", "finetune", AUTO, *self.keys, *runs, *(["--no-report"] if request.no_report else [])]
        self.commands = {"prepare": prepare} if kind else {}
        self.commands |= {"audit": ["rsft", "audit", str(self.root)], "choose": choose}

    def begin(self, step: str, note: str = "") -> None:
        """Print the number and the name of a step, a note, and the command that does the step alone."""
        steps = [name for name in _TITLES if name in self.commands or name in ("train", "report")]
        number, command = steps.index(step) + 1, shlex.join(self.commands.get(step, []))
        if self.request.as_json:
            emit_json_event("begin", {"name": step, "number": number, "of": len(steps), "command": command})
        console.print(Text(f"step {number} of {len(steps)}, {step}: {_TITLES[step]}{note}", "bold"), soft_wrap=True)
        if command:
            console.print(f"  {command}", style="dim", soft_wrap=True)

    def make_store(self) -> None:
        """Build and audit the chip store, as far as an earlier call has not.

        Raises:
            RsftError: a step fails.
        """
        from rsft.data.audit import AUDIT_FILE
        from rsft.data.chips.store import MANIFEST

        names = [text.removeprefix("name=") for text in self.request.overrides if text.startswith("name=")]
        runs = self.request.runs / (names or [self.root.resolve().name])[-1]
        console.print(f"chip store {self.root} (--root), runs in {runs} (--runs, name=NAME)", soft_wrap=True)
        if "prepare" in self.commands:
            hint = f"give options of `{shlex.join(self.commands['prepare'][:3])}` as --prepare '--unit sigma0'"
            self._run("prepare", f"{hint}; to train on a finished chip store: rsft finetune {self.root}")
        audit, manifest = self.root / AUDIT_FILE, self.root / MANIFEST
        if audit.is_file() and audit.stat().st_mtime_ns >= manifest.stat().st_mtime_ns:
            self.begin("audit")
            console.print(f"kept {audit}, newer than the manifest", soft_wrap=True)
        else:
            self._run("audit", "correct the chip store")

    def _run(self, step: str, hint: str) -> None:
        """Run the command of a step; the program `rsft` runs it in a process, which can close a fence around itself."""
        self.begin(step)
        words = self.commands[step]
        if os.environ.get(LIMIT) == "limited":
            output = subprocess.DEVNULL if console.quiet else None
            command = [sys.executable, "-P", "-c", _PROGRAM, *words[1:]]
            code: Any = subprocess.run(command, stdout=output, check=False).returncode
        else:
            try:
                code = get_command(build_app(words[1])).main(words[1:], "rsft")
            except SystemExit as stop:
                code = stop.code
            except RsftError as error:
                error.hint = "; ".join(filter(None, (error.hint, hint)))
                raise
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        if code:
            raise RequestError(f"the step {step} failed, as it says above", shlex.join(words), hint)


def find_steps(request: FinetuneRequest) -> Steps | None:
    """Return the steps for chips or scenes; None for a recipe, and for a run to resume.

    Raises:
        RequestError: the name is neither a recipe nor chips, scenes have no labels, or an option does not apply.
    """
    kind, options = _find_kind(request), [x for x in ("labels", "ais", "root", "prepare") if getattr(request, x)]
    if kind is not None and request.start is not None:
        raise RequestError("a run that starts at a bundle takes its recipe", "--from", "leave out --from, or the chips")
    if not kind and options:
        message = "a chip store is prepared already" if kind == "" else "a recipe names its chip store"
        raise RequestError(message, f"--{options[0]}", "leave it out, or name class folders or scenes")
    return None if kind is None else Steps(request, kind)


def _find_kind(request: FinetuneRequest) -> str | None:
    """Return the command of `rsft prepare` for what a request names: "" for a chip store, None for a recipe or run."""
    from rsft.data.chips.store import MANIFEST
    from rsft.recipe.library import find_recipe

    source = Path(request.recipe)
    if request.labels or request.ais:
        return "scenes"
    if not request.recipe or request.resume or ("=" in request.recipe and not source.exists()):
        return None
    if source.is_file():
        return _find_kind_of_file(source)
    if (source / MANIFEST).is_file():
        return ""
    try:
        find_recipe(request.recipe)
    except RequestError:
        if not source.is_dir():
            raise
        if not any(entry.is_dir() or entry.name == "train.txt" for entry in source.iterdir()):
            message = "the folder is neither a chip store nor a folder of class folders"
            hint = f"make one folder per class with its chips, or for scenes: {_SCENES.format(source)}"
            raise RequestError(message, source, hint) from None
        return "folder"
    return None


_SCENES = "rsft finetune {} --labels LABELS"


def _find_kind_of_file(source: Path) -> str | None:
    suffix = source.suffix.lower()
    if suffix in (".yaml", ".yml", ".csv"):
        return "folder" if suffix == ".csv" else None
    from rsft.inference.scenes.raster import RASTER_SUFFIXES

    if suffix in RASTER_SUFFIXES:
        raise RequestError("training on a scene needs labels of its objects", source, _SCENES.format(source))
    return None


def _choose_root(source: Path) -> Path:
    """Return the folder of the chip store: data/<name of the chips or scenes>, or a folder beside them."""
    whole = source.resolve()
    name = re.sub(r"[^\w.-]+", "-", whole.name if whole.is_dir() else whole.stem).strip(".-") or "chips"
    root = Path("data", name)
    is_apart = whole not in (root.resolve(), *root.resolve().parents)
    return root if is_apart else Path(os.path.relpath(whole.parent / f"{name}-chips"))


def find_same_run(recipe: Recipe, runs: Path) -> RunInfo | None:
    """Return the newest run of a recipe on the same chips, finished or not; None without one."""
    from rsft.training.runs.reader import CHANGEABLE_KEYS, find_runs, hash_data, read_data_hash, recipe_differences

    chips = hash_data(recipe.data)
    for run in reversed(find_runs(runs)):
        if run.status != "broken" and read_data_hash(run.metadata) == chips:
            changed = set(recipe_differences([run, replace(run, recipe=recipe)])) - {*CHANGEABLE_KEYS}
            if not changed - ({"train.precision"} if recipe.train.precision == "auto" else set()):
                return run
    return None
