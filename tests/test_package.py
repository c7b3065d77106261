"""`import rsft` is cheap and gives the public names; wheel and sdist contain what they
need and nothing else."""

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
import yaml
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

import rsft
from rsft.backbones.simship import CARDS, WEIGHTS
from tests.helpers.style import ROOT

INSIDE = {
    ".csv",
    ".py",
    ".html",
    ".jinja",
    ".qml",
    ".css",
    ".js",
    ".json",
    ".yaml",
    ".safetensors",
    ".toml",
}
"""Suffixes of the files in the package."""

LICENSES = {"LICENSE", "NOTICE", "rsft/backbones/pretrained/LICENSE"}


def test_import_loads_nothing_heavy():
    code = (
        "import rsft, sys; sys.exit(bool({'torch', 'numpy', 'pydantic'} &"
        " set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_public_names():
    for name in rsft.__all__:
        value = getattr(rsft, name)
        assert name in dir(rsft)
        if name != "__version__":
            assert value.__name__.removeprefix("rsft.") == name and value.__doc__
    with pytest.raises(AttributeError, match="has no attribute 'finetun'"):
        rsft.finetun  # noqa: B018


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Folder with a wheel and an sdist."""
    folder = tmp_path_factory.mktemp("dist")
    for builder in (WheelBuilder, SdistBuilder):
        list(builder(str(ROOT)).build(directory=str(folder)))
    return folder


@pytest.fixture(scope="module")
def wheel(built):
    return zipfile.ZipFile(next(built.glob("*.whl")))


def package_files(folder):
    """Return the paths of the files below a folder of the repository, without
    caches."""
    files = (
        path
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    )
    return {path.relative_to(ROOT).as_posix() for path in files}


@pytest.mark.slow
def test_the_wheel_contains_the_package_and_the_recipes(wheel):
    info = f"rsft-{rsft.__version__}.dist-info"
    names = {name for name in wheel.namelist() if not name.startswith(info)}
    assert names == package_files("rsft") | {
        f"rsft/{name}" for name in package_files("recipes")
    }
    suffixes = {Path(name).suffix for name in names - LICENSES - {"rsft/py.typed"}}
    assert suffixes <= INSIDE
    about = {name.removeprefix(f"{info}/") for name in set(wheel.namelist()) - names}
    assert about == {
        "METADATA",
        "RECORD",
        "WHEEL",
        "entry_points.txt",
        *(f"licenses/{name}" for name in LICENSES),
    }
    assert sum(entry.file_size for entry in wheel.infolist()) < 10_000_000


def test_the_sdist_contains_what_builds_the_wheel(built):
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    pages = {
        "README.md",
        "CHANGELOG.md",
        "CITATION.cff",
        "LICENSE",
        "NOTICE",
    }
    build = {
        "pyproject.toml",
        "PKG-INFO",
        ".gitignore",
        "tools/release/metadata_hook.py",
    }
    sources = (
        package_files("rsft") | package_files("recipes") | package_files("examples")
    )
    assert names == sources | pages | build


def test_the_metadata_of_the_wheel(wheel):
    metadata = message_from_bytes(
        wheel.read(f"rsft-{rsft.__version__}.dist-info/METADATA")
    )
    assert metadata["Name"] == "rsft" and metadata["Version"] == rsft.__version__
    assert (
        metadata["License-Expression"] == "Apache-2.0 AND MIT"
        and metadata["Author"] == "rsft maintainers"
    )
    assert set(metadata.get_all("License-File", [])) == LICENSES
    assert metadata["Description-Content-Type"] == "text/markdown" and "# rsft" in str(
        metadata.get_payload()
    )
    assert metadata["Keywords"] and "Typing :: Typed" in metadata.get_all(
        "Classifier", []
    )


def test_one_version_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    released = re.findall(
        r"^## (\d\S+) - \d{4}-\d\d-\d\d$",
        (ROOT / "CHANGELOG.md").read_text("utf-8"),
        re.MULTILINE,
    )
    assert citation["version"] == released[0] == rsft.__version__


def test_make_sbom_puts_the_version_where_the_list_reads_it():
    (pattern,) = re.findall(
        r'sed "s/([^/]+)/version = ', (ROOT / "Makefile").read_text("utf-8")
    )
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    changed, count = re.subn(
        pattern, f'version = "{rsft.__version__}"', text, flags=re.MULTILINE
    )
    assert (
        count == 1 and tomllib.loads(changed)["project"]["version"] == rsft.__version__
    )


def test_the_changelog_has_the_form_of_keep_a_changelog():
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    versions = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    assert versions[0].startswith("Unreleased\n")
    for version in versions:
        kinds = re.findall(r"^### (.*)$", version, re.MULTILINE)
        assert len(kinds) == len(set(kinds))
        assert set(kinds) <= {
            "Added",
            "Changed",
            "Deprecated",
            "Removed",
            "Fixed",
            "Security",
        }


def test_licenses():
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert (
        "Apache License" in text
        and "Version 2.0" in text
        and "END OF TERMS AND CONDITIONS" in text
    )
    assert (
        (WEIGHTS.parent / "LICENSE")
        .read_text("utf-8")
        .startswith(f"{CARDS[0].license} License")
    )
