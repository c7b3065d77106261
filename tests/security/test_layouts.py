"""Honest layouts of files give the same with the walls of the cell and without them, or
an error that says what to do."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from rsft.utils.cell.walls import landlock_version
from tests.helpers.style import ROOT

pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.skipif(not landlock_version(), reason="the kernel has no Landlock"),
]


def write_chips(folder):
    for name in ("cargo", "tanker"):
        (folder / name).mkdir(parents=True)
        for number in range(4):
            rng = np.random.default_rng(len(name) + number)
            pixels = rng.integers(1, 255, (24, 24), np.uint8)
            cv2.imwrite(str(folder / name / f"{name}{number}.png"), pixels)


def move(path, target):
    """Move a file or folder, and leave a link."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(path, target)
    path.symlink_to(target)


def link_relative(top):
    shutil.move(top / "chips/cargo/cargo0.png", top / "chips/tanker/cargo0.png")
    (top / "chips/cargo/cargo0.png").symlink_to("../tanker/cargo0.png")


def link_to_link(top):
    (top / "chips/cargo/again.png").symlink_to("cargo0.png")
    (top / "chips/cargo/more.png").symlink_to("again.png")


def link_above(top):
    move(top / "x", top / "far/x")
    shutil.move(top / "chips", top / "far/x/chips")


def store_of_objects(top):
    for path in sorted((top / "chips/cargo").iterdir()):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        move(path, top / "objects" / digest[:2] / digest)


def store_inside(top):
    for path in sorted((top / "chips/cargo").iterdir()):
        move(path, top / "chips/.objects" / path.stem)


def annex(top):
    """Files of git-annex: nobody may write them, and links in the tree lead to them."""
    for path in sorted((top / "chips/cargo").iterdir()):
        target = top / "chips/.git/annex/objects" / path.stem / path.name
        move(path, target)
        target.chmod(0o444)
        target.parent.chmod(0o555)
        path.unlink()
        path.symlink_to(Path("..") / target.relative_to(top / "chips"))


def hub(top):
    """A snapshot of Hugging Face: its files are links to blobs beside it."""
    snapshot = top / "hub/datasets--a--b/snapshots/1"
    move(top / "chips", snapshot)
    (top / "hub/datasets--a--b/blobs").mkdir()
    for path in sorted(snapshot.glob("*/*.png")):
        blob = top / "hub/datasets--a--b/blobs" / path.stem
        shutil.move(path, blob)
        path.symlink_to(Path("../../../blobs") / blob.name)


def as_user(number):
    """Return a command that runs others as a user with this number."""
    return f"unshare --user --map-user={number} --map-group={number}"


