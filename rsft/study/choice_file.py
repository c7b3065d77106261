"""A file with `method: auto`, which lets rsft choose among recipes, and its candidates: the schema and all checks.

Reading reports all faults at once, before any run starts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from rsft.data.chips.folds import assign_folds
from rsft.data.chips.store import ChipStore, list_first_names
from rsft.errors import Fault, RecipeError, RequestError
from rsft.recipe.components import FolderName, Section, Text, allowed_values
from rsft.recipe.library import AUTO, find_recipe
from rsft.recipe.load import first_errors, load_recipe
from rsft.recipe.schema import Recipe, TrackSection
from rsft.recipe.text import (
    COMMAND_LINE,
    Document,
    parse_overrides,
    read_document,
    to_yaml,
)
from rsft.study.sweep_file import Trial
from rsft.training.store_lookup import find_chip_store

_SECONDS = {"s": 1, "min": 60, "h": 3600}
_BUDGET = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(s|min|h)")

Budget = Annotated[
    str,
    Field(
        pattern=f"^{_BUDGET.pattern}$",
        json_schema_extra={"words": "a time such as 90s, 10min or 2h"},
    ),
]


class AutoFile(Section):
    """The candidates, and how one of them is chosen."""

    method: Literal["auto"]
    """says that the file is a choice and no recipe"""
    name: FolderName
    """name of the run's folder; by default that of the file"""
    data: dict[str, Any] = Field(
        default={}, json_schema_extra={"words": "keys of the section data of a recipe"}
    )
    """what all candidates take from the data: root, and what the chips need;
    data.augment is sar for radar chips with a unit, declare or polarization, and
    optical otherwise"""
    measure: Literal["macro", "tail"] = Field(default="macro", alias="for")
    """measure of the choice: mean recall of all classes, or of the rare ones"""
    budget: Budget = "10min"
    """CPU time of the comparisons, over all threads; the chosen recipe is trained after
    it"""
    folds: int = Field(default=3, ge=2, le=10)
    """parts of the training chips; each is held out once"""
    seed: int = Field(default=0, ge=0, le=2**32 - 1)
    """seed of all candidates"""
    candidates: Annotated[list[Text], Field(min_length=1)] = Field(
        default=[
            "small_network",
            "small_network_padded",
            "lora",
            "linear_probe",
            "small_network_unlabeled",
        ],
        json_schema_extra={"words": "a list of recipes"},
    )
    """names or paths of recipes; one with a section semi only takes part if
    data.unlabeled is set"""

    @property
    def budget_seconds(self) -> float:
        """CPU seconds of the comparisons."""
        match = _BUDGET.fullmatch(self.budget)
        assert match is not None  # the field has this pattern
        return float(match[1]) * _SECONDS[match[2]]


@dataclass(frozen=True)
class Candidate:
    """A recipe on the chips of the choice, and its file."""

    recipe: Recipe
    path: Path

    @property
    def name(self) -> str:
        """Name of the recipe."""
        return self.recipe.name

    def epochs(self, share: float) -> int:
        """Return the number of epochs of a share of the training."""
        return max(1, math.ceil(share * self.recipe.train.epochs))

    def trial(self, fold: int, folds: int, share: float) -> Trial:
        """Return the run of this candidate that is validated on a fold of the training chips."""
        changes = {"data.fold": f"{fold}/{folds}", "train.epochs": self.epochs(share)}
        data = self.recipe.data.model_copy(update={"fold": changes["data.fold"]})
        train = self.recipe.train.model_copy(update={"epochs": changes["train.epochs"]})
        update = {"data": data, "train": train, "track": TrackSection(to=[])}
        return Trial(
            {"candidate": self.name, **changes}, self.recipe.model_copy(update=update)
        )


@dataclass(frozen=True)
class AutoPlan:
    """A checked file, its candidates, and what a reader should know about data and folds."""

    settings: AutoFile
    candidates: tuple[Candidate, ...]
    notes: tuple[str, ...]


def read_auto_name(path: Path) -> str | None:
    """Return the name of the runs of a file that lets rsft choose among recipes; None for any other file."""
    values = read_document(path).values
    if values.get("method") == AUTO:
        return str(values.get("name", path.stem))
    return None


def read_auto(path: Path, overrides: Sequence[str] = ()) -> AutoPlan:
    """Read a file with `method: auto` and its candidates, and check them on the data.

    Args:
        path: path of the file.
        overrides: `key=value` for keys of the file, and `section.key=value` for keys of
            all candidates.

    Raises:
        RecipeError: all faults of the file, of the overrides and of the candidates at
            once.
        RequestError: the data is not a chip store, or has too few training chips for
            the folds.
        DataError: the chip store is damaged.
    """
    document, settings, given, commanded = _read_keys(path, overrides)
    sentence = ""
    if "data.root" not in commanded:
        given["data.root"], sentence = find_chip_store(str(given["data.root"]), path)
    store = ChipStore.open(Path(str(given["data.root"])))
    if given.get("data.declare") is not None or store.is_radar:
        augment = "sar"
    else:
        augment = "optical"
    candidates = _load_candidates(document, settings, given, augment, commanded)
    notes = [*filter(None, [sentence]), *_check_folds(store, settings)]
    if augment == "optical" and "data.augment" not in given:
        notes.insert(
            0,
            "training chips are turned and mirrored as optical images; set"
            " data.augment=sar for radar images",
        )
    return AutoPlan(settings, candidates, tuple(notes))


def check_auto(path: Path, overrides: Sequence[str] = ()) -> None:
    """Check a file with `method: auto`, the overrides and the candidates before their chip store exists.

    Raises:
        RecipeError: all faults of the file, of the overrides and of the candidates at
            once.
    """
    document, settings, given, commanded = _read_keys(path, overrides)
    _load_candidates(document, settings, given, "optical", commanded)


