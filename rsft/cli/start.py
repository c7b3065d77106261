"""`rsft finetune` with chips or scenes in place of a recipe: its steps, and what it keeps of an earlier call.

The steps before the choice of a recipe are commands of rsft, which run as they are
printed.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text
from typer.main import get_command

from rsft.cli import INTERRUPTED, build_app
from rsft.cli.display.console import console, emit_json_event
from rsft.cli.flags import take_flags
from rsft.errors import RequestError, RsftError
from rsft.recipe.library import AUTO, find_recipe
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
    data: Path | None = None

    @property
    def recipe_keys(self) -> list[str]:
        """The overrides, after the option that is a key of a recipe."""
        return [
            *list_keys({"data.root": None if self.data is None else str(self.data)}),
            *self.overrides,
        ]

    @property
    def auto_keys(self) -> list[str]:
        """The overrides, after the options that are keys of a file with `method: auto`."""
        return [
            *list_keys({"budget": self.budget, "for": self.measure}),
            *self.recipe_keys,
        ]


def list_keys(values: Mapping[str, str | None]) -> list[str]:
    """Return `key=value` for the values that are given, as overrides of the command line."""
    from rsft.recipe.text import to_yaml

    return [
        f"{key}={to_yaml(value)}" for key, value in values.items() if value is not None
    ]


_TITLES = {
    "prepare": "build the chip store",
    "audit": "look for faults in the chips",
    "choose": "choose the method",
    "train": "train it on all training chips",
    "report": "evaluate it and report",
}
"""The steps. The command of the step `choose` does the later ones as well."""

_PROGRAM = (  # on Linux it ends with this process, even if this one is killed
    "import ctypes, signal, sys; sys.platform == 'linux' and ctypes.CDLL(None).prctl(1,"
    " signal.SIGTERM); from rsft.cli import run; sys.argv[0] = 'rsft'; run()"
)


class Steps:
    """The steps from chips or scenes to a report.

    Args:
        request: its `recipe` names the chips or scenes.
        kind: the command of `rsft prepare` that takes them: folder or scenes; "" for a
            chip store.

    Attributes:
        root: the chip store.
        keys: keys of recipes/auto.yaml.
        commands: step -> words of the command.
    """

    def __init__(self, request: FinetuneRequest, kind: str) -> None:
        self.request = request
        self.root = Path(request.recipe)
        store = []
        given = {"labels": request.labels, "ais": request.ais}
        if kind:
            self.root = request.root or _choose_root(self.root)
            store = ["rsft", "prepare", kind, request.recipe, "--root", str(self.root)]
            store += [
                word
                for name, path in given.items()
                if path
                for word in (f"--{name}", str(path))
            ]
            if (
                kind == "scenes"
                and Path(request.recipe).is_file()
                and "--split" not in request.prepare
            ):
                store += [
                    "--split",
                    "object",
                ]  # one scene cannot be divided between train and val
        keys = {"data.root": str(self.root), "name": self.root.resolve().name}
        self.keys = [*list_keys(keys), *request.auto_keys]
        choose = [
            "rsft",
            "finetune",
            AUTO,
            *self.keys,
            *(["--no-report"] if request.no_report else []),
        ]
        choose += [] if request.runs == Path("runs") else ["--runs", str(request.runs)]
        commands = {
            "prepare": [*store, *shlex.split(request.prepare)],
            "audit": ["rsft", "audit", str(self.root)],
        }
        self.commands = {
            step: words
            for step, words in (commands | {"choose": choose}).items()
            if words
        }

    def begin(self, step: str, note: str = "") -> None:
        """Print the number and the name of a step, a note, and the command that does the step alone."""
        steps = [
            name
            for name in _TITLES
            if name in self.commands or name in ("train", "report")
        ]
        number = steps.index(step) + 1
        command = shlex.join(self.commands.get(step, []))
        if self.request.as_json:
            emit_json_event(
                "begin",
                {"name": step, "number": number, "of": len(steps), "command": command},
            )
        console.print(
            Text(
                f"step {number} of {len(steps)}, {step}: {_TITLES[step]}{note}", "bold"
            ),
            soft_wrap=True,
        )
        if command:
            console.print(f"  {command}", style="dim", soft_wrap=True)

    def make_store(self) -> None:
        """Build and audit the chip store, as far as an earlier call has not.

        Raises:
            RecipeError: the overrides are wrong.
            RsftError: a step fails.
        """
        from rsft.data.audit import AUDIT_FILE
        from rsft.data.chips.store import MANIFEST
        from rsft.recipe.text import parse_value
        from rsft.study.choice_file import check_auto
        from rsft.training.runs.reader import find_runs_folder

        check_auto(
            find_recipe(AUTO), self.keys
        )  # a typing error shows before the chips are prepared
        name = [
            text.removeprefix("name=") for text in self.keys if text.startswith("name=")
        ][-1]
        runs = find_runs_folder(self.request.runs, str(parse_value(name)))
        console.print(
            f"chip store {self.root} (--root), runs in {runs} (--runs, name=NAME)",
            soft_wrap=True,
        )
        if "prepare" in self.commands:
            self.begin("prepare")
            self._run(self.commands["prepare"])
        self.begin("audit")
        audit = self.root / AUDIT_FILE
        manifest = self.root / MANIFEST
        if audit.is_file() and audit.stat().st_mtime_ns >= manifest.stat().st_mtime_ns:
            console.print(f"kept {audit}, newer than the manifest", soft_wrap=True)
        else:
            self._run(self.commands["audit"])

    def _run(self, words: Sequence[str]) -> None:
        """Run a command; the program `rsft` runs it in a process, which can close a fence around itself."""
        hint = (
            "options of `rsft prepare` go into --prepare '...'; a finished chip store"
            " is given by its name"
        )
        try:
            if os.environ.get(LIMIT) == "limited":
                command = [sys.executable, "-P", "-c", _PROGRAM, *words[1:]]
                output = subprocess.DEVNULL if console.quiet else None
                sys.exit(subprocess.run(command, stdout=output, check=False).returncode)
            arguments, flags = take_flags(words[1:])
            get_command(build_app(words[1])).main(arguments, "rsft", obj=flags)
        except RsftError as error:
            error.hint = "; ".join(filter(None, (error.hint, hint)))
            raise
        except SystemExit as stop:
            if stop.code == INTERRUPTED:
                raise KeyboardInterrupt from None
            if stop.code:
                raise RequestError(
                    "a step failed, as it says above", shlex.join(words), hint
                ) from None


def find_steps(request: FinetuneRequest) -> Steps | None:
    """Return the steps for chips or scenes; None for a recipe, and for a run to resume.

    Raises:
        RequestError: the name is neither a recipe nor chips, scenes have no labels, or
            an option does not apply.
    """
    kind = _find_kind(request)
    options = [x for x in ("labels", "ais", "root", "prepare") if getattr(request, x)]
    if kind is not None and request.data is not None:
        message = "chips and chip stores are named by the first argument"
        raise RequestError(
            message,
            "--data",
            "leave it out; --root names the chip store that is made of chips",
        )
    if kind is not None and request.start is not None:
        raise RequestError(
            "a run that starts at a bundle takes its recipe",
            "--from",
            "leave out --from, or the chips",
        )
    if not kind and options:
        if kind == "":
            message = "a chip store is prepared already"
        else:
            message = "a recipe names its chip store"
        raise RequestError(
            message, f"--{options[0]}", "leave it out, or name class folders or scenes"
        )
    if kind is None:
        return None
    return Steps(request, kind)


def _find_kind(request: FinetuneRequest) -> str | None:
    """Return the command of `rsft prepare` for what a request names: "" for a chip store, None for a recipe or run."""
    from rsft.data.chips.store import MANIFEST
    from rsft.data.imagery.reader import IMAGE_SUFFIXES

    source = Path(request.recipe)
    if request.labels or request.ais:
        return "scenes"
    if (
        not request.recipe
        or request.resume
        or ("=" in request.recipe and not source.exists())
    ):
        return None
    if (source / MANIFEST).is_file():
        return ""
    if source.is_file() and source.suffix.lower() in (
        ".csv",
        *IMAGE_SUFFIXES,
        ".nc",
        ".h5",
        ".img",
        ".ntf",
    ):
        kind = "folder" if source.suffix.lower() == ".csv" else ""
    else:
        try:
            find_recipe(request.recipe)
            return None
        except RequestError as error:
            if not source.is_dir():
                error.hint += "; chips are given as a folder, which does not exist here"
                raise
        kind = "folder" * any(
            entry.is_dir() or entry.name == "train.txt" for entry in source.iterdir()
        )
    if not kind:
        raise RequestError(
            "this is neither a recipe, nor a chip store, nor class folders",
            source,
            (
                f"make one folder per class, or for scenes: rsft finetune {source} --labels"
                " LABELS"
            ),
        )
    return kind


def _choose_root(source: Path) -> Path:
    """Return the folder of the chip store: data/<name of the chips or scenes>, or a folder beside them."""
    whole = source.resolve()
    name = (
        re.sub(r"[^\w.-]+", "-", whole.name if whole.is_dir() else whole.stem).strip(
            ".-"
        )
        or "chips"
    )
    root = Path("data", name)
    is_apart = whole not in (root.resolve(), *root.resolve().parents)
    if is_apart:
        return root
    return Path(os.path.relpath(whole.parent / f"{name}-chips"))


def find_same_run(recipe: Recipe, runs: Path) -> RunInfo | None:
    """Return the newest run of a recipe on the same chips, finished or not; None without one."""
    from rsft.training.runs.reader import (
        CHANGEABLE_KEYS,
        find_runs,
        hash_data,
        read_data_hash,
        recipe_differences,
    )

    chips = hash_data(recipe.data)
    for run in reversed(find_runs(runs)):
        if run.status != "broken" and read_data_hash(run.metadata) == chips:
            changed = set(recipe_differences([run, replace(run, recipe=recipe)])) - {
                *CHANGEABLE_KEYS
            }
            if not changed - (
                {"train.precision"} if recipe.train.precision == "auto" else set()
            ):
                return run
    return None
