"""Write the recipe of the conda package, from pyproject.toml.

    python -m tools.release.conda_recipe packaging/conda/recipe.yaml

This recipe builds a checkout: `rattler-build build --recipe packaging/conda`. With an
sdist, the recipe builds the release, as conda-forge wants it:

    python -m tools.release.conda_recipe recipes/rsft/recipe.yaml --sdist dist/rsft-0.2.0.tar.gz \
        --repository https://example.org/rsft --maintainer NAME
"""

from __future__ import annotations

import re
import tomllib
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from rsft.errors import RequestError
from rsft.version import __version__
from tools.errors import explained_errors
from tools.maintenance.lowest_bounds import PYPROJECT

CONDA_NAMES = {
    "matplotlib": "matplotlib-base",
    "opencv-python-headless": "py-opencv",
    "torch": "pytorch",
}
"""Name on conda-forge of each dependency that has another one there."""

_PYPI = "https://pypi.org/packages/source/r/rsft/rsft-${{ version }}.tar.gz"


def conda_requirement(requirement: str) -> str:
    """Return a requirement in the form of conda, such as "pytorch >=2.10".

    Args:
        requirement: name and bounds, as in pyproject.toml.

    Raises:
        ValueError: the requirement has an extra or a marker, which conda has not.
    """
    match = re.fullmatch(r"([\w.-]+)([<>=!~][\w.,<>=!~*]*)?", requirement)
    if match is None:
        raise ValueError(f"{requirement!r} has more than a name and bounds")
    name, bounds = match.groups(default="")
    return f"{CONDA_NAMES.get(name, name)} {bounds}".rstrip()


def make_recipe(
    source: dict[str, str],
    repository: str | None = None,
    maintainers: list[str] | None = None,
) -> dict[str, Any]:
    """Return the recipe, in version 1 of the format.

    Args:
        source: where the files come from, as the section `source`.
        repository: address of the repository.
        maintainers: accounts of GitHub that maintain the package on conda-forge.
    """
    pyproject = tomllib.loads(PYPROJECT.read_text("utf-8"))
    project = pyproject["project"]
    about = {
        "summary": project["description"],
        "license": project["license"],
        "license_file": project["license-files"],
    }
    if repository is not None:
        about |= {"homepage": repository, "repository": repository}
    recipe = {
        "schema_version": 1,
        "context": {
            "version": __version__,
            "python_min": project["requires-python"].removeprefix(">="),
        },
        "package": {"name": project["name"], "version": "${{ version }}"},
        "source": source,
        "build": {
            "number": 0,
            "noarch": "python",
            "script": "${{ PYTHON }} -m pip install . -vv --no-deps --no-build-isolation",
            "python": {
                "entry_points": [
                    f"{name} = {target}" for name, target in project["scripts"].items()
                ]
            },
        },
        "requirements": {
            "host": [
                "python ${{ python_min }}.*",
                "pip",
                *map(conda_requirement, pyproject["build-system"]["requires"]),
            ],
            "run": [
                "python >=${{ python_min }}",
                *map(conda_requirement, project["dependencies"]),
            ],
        },
        "tests": [
            {
                "python": {
                    "imports": [project["name"]],
                    "pip_check": True,
                    "python_version": ["${{ python_min }}.*", "*"],
                }
            },
            {"script": ["rsft --help", "rsft doctor"]},
        ],
        "about": about,
    }
    if maintainers:
        recipe["extra"] = {"recipe-maintainers": maintainers}
    return recipe


def main(
    path: Annotated[Path, typer.Argument(help="Path of the recipe.")],
    sdist: Annotated[
        Path | None, typer.Option(help="The sdist on PyPI (default: the checkout).")
    ] = None,
    repository: Annotated[
        str | None, typer.Option(help="Address of the repository.")
    ] = None,
    maintainer: Annotated[
        list[str] | None,
        typer.Option(help="Account of GitHub that maintains the package; repeatable."),
    ] = None,
) -> None:
    """Write the recipe of the conda package.

    Raises:
        RequestError: the sdist is not that of this version.
    """
    if sdist is None:
        source = {"path": "../.."}
    elif sdist.name == f"rsft-{__version__}.tar.gz" and sdist.is_file():
        source = {"url": _PYPI, "sha256": sha256(sdist.read_bytes()).hexdigest()}
    else:
        raise RequestError(
            f"this is not the sdist of rsft {__version__}",
            sdist,
            "build it with `python -m build --sdist`",
        )
    recipe = make_recipe(source, repository, maintainer)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(recipe, sort_keys=False, width=88), "utf-8")


if __name__ == "__main__":
    with explained_errors():
        typer.run(main)
