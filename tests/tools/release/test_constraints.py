"""constraints.txt agrees with pyproject.toml and with the installed packages, which are
the tested ones."""

import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tools.maintenance.lowest_bounds import project_requirements
from tools.release.constraints import (
    CONSTRAINTS,
    installed_versions,
    package_name,
    read_constraints,
)


def test_every_version_is_one_that_pyproject_allows():
    versions = read_constraints()
    for text in project_requirements():
        requirement = Requirement(text)
        version = versions.get(package_name(requirement.name))
        assert version is None or requirement.specifier.contains(
            version, prereleases=True
        ), (text, version)


def test_every_dependency_is_listed():
    requirements = [Requirement(text) for text in project_requirements()]
    needed = {
        package_name(item.name)
        for item in requirements
        if item.marker is None or item.marker.evaluate()
    }
    untested = {"roaring-landmask", "wandb"}  # extras without a test that runs them
    assert needed - read_constraints().keys() <= untested


@pytest.mark.slow
@pytest.mark.skipif(
    Path(sys.prefix).name == ".venv-lowest",
    reason="these are the lowest versions on purpose",
)
def test_the_installed_packages_have_these_versions():
    listed = read_constraints()
    # what the build of PyTorch for GPUs needs as well
    gpu_build = (
        "nvidia-",
        "cuda-",
        "triton",
    )
    installed = {
        name: version
        for name, version in installed_versions().items()
        if not name.startswith(gpu_build)
    }
    differences = {
        name: (version, listed.get(name))
        for name, version in installed.items()
        if listed.get(name) != version
    }
    assert differences == {}, (
        "run python -m tools.release.constraints after the tests passed"
    )


def test_the_file_holds_plain_versions():
    for line in CONSTRAINTS.read_text("utf-8").splitlines():
        assert line.startswith("#") or re.fullmatch(
            r"[a-z0-9-]+==[0-9][0-9a-z.]*", line
        ), line
