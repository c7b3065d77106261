"""A file with `method: auto`: its keys, its candidates, and all checks.

It lets rsft choose among recipes. Reading reports all faults before any run starts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
from pydantic import Field

from rsft.data.chips.class_names import list_first_names
from rsft.data.chips.folds import assign_folds
from rsft.data.chips.store import ChipStore
from rsft.errors import Fault, RecipeError, RequestError
from rsft.recipe.components import FolderName, Section, Text
from rsft.recipe.library import AUTO, find_recipe
from rsft.recipe.load import load_recipe
from rsft.recipe.schema import Recipe, TrackSection
from rsft.recipe.text import COMMAND_LINE, parse_overrides, read_document, to_yaml
from rsft.study.file_faults import locate_fault, raise_faults, read_keys
from rsft.study.trials import Trial
from rsft.training.epochs import resolve_epochs
from rsft.training.filters import find_absence, spread_filters
from rsft.training.store_lookup import find_chip_store
from rsft.types import JsonObject, Names

Budget = Annotated[
    str,
    Field(
        pattern=r"^([0-9]+(?:\.[0-9]+)?) ?(s|min|h)$",
        json_schema_extra={"words": "a time such as 90s, 10min or 2h"},
    ),
]


class AutoFile(Section):
    """The candidates, and how one of them is chosen."""

    method: Literal["auto"]
    """says that the file is a choice and no recipe"""
    name: FolderName
    """name of the run's folder; by default that of the file"""
    data: JsonObject = Field(
        default={}, json_schema_extra={"words": "keys of the section data of a recipe"}
    )
    """what all candidates take from the data: root, and what the chips need;
    data.augment is sar for radar chips with a unit, declare or polarization, and
    optical otherwise"""
    measure: Literal["macro", "tail"] = Field(default="macro", alias="for")
    """measure of the choice: mean recall of all classes, or of the rare ones"""
    budget: Budget = "10min"
    """CPU time of the comparisons, over all threads, and as much again for that of
    data.unlabeled; the chosen recipe is trained after it"""
    folds: int = Field(default=3, ge=2, le=10)
    """parts of the training chips; each is held out once"""
    min_chips: int = Field(default=0, ge=0)
    """training chips of the median class below which one candidate is trained without
    a comparison, because so few chips cannot tell candidates apart"""
    first: dict[str, str] = Field(
        default={}, json_schema_extra={"words": "names of recipes by data.augment"}
    )
    """the recipe that is trained without a comparison, by data.augment, such as sar; it
    need not be a candidate; by default the first candidate"""
    seed: int = Field(default=0, ge=0, le=2**32 - 1)
    """seed of all candidates"""
    candidates: Annotated[list[Text], Field(min_length=1)] = Field(
        default=[
            "small_network",
            "small_network_padded",
            "lora",
            "linear_probe",
            "discriminant",
            "small_network_unlabeled",
        ],
        json_schema_extra={"words": "a list of recipes"},
    )
    """names or paths of recipes; one with a section semi only takes part if
    data.unlabeled is set, and is compared with the best of the others and with that of
    the same network"""

    @property
    def budget_seconds(self) -> float:
        """CPU seconds of the comparisons."""
        return pd.Timedelta(self.budget).total_seconds()


@dataclass(frozen=True)
class Candidate:
    """A recipe on the chips of the choice, and its file."""

    recipe: Recipe
    path: Path

    @property
    def name(self) -> str:
        """Name of the recipe."""
        return self.recipe.name

    @property
    def takes_unlabeled(self) -> bool:
        """Whether it also learns from chips without labels."""
        return self.recipe.data.unlabeled is not None

    def is_twin(self, other: Candidate) -> bool:
        """Return whether two candidates train the same network in the same way."""
        first, second = self.recipe, other.recipe
        return (first.backbone, first.peft) == (second.backbone, second.peft)

    def epochs(self, share: float) -> int:
        """Return the number of epochs of a share of the training."""
        return max(1, math.ceil(share * self.recipe.train.epochs))

    def trial(self, fold: int, folds: int, share: float) -> Trial:
        """Return the run that is validated on a fold of the training chips.

        Args:
            fold: number of the fold, from 1.
            folds: number of folds.
            share: share of the epochs.
        """
        name = f"{fold}/{folds}"
        epochs = self.epochs(share)
        keys = {"candidate": self.name, "data.fold": name, "train.epochs": epochs}
        recipe = self.recipe.with_keys("data", fold=name)
        recipe = recipe.with_keys("train", epochs=epochs, min_steps=None)
        return Trial(keys, recipe.model_copy(update={"track": TrackSection(to=[])}))


