"""Fixtures for all tests."""

import gc
import hashlib
import math
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.helpers.bars_recipe import BARS_RECIPE

# it replaces distutils of the standard library, and fails once that is imported
with suppress(ImportError):
    import setuptools  # noqa: F401

ROOT = Path(__file__).parents[1]
os.environ["NO_PROXY"] = "127.0.0.1"  # servers of tests, on a machine with a proxy
Command = Callable[..., tuple[int, str]]


def pytest_addoption(parser):
    """Add `--first-cases`."""
    parser.addoption(
        "--first-cases",
        action="store_true",
        help="run the first case of every parametrized test only",
    )


@pytest.hookimpl(tryfirst=True)  # before the selection by marks
def pytest_collection_modifyitems(config, items):
    """Mark further cases, and begin with the files that contain long tests, so that no
    process is idle at the end.

    Further cases of a test with the marker `slow` are exhaustive, but not those of a
    module with this marker.
    """
    begun = set()
    for item in items:
        name = item.nodeid.partition("[")[0]
        if name in begun and (
            config.option.first_cases
            or "slow" in {mark.name for mark in item.own_markers}
        ):
            item.add_marker(pytest.mark.exhaustive)
        begun.add(name)
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def compile_share(config):
    """Import a part of the tests before the others, if several processes run all tests.

    Pytest compiles a test file at its first import, with explained assertions. So each
    process compiles its part, and reads the parts of the others.
    """
    worker = getattr(config, "workerinput", None)
    if worker is None or config.args != config.getini("testpaths"):
        return
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    number = int(worker["workerid"].removeprefix("gw"))
    for path in files[len(files) * number // worker["workercount"] :]:
        # the collection reports what cannot be imported
        with suppress(Exception, pytest.skip.Exception):
            import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))


@pytest.hookimpl(wrapper=True)
def pytest_collection(session):
    """Import the tests without collections of garbage, which later ones pass over."""
    gc.disable()
    try:
        compile_share(session.config)
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session", autouse=True)
def files_may_stay_in_memory():
    """Do not wait until files are on the disk.

    A training waits for 50 of them, as long as it computes. A process that is killed
    loses none of them, only a machine that crashes.
    """
    originals = os.fsync, os.sync
    os.fsync, os.sync = lambda handle: None, lambda: None
    os.environ["OGR_SQLITE_SYNCHRONOUS"] = "OFF"
    yield
    os.fsync, os.sync = originals


@pytest.fixture(scope="session", autouse=True)
def stores_of_session(tmp_path_factory):
    """Return a folder for the lists of chip stores: no test reads or writes the list of
    the user."""
    folder = tmp_path_factory.mktemp("stores")
    os.environ["RSFT_STORES"] = str(folder / "session.json")
    return folder


@pytest.fixture(autouse=True)
def stores_of_test(stores_of_session, monkeypatch, request):
    """Return the path of a list of chip stores that only this test uses."""
    name = hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:16]
    monkeypatch.setenv("RSFT_STORES", str(stores_of_session / f"{name}.json"))
    return stores_of_session / f"{name}.json"


@pytest.fixture(autouse=True)
def servers_may_be_asked(monkeypatch):
    """Undo the refusal of servers that a command of an earlier test left behind."""
    monkeypatch.delenv("CPL_VSIL_CURL_ALLOWED_FILENAME", raising=False)


@pytest.fixture(scope="session")
def shared():
    """Return the folder of a real data set by name; skip the test if the folder is
    missing."""
    base = Path(os.environ.get("RSFT_SHARED", ROOT.parent / "shared")) / "data"

    def find(name):
        if not (base / name).exists():
            pytest.skip(f"real data set {name} is not at {base} (set RSFT_SHARED)")
        return base / name

    return find


@pytest.fixture(scope="session")
def onnx_operators():
    """Let exports to ONNX read the operators once: PyTorch parses the sources of all of
    them at every export, for a second."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    original = ONNXRegistry.from_torchlib
    ONNXRegistry.from_torchlib = staticmethod(cache(original))
    yield
    ONNXRegistry.from_torchlib = original


@pytest.fixture(scope="session")
def tiny_program():
    """Return the traced program of a tiny classifier, and its outputs for `IMAGES`."""
    from rsft.inference.engines.traceable import TraceableNetwork, trace_network
    from tests.helpers.tiny_bundles import CONTRACT, IMAGES, tiny_classifier

    network = TraceableNetwork([tiny_classifier(1)])
    return trace_network(network, CONTRACT), network(IMAGES)


@pytest.fixture(scope="session")
def tiny_graph(tiny_program, tmp_path_factory):
    """Return a function that returns the folder with the graph of `tiny_program` in a
    format, which is written at the first call."""
    from rsft.inference.engines.base import find_format
    from tests.helpers.tiny_bundles import GRAPH_METADATA

    @cache
    def write(name):
        folder = tmp_path_factory.mktemp("graph")
        find_format(name).write_graph(tiny_program[0], folder, GRAPH_METADATA)
        return folder

    return write


@pytest.fixture
def rsft(monkeypatch, capsys, tmp_path):
    """Run a command in an empty folder; return its exit code and everything that it
    printed."""
    from rsft.cli import main
    from rsft.cli.display import waiting
    from rsft.cli.display.console import console

    # the output does not depend on the load
    monkeypatch.setattr(waiting, "FIRST_LINE_SECONDS", math.inf)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    # Rich keeps the COLUMNS of the test that imports the console first
    monkeypatch.setattr(console, "_width", None)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["rsft", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        printed = capsys.readouterr()
        return int(stop.value.code or 0), printed.out + printed.err

    return run


@pytest.fixture(scope="session")
def class_folders(tmp_path_factory):
    """Class folders in train/ and val/: speckled bars of three directions, with 24, 12
    and 4 training chips."""
    source = tmp_path_factory.mktemp("source")
    rng = np.random.default_rng(0)
    ends = {"flat": (28, 16), "steep": (16, 28), "slanted": (26, 26)}
    for split, counts in {"train": (24, 12, 4), "val": (6, 6, 6)}.items():
        for (name, end), count in zip(ends.items(), counts, strict=True):
            folder = source / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                image = rng.gamma(2, 15, (32, 32))
                start = (32 - end[0], 32 - end[1])
                cv2.line(image, start, end, 255, 3)
                cv2.imwrite(
                    str(folder / f"{index}.png"),
                    np.clip(image, 0, 255).astype(np.uint8),
                )
    return source


@pytest.fixture(scope="session")
def root(class_folders, tmp_path_factory):
    """Chip store of `class_folders`."""
    from rsft.data.prepare.image_folder import prepare_folder

    return prepare_folder(class_folders, tmp_path_factory.mktemp("data") / "bars").root


@pytest.fixture
def recipe_file(root, tmp_path):
    """Recipe that trains on `root` in a few seconds."""
    path = tmp_path / "bars.yaml"
    path.write_text(BARS_RECIPE.replace("ROOT", str(root)))
    return path


@pytest.fixture(scope="session")
def run(root, tmp_path_factory):
    """Folder of a finished run of `BARS_RECIPE` on `root`."""
    from rsft.recipe.load import load_recipe
    from rsft.training.finetune import finetune

    folder = tmp_path_factory.mktemp("finished")
    (folder / "bars.yaml").write_text(BARS_RECIPE.replace("ROOT", str(root)))
    return finetune(load_recipe(folder / "bars.yaml"), folder / "runs").folder
