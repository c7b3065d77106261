"""bundle.json: what the tensors mean, a hash of every other file, and one of itself."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from rsft.data.imagery.contract import Contract
from rsft.errors import WeightsError
from rsft.utils.atomic_files import sha256

FORMAT = 2
"""Version of the layout. Of format 1, whose index has no hash of itself, bundles are read as well."""

INDEX, WEIGHTS, RECIPE = "bundle.json", "weights.safetensors", "recipe.yaml"
CONFIDENCE = "confidence.safetensors"

COPY = "copy the whole bundle again; `rsft bundle verify` lists every fault"
_SEAL = "sha256"  # of the index, among its own keys


class BackboneId(BaseModel):
    """The frozen weights that a bundle belongs to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    sha256: str


class Index(BaseModel):
    """The keys of bundle.json.

    Attributes:
        format: version of the layout.
        rsft_version: that wrote it.
        name: of the recipe.
        classes: names, in the order of the logits.
        groups: class names of head, medium and tail.
        train_counts: training chips of each class.
        metrics: accuracy on the validation chips when training ended.
        files: SHA-256 of every other file of the bundle.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int
    rsft_version: str
    name: str
    backbone: BackboneId
    classes: tuple[str, ...]
    groups: dict[str, tuple[str, ...]]
    train_counts: tuple[int, ...]
    contract: Contract
    metrics: dict[str, Any]
    files: dict[str, str]

    @model_validator(mode="after")
    def _fits_together(self) -> Index:
        if len(set(self.classes)) != len(self.classes) or len(self.train_counts) != len(self.classes):
            raise ValueError("each class has one name and one count")
        if not {name for names in self.groups.values() for name in names} <= set(self.classes):
            raise ValueError("a group names a class that there is not")
        if not {WEIGHTS, RECIPE} <= set(self.files) <= {WEIGHTS, RECIPE, CONFIDENCE}:
            raise ValueError(f"the files of a bundle are {WEIGHTS}, {RECIPE} and {CONFIDENCE}")
        return self

    def sealed(self) -> tuple[str, str]:
        """As the text of bundle.json, and the hash that it holds of itself."""
        facts = self.model_dump(mode="json")
        found = seal(facts)
        return json.dumps(facts | {_SEAL: found}, indent=1), found


def seal(facts: dict[str, Any]) -> str:
    """SHA-256 over all keys of an index but `sha256`, sorted, as JSON without spaces."""
    own = {key: value for key, value in facts.items() if key != _SEAL}
    return hashlib.sha256(json.dumps(own, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_index(folder: Path) -> tuple[Index, str]:
    """The index of the bundle in `folder`, and its hash: in format 1 that of the file.

    Raises:
        WeightsError: it is damaged, edited, or of a format that this rsft does not read.
    """
    text = (folder / INDEX).read_bytes()
    try:
        facts = json.loads(text)
        form, version = facts["format"], facts["rsft_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{INDEX} is damaged", folder, COPY) from error
    if form not in (1, FORMAT):
        raise WeightsError(f"bundle format {form}; this rsft reads 1 and {FORMAT}", folder, f"use rsft {version}")
    if form == 1:
        _refuse_the_first(facts, folder)
    elif facts.get(_SEAL) != seal(facts):
        raise WeightsError(f"{INDEX} was edited: it does not have the hash that it names", folder, COPY)
    try:
        index = Index.model_validate({key: value for key, value in facts.items() if key != _SEAL})
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = ".".join(map(str, fault["loc"])) or "its keys"
        raise WeightsError(f"{INDEX} is damaged: {place}: {fault['msg']}", folder, COPY) from error
    return index, seal(facts) if form != 1 else hashlib.sha256(text).hexdigest()


def altered(folder: Path, index: Index) -> list[str]:
    """What of the files is not as the index says; hidden files do not count."""
    faults = [
        f"{name} is missing or altered"
        for name, digest in index.files.items()
        if not (folder / name).is_file() or sha256(folder / name) != digest
    ]
    known = {INDEX, *index.files}
    strange = sorted(path.name for path in folder.iterdir() if path.name not in known and path.name[0] != ".")
    return faults + [f"{name} does not belong to the bundle" for name in strange]


def _refuse_the_first(facts: dict[str, Any], folder: Path) -> None:
    """The first bundles named no planes, and their backbone by the hash of a file: nothing can be held against it."""
    contract = facts.get("contract")
    if isinstance(contract, dict) and "planes" not in contract:
        what = "the bundle is older than its format: it does not say what the network's inputs are"
        raise WeightsError(what, folder, f"train it again: rsft finetune {folder / RECIPE}")
