"""The image gets what the wheel is built from, runs without root, and is used as
docs/platforms.md says."""

import re
import shlex
import shutil
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from tests.helpers.style import ROOT

TEXT = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
INSTRUCTIONS = [
    tuple(line.split(maxsplit=1))
    for line in TEXT.splitlines()
    if line and not line.startswith("#")
]
"""Name and arguments of each instruction."""
IGNORED = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
COPIED = [line.removeprefix("!") for line in IGNORED if line.startswith("!")]
"""Files and folders of the checkout that the build sees."""
PAGE = (ROOT / "docs/platforms.md").read_text("utf-8").replace("\\\n", " ")


def arguments(name):
    return [value for key, value in INSTRUCTIONS if key == name]


def test_the_build_sees_the_named_files_alone():
    patterns = [line for line in IGNORED if not line.startswith(("#", "!"))]
    assert patterns == ["*", "**/__pycache__"] and patterns[0] == IGNORED[1]
    assert all((ROOT / name).exists() for name in COPIED)
    assert arguments("COPY")[0] == ". ."


@pytest.mark.slow
def test_the_wheel_of_the_image_is_the_wheel(tmp_path):
    for name in COPIED:
        target = tmp_path / "src" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(ROOT / name, target)
    (install,) = [run for run in arguments("RUN") if "pip install" in run]
    *_, option, constraints, project = shlex.split(install)
    assert (option, project) == ("--constraint", ".")
    assert (tmp_path / "src" / constraints).is_file()
    wheels = [
        zipfile.ZipFile(next(WheelBuilder(str(root)).build(directory=str(folder))))
        for root, folder in ((tmp_path / "src", tmp_path / "a"), (ROOT, tmp_path / "b"))
    ]
    names, expected = (
        {entry.filename: entry.CRC for entry in wheel.infolist()} for wheel in wheels
    )
    assert names == expected


def test_the_base_is_pinned_and_the_user_has_no_rights():
    bases = {base.partition(" ")[0] for base in arguments("FROM")}
    assert len(bases) == 1 and re.fullmatch(r"debian:\d+\.\d+-slim", bases.pop())
    (user,) = arguments("USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    assert not any("HOME" in value for value in arguments("ENV"))


def test_the_commands_of_the_page_fit_the_image():
    commands = re.findall(r"^ {4}(docker .*)$", PAGE, re.MULTILINE)
    builds = [line for line in commands if line.startswith("docker build ")]
    runs = [line for line in commands if line.startswith("docker run ")]
    assert builds and runs
    (folder,) = arguments("WORKDIR")[1:]
    tags = [re.findall(r"--tag (\S+)", line) for line in builds]
    for line in runs:
        assert f":{folder}" in line and '--user "$(id -u):$(id -g)"' in line
        assert any(f" {tag} " in line for (tag,) in tags), line
    given = {name for line in builds for name in re.findall(r"--build-arg (\w+)", line)}
    assert given == {argument.partition("=")[0] for argument in arguments("ARG")}
    assert Path(folder).is_absolute() and arguments("ENTRYPOINT") == ['["rsft"]']
