"""The installation of rsft by the plug-in: venv and pip, their faults, cancelling and
resuming."""

import os
import sys

import pytest
from rsft_qgis import install as module
from rsft_qgis.executable import find_executable
from rsft_qgis.install import find_python, install
from rsft_qgis.process import RsftCanceledError, RsftFailedError

from tests.qgis.test_process import RecordingFeedback

FAKE_PYTHON = """#!/bin/sh
echo "$@" >> "{log}"
case "$*" in
  "-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
  *) echo "{printed}"; {end} ;;
esac
"""


@pytest.fixture
def disk(monkeypatch):
    """A disk with enough space."""
    monkeypatch.setattr(module, "FREE_GB", 0)


def fake_python(
    folder,
    printed="Successfully installed",
    end='touch "$(dirname $0)/rsft"; chmod +x "$(dirname $0)/rsft"',
):
    path = folder / "python3"
    path.write_text(
        FAKE_PYTHON.format(log=folder / "log.txt", printed=printed, end=end)
    )
    path.chmod(0o755)
    return str(path)


def test_this_python_makes_environments(tmp_path, monkeypatch):
    assert find_python(sys.executable) == sys.executable
    assert os.access(find_python(), os.X_OK)
    old = tmp_path / "python3.9"
    old.write_text("#!/bin/sh\necho 3 9\n")
    old.chmod(0o755)
    for path in (str(old), str(tmp_path / "missing")):
        with pytest.raises(
            RsftFailedError, match=r"No Python 3\.11 or later with venv.*python3-venv"
        ):
            find_python(path)


def test_venv_and_pip_run_and_the_executable_is_found(tmp_path, disk):
    feedback = RecordingFeedback()
    environment = tmp_path / "environment"
    install(fake_python(tmp_path), environment, "rsft", ["--index-url", "x"], feedback)
    make, get = (tmp_path / "log.txt").read_text().splitlines()
    assert (
        make == f"-m venv {environment}"
        and get.startswith("-m pip install")
        and get.endswith("--index-url x rsft")
    )
    assert feedback.tasks == [
        "Making the environment",
        "Installing",
    ] and feedback.lines == ["Successfully installed"]
    assert find_executable(home=tmp_path / "h", path="", own=str(environment)) == str(
        environment / "bin/rsft"
    )


@pytest.mark.parametrize(
    ("printed", "cause"),
    [
        (
            (
                "Retrying after NewConnectionError\nERROR: No matching distribution"
                " found for rsft"
            ),
            "cannot be reached",
        ),
        (
            "ERROR: Could not install: [Errno 28] No space left on device",
            "The disk is full",
        ),
        ("ERROR: No matching distribution found for rsft==9", "no such package"),
        ("ERROR: something else", "The log shows why"),
    ],
)
def test_faults_of_pip(tmp_path, disk, printed, cause):
    feedback = RecordingFeedback()
    with pytest.raises(
        RsftFailedError,
        match=f"Installing failed with exit code 1.*{cause}.*Run the algorithm again",
    ):
        install(
            fake_python(tmp_path, printed, "exit 1"),
            tmp_path / "environment",
            "rsft",
            [],
            feedback,
        )
    assert feedback.lines == printed.splitlines()
    # continues
    install(
        fake_python(tmp_path), tmp_path / "environment", "rsft", [], RecordingFeedback()
    )


def test_cancel_and_a_full_disk(tmp_path, monkeypatch):
    with (
        monkeypatch.context() as patch,
        pytest.raises(RsftFailedError, match=r"needs 9e\+99 GB"),
    ):
        patch.setattr(module, "FREE_GB", 9e99)
        install("python3", tmp_path / "a/b", "rsft", [], RecordingFeedback())
    assert not (tmp_path / "a").exists()
    feedback = RecordingFeedback()
    feedback.isCanceled = lambda: True
    monkeypatch.setattr(module, "FREE_GB", 0)
    with pytest.raises(RsftCanceledError, match="pip keeps"):
        install(fake_python(tmp_path), tmp_path / "a", "rsft", [], feedback)
