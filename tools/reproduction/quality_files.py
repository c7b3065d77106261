"""The result files of a study: one JSON file per run, or all of them packed in one file.

A packed file has one line per run. It is small enough to be kept with the documentation
that shows its numbers, and more seeds can be added to it later.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from rsft.errors import DataError
from rsft.recipe.schema import Recipe
from rsft.utils.atomic_files import write_bytes
from tools.reproduction.quality_study import METHOD_KEY, recipe_identity

GROUPS = ("head", "medium", "tail", "macro")
CHOICE, REPORTED, WHOLE = range(3)
"""Parts of the held-out chips: those on which settings may be chosen, those that tables
report, and both."""
PACKED_FILE = "runs.jsonl.gz"


class Result(NamedTuple):
    """The result file of one run.

    Attributes:
        identity: the settings of the run, see `recipe_identity`.
        seed: seed of the run.
        recall: recall of every class on both halves of the validation split, and on the
            whole of it in files of studies that report it; None without chips of the
            class.
        groups: class indices by group.
        seconds: CPU seconds of training.
        source: version and commit of rsft.
        trained_parameters: number of trained parameters, with those of the head; None
            in files of early runs, and of methods that train no network.
    """

    identity: str
    seed: int
    recall: list[list[float | None]]
    groups: dict[str, list[int]]
    seconds: float
    source: str
    trained_parameters: int | None = None

    def accuracy(self, part: int) -> dict[str, float]:
        """Return accuracy in % by group, and the macro accuracy; NaN for a group without chips.

        Args:
            part: `CHOICE`, `REPORTED` or `WHOLE`.
        """
        recall = self.recall[part]
        members = {group: self.groups.get(group, []) for group in GROUPS[:-1]} | {
            "macro": range(len(recall))
        }
        values = {
            group: [v for c in classes if (v := recall[c]) is not None]
            for group, classes in members.items()
        }
        return {
            group: 100 * math.fsum(v) / len(v) if v else math.nan
            for group, v in values.items()
        }

    def with_current_keys(self) -> Result:
        """Return the result with the defaults of recipe keys that did not exist when it was written.

        Raises:
            ValueError: the recipe is not valid any more.
        """
        name = {"name": "study"}
        values = json.loads(self.identity)  # the identity has no name
        method = values.pop(METHOD_KEY, "finetune")
        try:
            recipe = Recipe.model_validate(values | name)
        except ValidationError as error:
            key, *_ = (".".join(map(str, item["loc"])) for item in error.errors())
            raise ValueError(f"recipe key {key} is not valid any more") from None
        return self._replace(
            identity=recipe_identity(recipe.model_dump(mode="json"), method)
        )


def result_texts(out: Path) -> Iterator[tuple[str, str]]:
    """Return the name and JSON text of every result of a folder: those of the packed file, then single files.

    Args:
        out: folder of the results.

    Yields:
        Name for messages, and text.

    Raises:
        DataError: the packed file is damaged.
    """
    packed = out / PACKED_FILE
    if packed.is_file():
        try:
            lines = gzip.decompress(packed.read_bytes()).decode("utf-8").splitlines()
        except (OSError, EOFError, ValueError) as error:
            raise DataError(
                f"damaged: {error}",
                packed,
                "restore the file, or remove it and repeat its runs",
            ) from None
        for number, line in enumerate(lines, 1):
            yield f"{packed.name} line {number}", line
    for path in sorted(out.glob("*.json")):
        yield path.name, path.read_text("utf-8")


def parse_result(text: str) -> Result:
    """Read the result of one run.

    Args:
        text: JSON text.

    Returns:
        The result.

    Raises:
        KeyError: a key is missing, as in files of earlier versions.
        TypeError: the text is JSON, but no mapping.
        ValueError: the text is not JSON.
    """
    values = json.loads(text)
    commit = str(values["commit"] or "unknown")[:10] + " with changes" * bool(
        values["dirty"]
    )
    source = f"rsft {values['version']}, commit {commit}"
    identity = recipe_identity(values["recipe"], values.get("method", "finetune"))
    return Result(
        identity,
        values["seed"],
        values["recall"],
        values["groups"],
        values["seconds"],
        source,
        values.get("trained_parameters"),
    )


def pack_results(out: Path) -> int:
    """Move all results of a folder to its packed file.

    Args:
        out: folder of the results.

    Returns:
        Number of results in the packed file.

    Raises:
        DataError: the packed file is damaged, or a single file is not JSON.
    """
    texts = dict.fromkeys(_one_line(name, text) for name, text in result_texts(out))
    data = "".join(f"{text}\n" for text in sorted(texts)).encode()
    write_bytes(out / PACKED_FILE, gzip.compress(data, mtime=0))
    for path in out.glob("*.json"):
        path.unlink()
    return len(texts)


def _one_line(name: str, text: str) -> str:
    try:
        return json.dumps(json.loads(text), sort_keys=True)
    except ValueError as error:
        raise DataError(
            f"not JSON: {error}", name, "remove the file and repeat its run"
        ) from None
