"""The search for the command rsft."""

import pytest
from rsft_qgis.executable import (
    ExecutableNotFoundError,
    find_executable,
    rsft_environment,
)

from tests.helpers.messages import mentions


def write_executable(path, mode=0o755):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)
    return str(path)


PLACES = [
    ".local/bin/rsft",
    ".venv/bin/rsft",
    "rsft/.venv/bin/rsft",
    "miniforge3/envs/rsft/bin/rsft",
]
PLACES += [
    ".local/share/pipx/venvs/rsft/bin/rsft",
    "venv/Scripts/rsft.exe",
    ".local/share/uv/tools/rsft/bin/rsft",
]


@pytest.mark.parametrize("place", PLACES)
def test_usual_places(place, tmp_path):
    # a checkout of the repository is no executable
    (tmp_path / "rsft/rsft").mkdir(parents=True)
    executable = write_executable(tmp_path / place)
    assert find_executable(home=tmp_path, path="") == executable


def test_path_comes_first_and_the_setting_before(tmp_path):
    write_executable(tmp_path / ".venv/bin/rsft")
    on_path = write_executable(tmp_path / "bin/rsft")
    named = write_executable(tmp_path / "env/bin/rsft")
    assert find_executable(home=tmp_path, path=str(tmp_path / "bin")) == on_path
    for setting in (named, str(tmp_path / "env"), f" {tmp_path / 'env/bin'} "):
        assert find_executable(setting, tmp_path, str(tmp_path / "bin")) == named


def test_the_own_environment_comes_before_the_usual_ones_and_a_project_last(
    tmp_path, monkeypatch
):
    project = write_executable(tmp_path / "project/venv/bin/rsft")
    search = {
        "home": tmp_path,
        "path": "",
        "own": str(tmp_path / "own"),
        "project": str(tmp_path / "project"),
    }
    assert find_executable(**search) == project
    usual = write_executable(tmp_path / ".venv/bin/rsft")
    assert find_executable(**search) == usual
    monkeypatch.setenv("CONDA_PREFIX", str(tmp_path / "conda"))
    conda = write_executable(tmp_path / "conda/bin/rsft")
    assert find_executable(**search) == conda
    own = write_executable(tmp_path / "own/bin/rsft")
    assert find_executable(**search) == own


def test_the_python_of_an_environment_names_the_environment(tmp_path):
    python = write_executable(tmp_path / "env/bin/python")
    with pytest.raises(
        ExecutableNotFoundError, match=mentions("executable", "environment")
    ):
        find_executable(python, tmp_path, "")
    executable = write_executable(tmp_path / "env/bin/rsft")
    assert find_executable(python, tmp_path, "") == executable


def test_nothing_is_found(tmp_path):
    with pytest.raises(
        ExecutableNotFoundError, match=r"not found on PATH.*Settings > Options"
    ):
        find_executable(home=tmp_path, path="")
    write_executable(tmp_path / "env/bin/rsft", mode=0o644)
    for setting in (tmp_path, tmp_path / "missing", tmp_path / "env"):
        with pytest.raises(
            ExecutableNotFoundError, match=mentions("executable", "environment")
        ):
            find_executable(str(setting), tmp_path, "")


def test_variables_of_qgis_do_not_reach_rsft():
    variables = {
        "PYTHONHOME": "q",
        "GDAL_DATA": "q",
        "PROJ_LIB": "q",
        "AWS_PROFILE": "me",
        "PATH": "p",
    }
    assert rsft_environment(variables) == {
        "AWS_PROFILE": "me",
        "PATH": "p",
        "PYTHONIOENCODING": "utf-8",
    }