@dataclass(frozen=True)
class AutoPlan:
    """A checked file, its candidates, and notes on data and folds.

    Attributes:
        settings: the keys of the file.
        candidates: the recipes that take part, with the epochs for these chips.
        notes: notes on data and folds.
        obstacle: why the chips cannot be compared on folds; "" if they can.
    """

    settings: AutoFile
    candidates: tuple[Candidate, ...]
    notes: Names
    obstacle: str = ""

    def methods(self) -> list[Candidate]:
        """Return the candidates without unlabeled chips; all, if each takes them."""
        methods = [x for x in self.candidates if not x.takes_unlabeled]
        return methods or list(self.candidates)

    def pools(self) -> list[Candidate]:
        """Return the others, to be compared with their twins and the best method."""
        methods = self.methods()
        return [x for x in self.candidates if x not in methods]


def read_auto_name(path: Path) -> str | None:
    """Return the name of the runs of a file with `method: auto`; None for another."""
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
        RequestError: the data is not a chip store, no candidate takes part, or no chip
            of a tail class can be held out for the tail.
        DataError: the chip store is damaged.
    """
    reader = _Reader(path, overrides)
    notes = []
    if "data.root" not in reader.commanded:
        root, sentence = find_chip_store(str(reader.given["data.root"]), path)
        reader.given["data.root"] = root
        notes = [sentence] if sentence else []
    store = ChipStore.open(Path(str(reader.given["data.root"])))
    is_radar = reader.given.get("data.declare") is not None or store.is_radar
    candidates = []
    kind = str(reader.given.get("data.augment", "sar" if is_radar else "optical"))
    obstacle, fold_notes = _check_folds(store, reader.settings)
    names = reader.settings.candidates
    first = reader.settings.first.get(kind)
    if obstacle and first:
        names = [first, *(name for name in names if name != first)]
    for candidate in reader.load_candidates(names, kind):
        reason = find_absence(candidate.recipe, kind)
        if reason:
            notes.append(f"{candidate.name} is not compared: {reason}")
            continue
        recipe = resolve_epochs(candidate.recipe, len(store.split("train")))
        recipe, note = spread_filters(recipe, store.bands)
        candidates.append(replace(candidate, recipe=recipe))
        if note:
            notes.append(note)
    if not candidates:
        raise RequestError("; ".join(notes), path, "name other candidates")
    notes += fold_notes
    if not is_radar and "data.augment" not in reader.given:
        note = (
            "training chips are turned and mirrored as optical images; set"
            " data.augment=sar for radar images"
        )
        notes.insert(0, note)
    return AutoPlan(reader.settings, tuple(candidates), tuple(notes), obstacle)


def check_auto(path: Path, overrides: Sequence[str] = ()) -> None:
    """Check a file with `method: auto` before its chip store exists.

    Raises:
        RecipeError: all faults of the file, of the overrides and of the candidates at
            once.
    """
    reader = _Reader(path, overrides)
    names = reader.settings.candidates
    others = set(reader.settings.first.values()) - set(names)
    reader.load_candidates([*names, *sorted(others)], "optical")


class _Reader:
    """Reads the keys of a file, and then its candidates.

    Attributes:
        document: the file.
        settings: its keys.
        given: keys that all candidates take.
        commanded: those of them that are overrides.

    Raises:
        RecipeError: all faults of the keys.
    """

    def __init__(self, path: Path, overrides: Sequence[str]) -> None:
        self.document = read_document(path)
        values = self.document.values
        values.setdefault("name", path.stem)
        if values.get("data") is None:
            values["data"] = {}
        keys = {info.alias or key for key, info in AutoFile.model_fields.items()}
        changes: JsonObject = {}
        for key, value in parse_overrides(self.document, overrides):
            target = values if key in keys else changes
            target[key] = value
        self.commanded = set(changes)
        name = "a file with method: auto"
        settings = read_keys(AutoFile, self.document, name, "recipe")
        self.settings = settings
        self.given = {f"data.{key}": value for key, value in settings.data.items()}
        self.given |= changes
        self.given["seed"] = settings.seed
        if "data.root" not in self.given:
            allowed = "the folder that `rsft prepare` made: data.root=STORE"
            self.document.add_fault("data.root", "nothing", allowed)
        if "data.fold" in self.given:
            value = to_yaml(self.given["data.fold"])
            allowed = "nothing: the folds are those of the choice"
            self.document.add_fault("data.fold", value, allowed)
        raise_faults(self.document, "recipe")

    def load_candidates(
        self, names: Iterable[str], augment: str
    ) -> tuple[Candidate, ...]:
        """Return the candidates that take part.

        Args:
            names: names or paths of their recipes.
            augment: augmentation of the candidates that name none.

        Raises:
            RecipeError: all faults of the candidates.
        """
        candidates = []
        for name in names:
            try:
                candidate = self._load_candidate(find_recipe(name), augment)
            except RecipeError as error:
                self.document.faults += map(self._locate, error.faults)
            except RequestError as error:
                allowed = f"a recipe: {error.message}; {error.hint}"
                self.document.add_fault("candidates", name, allowed)
            else:
                if candidate:
                    candidates.append(candidate)
        self._check_candidates(candidates)
        raise_faults(self.document, "recipe")
        return tuple(candidates)

    def _load_candidate(self, path: Path, augment: str) -> Candidate | None:
        """Return a candidate; None if it needs unlabeled chips, and none are given."""
        values = read_document(path).values
        changes = dict(self.given)
        if values.get("semi") is None:
            for key in self.given:
                if key == "data.unlabeled" or key.partition(".")[0] == "semi":
                    del changes[key]
        elif self.given.get("data.unlabeled") is None:
            return None
        data = values.get("data")
        if not isinstance(data, dict) or "augment" not in data:
            changes.setdefault("data.augment", augment)
        overrides = [f"{key}={to_yaml(value)}" for key, value in changes.items()]
        return Candidate(load_recipe(path, overrides), path)

    def _check_candidates(self, candidates: Sequence[Candidate]) -> None:
        """Add the faults of candidates that can be read."""
        names = [candidate.name for candidate in candidates]
        for candidate in candidates:
            train = candidate.recipe.train
            allowed = ""
            if names.count(candidate.name) > 1:
                allowed = "recipes of different names: change the key `name` of one"
            elif train.devices * train.nodes > 1:
                allowed = "recipes with train.devices and train.nodes 1"
            if allowed:
                self.document.add_fault("candidates", candidate.name, allowed)
        if not names and not self.document.faults:
            value = to_yaml(self.settings.candidates)
            allowed = "a recipe without a section semi, unless data.unlabeled is set"
            self.document.add_fault("candidates", value, allowed)

    def _locate(self, fault: Fault) -> Fault:
        """Return a fault of a candidate with its line in this file, if it has one."""
        if fault.key in self.commanded:
            return replace(fault, file=COMMAND_LINE, line=0)
        return locate_fault(self.document, fault, [fault.key])


def _check_folds(store: ChipStore, settings: AutoFile) -> tuple[str, list[str]]:
    """Return why folds cannot compare candidates, or else what they cannot do.

    Raises:
        RequestError: no chip can be held out for the measure.
    """
    train = store.split("train")
    median = train["class"].value_counts().median()
    if median < settings.min_chips:
        return f"{median:g} training chips of the median class are too few for it", []
    folds, keys = assign_folds(train, settings.folds)
    if len(set(folds.tolist()) - {0}) < settings.folds:
        return (
            f"{len(train):,} training chips are too few for {settings.folds} folds",
            [],
        )
    held_out = set(train["class"][folds > 0])
    if settings.measure == "tail" and held_out.isdisjoint(store.groups.get("tail", ())):
        raise RequestError(
            "no chip of a tail class can be held out",
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
    shared = [
        name
        for key, name in (("group_key", "scene"), ("mmsi", "vessel"))
        if key not in keys and train[key].fillna("").ne("").any()
    ]
    if shared:
        notes.append(
            f"chips of one {' or '.join(shared)} are in several folds, so that"
            " accuracies may be too high"
        )
    return "", notes
