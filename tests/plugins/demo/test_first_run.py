"""The first commands of a new user show lines of rsft only, whatever home the user
has."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.helpers import nameless_user

pytestmark = pytest.mark.slow

PROGRAM = """
import json, logging, os, sys

from rsft.cli import run
from rsft.cli.display.console import console, error_console
from rsft.plugins.demo import prepare as demo

few = dict.fromkeys(demo.DEMO_CLASSES, 2)
demo.DEMO_COUNTS, demo.DEMO_SCENES = {"train": dict.fromkeys(demo.DEMO_CLASSES, 4), "val": few, "test": few}, 1
screen = open("screen.txt", "a", encoding="utf-8")
console.file = error_console.file = screen  # what remains on the real screen is of other libraries
logging.getLogger("rsft").addHandler(logging.StreamHandler(screen))
variables = dict(os.environ)
for name, words in json.loads(sys.argv[1]).items():
    sys.argv = ["rsft", *words]
    os.environ.clear()  # a command changes them for its own process
    os.environ.update(variables)
    try:
        run()
    except SystemExit as stop:
        assert not stop.code, name
    screen.write(END)
"""
"""The commands one after the other in a process, so that the libraries are imported
once."""

COMMANDS = {
    "prepare": ["prepare", "demo", "--root", "data/demo"],
    "finetune": ["finetune", "quickstart", "train.epochs=1", "evaluate.baselines=0"],
    "predict": [
        "predict",
        "runs/quickstart",
        "data/demo/chips/test",
        "-o",
        "chips.gpkg",
    ],
}
END = "=== end ===\n"
FEW_VARIABLES = ("PATH", "PYTHONPATH", "OMP_NUM_THREADS", "LD_LIBRARY_PATH")


@pytest.fixture
def user_folders():
    """Yield an empty home, one that cannot be written, a folder for temporary files and
    a working folder."""
    # other users can enter it, unlike `tmp_path`
    with tempfile.TemporaryDirectory() as parent:
        Path(parent).chmod(0o755)
        folders = {
            name: Path(parent, name) for name in ("home", "locked", "temporary", "work")
        }
        for folder in folders.values():
            folder.mkdir()
        folders["locked"].chmod(0o555)
        nameless_user.give_folders(
            folders["home"], folders["temporary"], folders["work"]
        )
        yield folders


@pytest.mark.parametrize("home", ["", "locked", "home"])
def test_only_rsft_speaks_at_a_first_run(home, user_folders):
    prefix = nameless_user.find_prefix()
    if not prefix and (home == "" or os.geteuid() == 0):
        pytest.skip("this system runs no program as a user without a name")
    environment = {
        name: os.environ[name] for name in FEW_VARIABLES if name in os.environ
    }
    environment["TMPDIR"] = str(user_folders["temporary"])
    if home:
        environment["HOME"] = str(user_folders[home])
    note = {
        "": "HOME is not set",
        "locked": f"{user_folders['locked']}/.cache/rsft cannot be written",
        "home": "",
    }
    screen = user_folders["work"] / "screen.txt"
    program = PROGRAM.replace("END", repr(END))
    done = subprocess.run(
        [*prefix, sys.executable, "-c", program, json.dumps(COMMANDS)],
        cwd=user_folders["work"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    texts = screen.read_text("utf-8").split(END)
    assert done.returncode == 0, (texts[-1], done.stderr)
    assert not done.stdout + done.stderr
    assert len(texts) == len(COMMANDS) + 1 and not texts.pop()
    for text in texts:
        assert text.startswith(note[home]) and len(text.splitlines()) > 3
    screen.unlink()
    assert {path.name for path in user_folders["work"].iterdir()} == {
        "data",
        "runs",
        "chips.gpkg",
    }
    written = {
        str(path.relative_to(user_folders["home"]))
        for path in user_folders["home"].glob("*/*")
    }
    assert written - {".cache/fontconfig"} == (
        {".cache/rsft", ".local/share"} if home == "home" else set()
    )