LAYOUTS = {
    # name: (changes the tree below `top`, words for the chips, environment)
    "absolute": (None, ["{top}/chips"], {}),
    "relative": (None, ["chips"], {}),
    "with dots": (None, ["./x/../chips"], {}),
    "slash at the end": (None, ["{top}/chips/"], {}),
    "blank in the name": (
        lambda top: move(top / "chips", top / "my chips"),
        ["{top}/my chips"],
        {},
    ),
    "letters of other scripts": (
        lambda top: move(top / "chips", top / "Schiffe ä 船"),
        ["{top}/Schiffe ä 船"],
        {},
    ),
    "link as the argument": (
        lambda top: move(top / "chips", top / "far/c"),
        ["chips"],
        {},
    ),
    "link above the argument": (link_above, ["x/chips"], {}),
    "link to a file beside it": (link_to_link, ["chips"], {}),
    "relative link": (link_relative, ["chips"], {}),
    "class folder elsewhere": (
        lambda top: move(top / "chips/cargo", top / "far/cargo"),
        ["chips"],
        {},
    ),
    "named class folder elsewhere": (
        lambda top: move(top / "chips/cargo", top / "far/cargo"),
        ["chips"],
        {"RSFT_FENCE": "{top}/far"},
    ),
    "store of objects": (store_of_objects, ["chips"], {}),
    "trusted store of objects": (
        store_of_objects,
        ["chips"],
        {"RSFT_FENCE": "{top}/objects"},
    ),
    "store of objects inside": (store_inside, ["chips"], {}),
    "link to nothing": (
        lambda top: (top / "chips/cargo/gone.png").symlink_to("/gone.png"),
        ["chips"],
        {},
    ),
    "circle": (
        lambda top: (top / "chips/cargo/c").symlink_to(top / "chips"),
        ["chips"],
        {},
    ),
    "home": (None, ["chips"], {"HOME": "{top}"}),
    "no home": (None, ["chips"], {"HOME": None}),
    "read-only home": (
        lambda top: (top / "home").mkdir(mode=0o555),
        ["chips"],
        {"HOME": "{top}/home"},
    ),
    "other folder for temporary files": (
        lambda top: (top / "t").mkdir(),
        ["chips"],
        {"TMPDIR": "{top}/t"},
    ),
    "no language": (None, ["chips"], {"LANG": "C", "LC_ALL": "C"}),
    "no path": (None, ["chips"], {"PATH": ""}),
    "few descriptors": (None, ["chips"], {"LIMIT": "ulimit -n 64"}),
    "closed mask": (None, ["chips"], {"LIMIT": "umask 077"}),
    "small stack": (None, ["chips"], {"LIMIT": "ulimit -s 1024"}),
    "hidden folder": (lambda top: move(top / "chips", top / ".c"), ["{top}/.c"], {}),
    "long name": (
        lambda top: move(top / "chips", top / ("n" * 200)),
        ["{top}/" + "n" * 200],
        {},
    ),
    "another disk": ("/dev/shm", ["{top}/chips"], {}),
    "objects of git-annex": (annex, ["chips"], {}),
    "cache of Hugging Face": (hub, ["hub/datasets--a--b/snapshots/1"], {}),
    "trusted cache of Hugging Face": (
        hub,
        ["hub/datasets--a--b/snapshots/1"],
        {"RSFT_FENCE": "{top}/hub"},
    ),
    "another user": (None, ["chips"], {"HOME": "{top}", "AS": as_user(1234)}),
    "user without entry or home": (
        None,
        ["chips"],
        {"HOME": None, "XDG_CACHE_HOME": None, "AS": as_user(54321)},
    ),
    "hard links": (
        lambda top: os.link(top / "chips/cargo/cargo0.png", top / "chips/cargo/h.png"),
        ["chips"],
        {},
    ),
}


REFUSED = ("class folder elsewhere", "store of objects", "cache of Hugging Face")
"""Layouts whose links lead to what no argument names."""


@contextmanager
def make_tree(change):
    folder = change if isinstance(change, str) else None
    with tempfile.TemporaryDirectory(dir=folder) as name:
        top = Path(name)
        (top / "x").mkdir()
        write_chips(top / "chips")
        if callable(change):
            change(top)
        yield top


def build(top, words, settings, walls):
    """Return the exit status of `prepare folder`, and its chips or its message."""
    limit = settings.get("LIMIT", "true")
    user = settings.get("AS", "").split()
    if user and subprocess.run([*user, "true"], check=False).returncode:
        pytest.skip("this machine has no further users")
    environment = dict(os.environ) | {"PYTHONPATH": str(ROOT)}
    environment |= {"RSFT_STORES": str(top / "stores.json")}
    for name, value in settings.items():
        if value is None:
            environment.pop(name, None)
        else:
            environment[name] = value.format(top=top)
    if not walls:
        environment["RSFT_FENCE"] = "off"
    root = top / f"store-{walls}"
    chips = [word.format(top=top) for word in words]
    command = [sys.executable, "-m", "rsft", "prepare", "folder", *chips]
    command += ["--root", str(root), "--val", "0.25"]
    shell = ["/bin/sh", "-c", f'{limit}; exec "$@"', "sh", *user, *command]
    process = subprocess.run(
        shell, cwd=top, env=environment, capture_output=True, text=True, check=False
    )
    if process.returncode:
        return process.returncode, process.stderr
    table = pd.read_parquet(root / "manifest.parquet")
    return 0, sorted(zip(table["class"], table["sha256"], strict=True))


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_gives_the_same_with_and_without_walls(name):
    change, words, settings = LAYOUTS[name]
    with make_tree(change) as top:
        code, chips = build(top, words, settings, walls=True)
        open_code, open_chips = build(top, words, settings, walls=False)
    assert open_code == 0 and len(open_chips) >= 8, open_chips
    if code:
        assert code == 2 and "RSFT_FENCE=" in chips, chips
        assert name in REFUSED
    else:
        assert chips == open_chips