def _read_keys(
    path: Path, overrides: Sequence[str]
) -> tuple[Document, AutoFile, dict[str, Any], set[str]]:
    """Return the file, its settings, the keys of all candidates by name, and which of them are overrides."""
    document = read_document(path)
    keys = {info.alias or key for key, info in AutoFile.model_fields.items()}
    document.values.setdefault("name", path.stem)
    if document.values.get("data") is None:
        document.values["data"] = {}
    changes: dict[str, Any] = {}
    for key, value in parse_overrides(document, overrides):
        (document.values if key in keys else changes)[key] = value
    settings = _validate(document)
    given = {f"data.{key}": value for key, value in settings.data.items()} | changes
    if "data.root" not in given:
        document.add_fault(
            "data.root",
            "nothing",
            "the folder that `rsft prepare` made: data.root=STORE",
        )
    if "data.fold" in given:
        document.add_fault(
            "data.fold",
            to_yaml(given["data.fold"]),
            "nothing: the folds are those of the choice",
        )
    _raise_faults(document)
    return document, settings, given | {"seed": settings.seed}, set(changes)


def _validate(document: Document) -> AutoFile:
    try:
        return AutoFile.model_validate(document.values)
    except ValidationError as error:
        schema = AutoFile.model_json_schema()["properties"]
        for key in first_errors(error, ()):
            unknown = f"no such key; a file with method: auto has {', '.join(schema)}"
            if key in schema:
                allowed = allowed_values(schema[key])
            else:
                allowed = unknown
            document.add_fault(key, to_yaml(document.values.get(key)), allowed)
    _raise_faults(document)
    raise AssertionError("a file that is not valid has a fault")


def _raise_faults(document: Document) -> None:
    if document.faults:
        raise RecipeError(
            sorted(dict.fromkeys(document.faults), key=lambda fault: fault.line)
        )


def _load_candidates(
    document: Document,
    settings: AutoFile,
    given: Mapping[str, Any],
    augment: str,
    commanded: set[str],
) -> tuple[Candidate, ...]:
    """Return the candidates that take part, with the keys `given`, of which those in `commanded` are overrides."""
    candidates: list[Candidate] = []
    for name in settings.candidates:
        try:
            path = find_recipe(name)
            values = read_document(path).values
            uses_pool = values.get("semi") is not None
            if uses_pool and given.get("data.unlabeled") is None:
                continue
            changes = {
                key: x
                for key, x in given.items()
                if uses_pool or not re.match(r"data\.unlabeled$|semi\b", key)
            }
            own = values.get("data")
            if not (isinstance(own, dict) and "augment" in own):
                changes = {"data.augment": augment, **changes}
            recipe = load_recipe(
                path, [f"{key}={to_yaml(value)}" for key, value in changes.items()]
            )
            candidates.append(Candidate(recipe, path))
        except RecipeError as error:
            document.faults += [
                _locate_fault(document, fault, commanded) for fault in error.faults
            ]
        except RequestError as error:
            document.add_fault(
                "candidates", name, f"a recipe: {error.message}; {error.hint}"
            )
    names = [candidate.name for candidate in candidates]
    for name in {name for name in names if names.count(name) > 1}:
        document.add_fault(
            "candidates",
            name,
            "recipes of different names: change the key `name` of one of them",
        )
    for candidate in candidates:
        if candidate.recipe.train.devices * candidate.recipe.train.nodes > 1:
            document.add_fault(
                "candidates",
                candidate.name,
                "recipes with train.devices and train.nodes 1",
            )
    if not names and not document.faults:
        value = to_yaml(settings.candidates)
        document.add_fault(
            "candidates",
            value,
            "a recipe without a section semi, unless data.unlabeled is set",
        )
    _raise_faults(document)
    return tuple(candidates)


def _locate_fault(document: Document, fault: Fault, commanded: set[str]) -> Fault:
    """Return a fault of a candidate with the line of its value in the file of the choice, if it is from there."""
    value, is_given, _ = fault.value.rpartition(" (command line)")
    if not is_given:
        return fault
    if fault.key in commanded:
        return Fault(COMMAND_LINE, 0, fault.key, fault.value, fault.allowed)
    return Fault(
        document.file, document.lines.get(fault.key, 0), fault.key, value, fault.allowed
    )


def _check_folds(store: ChipStore, settings: AutoFile) -> list[str]:
    """Return what the folds cannot do.

    Raises:
        RequestError: a fold has no chip, or no chip can be held out for the measure.
    """
    train = store.split("train")
    folds, keys = assign_folds(train, settings.folds)
    missing = settings.folds - len(set(folds.tolist()) - {0})
    if missing:
        message = (
            f"{len(train):,} training chips are too few for {settings.folds} folds"
        )
        raise RequestError(
            message,
            store.root,
            "take fewer folds, or name a recipe in place of a choice",
        )
    held_out = set(train["class"][folds > 0])
    if settings.measure == "tail" and not held_out & set(store.groups.get("tail", ())):
        message = "no chip of a tail class can be held out"
        raise RequestError(
            message,
            store.root,
            "choose for macro, or label more chips of the rare classes",
        )
    notes = []
    never = sorted(set(train["class"]) - held_out)
    if never:
        notes.append(
            "always trained on, and not measured, because of too few chips:"
            f" {list_first_names(never)}"
        )
    names = {"group_key": "scene", "mmsi": "vessel"}
    shared = [
        name
        for key, name in names.items()
        if key not in keys and train[key].fillna("").ne("").any()
    ]
    if shared:
        notes.append(
            f"chips of one {' or '.join(shared)} are in several folds, so that"
            " accuracies may be too high"
        )
    return notes
