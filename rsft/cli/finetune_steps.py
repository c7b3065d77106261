"""`rsft finetune` with chips or scenes in place of a recipe.

The steps before the choice of a recipe are commands of rsft, which run as they are
printed. What an earlier call has finished is kept.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated

from rich.text import Text
from typer.main import get_command

from rsft.cli import INTERRUPTED, build_app
from rsft.cli.display.console import console, emit_json_event
from rsft.cli.flags import take_flags
from rsft.cli.options import OverridesArgument, RunsOption
from rsft.errors import RequestError, RsftError
from rsft.recipe.library import AUTO, find_recipe
from rsft.utils.cell.client import separate_cell
from rsft.utils.cell.named import SETTING
from rsft.utils.command_options import Argument, Option


@dataclass(frozen=True)
class FinetuneRequest:
    """The arguments of `rsft finetune`, see its help."""

    recipe: Annotated[
        str,
        Argument(
            "Recipe file, name of a shipped recipe, class folders, .csv of path,class,"
            " chip store, scenes, or with --resume a run folder. With --from it may be"
            " left out."
        ),
    ] = ""
    overrides: OverridesArgument = None
    runs: RunsOption = Path("runs")
    resume: Annotated[
        bool,
        Option(
            "Continue a run: the given one, or the newest unfinished run of the recipe."
        ),
    ] = False
    start: Annotated[
        Path | None,
        Option(
            "Start at the modules, scales and head of a bundle (bundle, run folder, or"
            " runs/<recipe>). Without RECIPE: a short run with the recipe of the"
            " bundle, which trains the last blocks and the head.",
            "--from",
            metavar="BUNDLE",
        ),
    ] = None
    quiet: bool = False
    as_json: bool = False
    no_report: Annotated[
        bool,
        Option("Only measure accuracy: no baselines, no t-SNE map, no report."),
    ] = False
    data: Annotated[
        Path | None,
        Option("Chip store of a recipe, the same as data.root=DIR.", metavar="DIR"),
    ] = None
    at: Annotated[
        Path | None,
        Option(
            "Labels of the objects in scenes, as for `rsft prepare scenes`.",
        ),
    ] = None
    root: Annotated[
        Path | None,
        Option(
            "Folder of the chip store to create (default: data/<name of the chips or"
            " scenes>)."
        ),
    ] = None
    prepare: Annotated[
        str,
        Option(
            "Further options of `rsft prepare folder` or `rsft prepare scenes`, as one"
            ' text: "--unit db --val 0.3".',
            metavar="OPTIONS",
        ),
    ] = ""

    @property
    def recipe_keys(self) -> list[str]:
        """The overrides as a list, with the chip store of --data."""
        keys = list(self.overrides or ())
        if self.data:
            keys += list_keys({"data.root": str(self.data)})
        return keys

    @property
    def names_key(self) -> bool:
        """Whether the place of the recipe holds an override: key=value."""
        return "=" in self.recipe and not Path(self.recipe).exists()


def list_keys(values: Mapping[str, str]) -> list[str]:
    """Return values as overrides of the command line, `key=value`."""
    from rsft.recipe.text import to_yaml

    return [f"{key}={to_yaml(value)}" for key, value in values.items()]


class Source(Enum):
    """What the first argument of `rsft finetune` names, if it is no recipe or run.

    The value is the command of `rsft prepare` that makes a chip store of it.
    """

    FOLDER = "folder"
    SCENES = "scenes"
    STORE = ""


_TITLES = {
    "prepare": "build the chip store",
    "audit": "look for faults in the chips",
    "choose": "choose the method",
    "train": "train it on all training chips",
    "report": "evaluate it and report",
}
"""The steps. The command of the step `choose` does the later ones as well."""


class Steps:
    """The steps from chips or scenes to a report.

    Args:
        request: its `recipe` names the chips or scenes.
        source: what it names.

    Attributes:
        root: the chip store.
        keys: keys of recipes/auto.yaml.
        commands: step -> words of the command.
    """

    def __init__(self, request: FinetuneRequest, source: Source) -> None:
        self.request = request
        self.root = Path(request.recipe)
        self.commands: dict[str, list[str]] = {}
        if source is not Source.STORE:
            self.root = request.root or _choose_root(self.root)
            self.commands["prepare"] = self._prepare_command(source)
        self.commands["audit"] = ["rsft", "audit", str(self.root)]
        keys = {"data.root": str(self.root), "name": self.root.resolve().name}
        self.keys = [*list_keys(keys), *request.recipe_keys]
        choose = ["rsft", "finetune", AUTO, *self.keys]
        if request.no_report:
            choose.append("--no-report")
        if request.runs != Path("runs"):
            choose += ["--runs", str(request.runs)]
        self.commands["choose"] = choose

    def _prepare_command(self, source: Source) -> list[str]:
        request = self.request
        words = ["rsft", "prepare", source.value, request.recipe]
        words += ["--root", str(self.root)]
        if request.at:
            words += ["--at", str(request.at)]
        return words + shlex.split(request.prepare)

    def begin(self, step: str) -> None:
        """Print the number and the name of a step, and its command."""
        later = ("train", "report")
        steps = [name for name in _TITLES if name in self.commands or name in later]
        number = steps.index(step) + 1
        command = shlex.join(self.commands.get(step, []))
        if self.request.as_json:
            fields = {"name": step, "number": number, "of": len(steps)}
            emit_json_event("begin", {**fields, "command": command})
        title = f"step {number} of {len(steps)}, {step}: {_TITLES[step]}"
        console.print(Text(title, "bold"))
        if command:
            console.print(f"  {command}", style="dim")

    def make_store(self) -> None:
        """Build and audit the chip store, as far as an earlier call has not.

        Raises:
            RecipeError: the overrides are wrong.
            RsftError: a step fails.
        """
        from rsft.data.chips.manifest import MANIFEST
        from rsft.data.chips.store import AUDIT_FILE
        from rsft.study.choice_file import check_auto

        # a typing error shows before the chips are prepared
        check_auto(find_recipe(AUTO), self.keys)
        if "prepare" in self.commands:
            self.begin("prepare")
            _run_command(self.commands["prepare"])
        self.begin("audit")
        audit = self.root / AUDIT_FILE
        if (
            audit.is_file()
            and audit.stat().st_mtime_ns >= (self.root / MANIFEST).stat().st_mtime_ns
        ):
            console.print(f"kept {audit}, newer than the manifest")
        else:
            _run_command(self.commands["audit"])


_STEP_HINT = (
    "options of `rsft prepare` go into --prepare '...'; a finished chip store is given"
    " by its name"
)


def _run_command(words: Sequence[str]) -> None:
    """Run a command, with a cell of its own if this one has a cell.

    Raises:
        RsftError: the command fails.
    """
    arguments, flags = take_flags(words[1:], uses_cell=SETTING in os.environ)
    try:
        with separate_cell():
            get_command(build_app(words[1])).main(arguments, "rsft", obj=flags)
        return
    except RsftError as error:
        error.hint = "; ".join(filter(None, (error.hint, _STEP_HINT)))
        raise
    except SystemExit as stop:
        code = stop.code
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    if code:
        raise RequestError(
            "a step failed, as it says above", shlex.join(words), _STEP_HINT
        )


def find_steps(request: FinetuneRequest) -> Steps | None:
    """Return the steps for chips or scenes; None for a recipe, and for a run to resume.

    Raises:
        RequestError: the name is neither a recipe nor chips, scenes have no labels, or
            an option does not apply.
    """
    source = _find_source(request)
    if source and request.start:
        message = "a run that starts at a bundle takes its recipe"
        raise RequestError(message, "--from", "leave out --from, or the chips")
    if source in (None, Source.STORE):
        for name in ("at", "root", "prepare"):
            if getattr(request, name):
                raise RequestError(
                    "the chip store of a recipe is prepared already",
                    f"--{name}",
                    "leave it out, or name class folders or scenes",
                )
    if not source:
        return None
    return Steps(request, source)


def _find_source(request: FinetuneRequest) -> Source | None:
    """Return what the first argument names; None for a recipe or run.

    Raises:
        RequestError: it names nothing that can be trained on.
    """
    from rsft.data.chips.manifest import MANIFEST

    path = Path(request.recipe)
    if request.at:
        return Source.SCENES
    if not request.recipe or request.resume or request.names_key:
        return None
    if (path / MANIFEST).is_file():
        return Source.STORE
    if path.suffix.lower() == ".csv" and path.is_file():
        return Source.FOLDER
    if not _is_image(path):
        try:
            find_recipe(request.recipe)
            return None
        except RequestError as error:
            if not path.is_dir():
                error.hint += "; chips are given as a folder, which does not exist here"
                raise
        for entry in path.iterdir():
            if entry.is_dir() or entry.name == "train.txt":
                return Source.FOLDER
    if request.prepare:  # names labels that a plug-in reads
        return Source.SCENES
    raise RequestError(
        "this is neither a recipe, nor a chip store, nor class folders",
        path,
        f"make one folder per class, or for scenes: rsft finetune {path} --at LABELS",
    )


def _is_image(path: Path) -> bool:
    from rsft.data.imagery.reader import IMAGE_SUFFIXES

    suffixes = (*IMAGE_SUFFIXES, ".nc", ".h5", ".img", ".ntf")
    return path.suffix.lower() in suffixes and path.is_file()


def _choose_root(source: Path) -> Path:
    """Return the folder of the chip store: data/<name>, or one beside the source."""
    whole = source.resolve()
    stem = whole.name if whole.is_dir() else whole.stem
    name = re.sub(r"[^\w.-]+", "-", stem).strip(".-") or "chips"
    root = Path("data", name)
    if whole in (root.resolve(), *root.resolve().parents):
        return Path(os.path.relpath(whole.parent / f"{name}-chips"))
    return root
