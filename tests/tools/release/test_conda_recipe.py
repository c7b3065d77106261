"""The recipe of the conda package agrees with pyproject.toml."""

import hashlib
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import rsft
from rsft.errors import RequestError
from tests.helpers.messages import mentions
from tests.helpers.style import ROOT
from tools.release.conda_recipe import CONDA_NAMES, conda_requirement, main

RECIPE = ROOT / "packaging/conda/recipe.yaml"
COMMAND = "python -m tools.release.conda_recipe packaging/conda/recipe.yaml"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def bounds_by_name(requirements):
    """Return the bounds of requirements in the form of conda."""
    parts = (requirement.partition(" ") for requirement in requirements)
    return {name: SpecifierSet(bounds) for name, _, bounds in parts}


def test_the_recipe_is_up_to_date(tmp_path):
    main(tmp_path / "recipe.yaml")
    assert RECIPE.read_text("utf-8") == (tmp_path / "recipe.yaml").read_text("utf-8"), (
        COMMAND
    )


def test_the_recipe_requires_what_pyproject_requires():
    recipe = yaml.safe_load(RECIPE.read_text("utf-8"))
    python, *run = recipe["requirements"]["run"]
    assert python == "python >=${{ python_min }}"
    needed = map(Requirement, PROJECT["project"]["dependencies"])
    assert bounds_by_name(run) == {
        CONDA_NAMES.get(item.name, item.name): item.specifier for item in needed
    }
    backend = Requirement(*PROJECT["build-system"]["requires"])
    host = recipe["requirements"]["host"]
    assert f"{backend.name} {backend.specifier}" in host
    assert (
        f">={recipe['context']['python_min']}" == PROJECT["project"]["requires-python"]
    )
    assert recipe["context"]["version"] == rsft.__version__
    assert (RECIPE.parent / recipe["source"]["path"]).resolve() == ROOT
    assert all((ROOT / name).is_file() for name in recipe["about"]["license_file"])


@pytest.mark.parametrize(
    ("requirement", "expected"),
    [
        ("torch>=2.10", "pytorch >=2.10"),
        ("albumentations>=2.0.8,<3", "albumentations >=2.0.8,<3"),
        ("filelock", "filelock"),
    ],
)
def test_requirements_of_conda(requirement, expected):
    assert conda_requirement(requirement) == expected


@pytest.mark.parametrize(
    "requirement", ["ray[data]>=2", "tomli>=2; python_version < '3.11'"]
)
def test_extras_and_markers_are_refused(requirement):
    with pytest.raises(ValueError, match=mentions(requirement)):
        conda_requirement(requirement)


def test_a_release_names_its_sdist(tmp_path):
    sdist = tmp_path / f"rsft-{rsft.__version__}.tar.gz"
    with pytest.raises(RequestError, match=mentions(sdist, rsft.__version__)):
        main(tmp_path / "recipe.yaml", sdist)
    sdist.write_bytes(b"sdist")
    address = "https://example.org/rsft"
    main(tmp_path / "rsft/recipe.yaml", sdist, address, ["someone"])
    recipe = yaml.safe_load((tmp_path / "rsft/recipe.yaml").read_text("utf-8"))
    assert recipe["source"]["sha256"] == hashlib.sha256(b"sdist").hexdigest()
    assert recipe["source"]["url"].endswith("/rsft-${{ version }}.tar.gz")
    assert recipe["about"]["homepage"] == address
    assert recipe["extra"] == {"recipe-maintainers": ["someone"]}
    assert set(yaml.safe_load(RECIPE.read_text("utf-8"))) < set(recipe)
