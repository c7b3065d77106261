"""Commands cannot read, write or contact what their arguments do not name, whatever
code runs in them."""

import multiprocessing
import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import geopandas
import numpy as np
import pytest
import shapely
import typer

from rsft.cli import build_app
from rsft.cli.fence import close_fence
from rsft.cli.options import ReadingCommand
from rsft.errors import RequestError
from rsft.utils.fence import describe_fence, enter_fence, explain_fence, fence_version
from tests.helpers.messages import mentions
from tests.helpers.plugins import needs_plugin
from tests.helpers.scenes import write_geotiff


def find_commands(command):
    """Yield the fenced commands with their functions."""
    for name, member in getattr(command, "commands", {}).items():
        if isinstance(member, ReadingCommand):
            yield name, member.callback.__wrapped__
        yield from find_commands(member)


COMMANDS = dict(find_commands(typer.main.get_command(build_app())))

pytestmark = pytest.mark.skipif(
    not fence_version(), reason="the kernel has no Landlock"
)


def perform(action, target):
    """Try an action on a file, folder, database or port; return its result or the name
    of its error."""
    try:
        if action == "read":
            return Path(target).read_text()
        if action == "child":
            return subprocess.run(
                ["cat", target], capture_output=True, text=True
            ).stdout
        if action == "list":
            return " ".join(sorted(path.name for path in Path(target).iterdir()))
        if action == "write":
            return str(Path(target).write_text("new"))
        if action == "sort":  # more rows than SQLite keeps in memory
            numbers = (
                "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x"
                " < 50000)"
            )
            query = f"{numbers} SELECT hex(randomblob(50)) AS y FROM n ORDER BY y"
            return str(len(sqlite3.connect(target).execute(query).fetchall()))
        if action == "make":  # as Matplotlib does
            Path(target).mkdir(parents=True, exist_ok=True)
            return str(Path(target, "fonts.json").write_text("[]"))
        if action == "rename":
            return str(Path(target).rename(target + ".moved"))
        socket.create_connection(("127.0.0.1", int(target)), timeout=5).close()
        return "connected"
    except OSError as error:
        return type(error).__name__


def perform_behind_fence(command, files, attempts, environment):
    os.environ |= environment
    tempfile.tempdir = None  # it is read from the environment again
    close_fence(command, files)
    return [perform(*attempt) for attempt in attempts]


def attempt(command, parameters, *attempts, **environment):
    """Close the fence in a process of one thread, and return what each of the attempts
    gives there."""
    environment = {"TMPDIR": os.environ["FENCE_TMP"]} | environment
    files = COMMANDS[command].find_files(parameters)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(perform_behind_fence, (command, files, attempts, environment))


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """Give the commands a folder for temporary files and a cache that do not contain
    the test's own files."""
    for name in ("temporary", "cache", "inputs", "elsewhere", "outputs"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("FENCE_TMP", str(tmp_path / "temporary"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "inputs/a.tif").write_text("image")
    (tmp_path / "inputs/a.tif.aux.xml").write_text("statistics")
    (tmp_path / "elsewhere/secret.txt").write_text("secret")


@pytest.fixture
def port():
    """Port of a web server on this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield str(server.server_port)
    server.shutdown()
    server.server_close()


def test_a_prediction_reads_and_writes_only_what_it_names(tmp_path, port):
    secret = tmp_path / "elsewhere/secret.txt"
    parameters = {
        "inputs": [tmp_path / "inputs/a.tif"],
        "out": tmp_path / "outputs/o.csv",
    }
    assert attempt(
        "predict",
        parameters,
        ("read", f"{tmp_path}/inputs/a.tif"),
        ("read", f"{tmp_path}/inputs/a.tif.aux.xml"),
        ("write", f"{tmp_path}/outputs/o.csv"),
        ("write", f"{tmp_path}/temporary/x"),
        ("write", f"{tmp_path}/cache/rsft/x"),
        ("read", str(secret)),
        ("child", str(secret)),
        ("list", f"{tmp_path}/elsewhere"),
        ("write", f"{tmp_path}/elsewhere/new"),
        ("write", f"{tmp_path}/inputs/a.tif"),
        ("rename", f"{tmp_path}/inputs/a.tif"),
        ("connect", port),
    ) == [
        "image",
        "statistics",
        "3",
        "3",
        "3",
        "PermissionError",
        "",
        *["PermissionError"] * 5,
    ]
    assert (tmp_path / "inputs/a.tif").read_text() == "image"


def test_a_table_of_many_rows_can_be_sorted(tmp_path):
    parameters = {"source": tmp_path / "inputs", "root": tmp_path / "outputs/store"}
    assert attempt(
        "folder", parameters, ("sort", f"{tmp_path}/outputs/a.sqlite"), TMPDIR=""
    ) == ["50000"]


@pytest.mark.parametrize("folder", ["cache/rsft/matplotlib", "chosen/by/user"])
def test_matplotlib_can_write_its_folder(tmp_path, folder):
    parameters = {"source": tmp_path / "inputs", "root": tmp_path / "outputs/store"}
    attempts = (
        ("make", f"{tmp_path}/{folder}"),
        ("make", f"{tmp_path}/elsewhere/matplotlib"),
    )
    results = attempt(
        "folder", parameters, *attempts, MPLCONFIGDIR=str(tmp_path / folder)
    )
    assert results == ["2", "PermissionError"]


@pytest.mark.parametrize(
    "name",
    [
        "https://example.com/a.tif",
        "/vsicurl/https://example.com/a.tif",
        "s3://bucket/a.tif",
        "@list.txt",
        "i.json",
    ],
)
def test_a_named_server_can_be_contacted(tmp_path, port, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("list.txt").write_text("a.tif\n\nhttps://example.com/a.tif\n")
    Path("i.json").write_text(
        '{"stac_version": "1.0.0", "assets": {"a": {"href":'
        ' "https://example.com/a.tif"}}}'
    )
    assert attempt(
        "predict", {"inputs": [name], "out": "o.csv"}, ("connect", port)
    ) == ["connected"]


@pytest.mark.parametrize(
    ("command", "parameters", "result"),
    [
        pytest.param(
            "push",
            {"bundle": "inputs", "out": None},
            "connected",
            marks=needs_plugin("publishing"),
        ),
        pytest.param(
            "push",
            {"bundle": "inputs", "out": "outputs/hub"},
            "PermissionError",
            marks=needs_plugin("publishing"),
        ),
        ("fusrs", {"root": "outputs/s", "lists": None}, "connected"),
        ("fusrs", {"root": "outputs/s", "lists": "inputs"}, "PermissionError"),
        pytest.param(
            "torchgeo",
            {"root": "outputs/s", "data": "inputs", "download": True},
            "connected",
            marks=needs_plugin("torchgeo_datasets"),
        ),
        pytest.param(
            "torchgeo",
            {"root": "outputs/s", "data": "inputs", "download": False},
            "PermissionError",
            marks=needs_plugin("torchgeo_datasets"),
        ),
        ("show", {"bundle": "inputs"}, "PermissionError"),
        ("predict", {"inputs": ["inputs"], "out": "o", "ray": "auto"}, "connected"),
    ],
)
def test_who_may_connect(tmp_path, port, command, parameters, result, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert attempt(command, parameters, ("connect", port)) == [result]


def test_a_glob_or_a_list_names_its_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("list.txt").write_text("elsewhere/secret.txt\n@list.txt\n")
    reads = [("read", "inputs/a.tif"), ("read", "elsewhere/secret.txt")]
    assert attempt(
        "predict", {"inputs": ["inputs/*.tif"], "out": "outputs/o"}, *reads
    ) == ["image", "PermissionError"]
    assert (
        attempt(
            "predict", {"inputs": [], "also": ["inputs"], "out": "outputs/o"}, *reads
        )[0]
        == "image"
    )
    Path("lists").mkdir()
    Path("list.txt").rename("lists/l.txt")
    assert attempt(
        "predict", {"inputs": ["@lists/l.txt"], "out": "outputs/o"}, *reads
    ) == ["PermissionError", "secret"]


@pytest.mark.parametrize(
    "image", ["p/IMAGEDATA/a.tif", "p/imagery/a.tif", "p/measurement/a.tiff"]
)
def test_an_image_of_a_product_needs_the_header_above(tmp_path, monkeypatch, image):
    monkeypatch.chdir(tmp_path)
    for path in (Path(image), Path("p/metadata/product.xml")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text")
    reads = [("read", image), ("read", "p/metadata/product.xml")]
    assert attempt("predict", {"inputs": [image], "out": "outputs/o"}, *reads) == [
        "text",
        "text",
    ]


def test_links_in_a_folder_lead_nowhere_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("inputs/b.txt").symlink_to(tmp_path / "elsewhere/secret.txt")
    # wherever the circle of links comes in the list of the folder
    for number in range(4):
        Path(f"inputs/circle{number}.png").symlink_to(f"circle{number}.png")
    parameters = {"inputs": ["inputs"], "out": "outputs/o"}
    assert attempt("predict", parameters, ("read", "inputs/b.txt")) == [
        "PermissionError"
    ]
    Path("inputs/deep").mkdir()
    for name in ("b.png", "deep/folder"):
        Path("inputs", name).symlink_to(
            tmp_path / ("elsewhere/secret.txt" if "." in name else "elsewhere")
        )
        with pytest.raises(
            RequestError, match=mentions(f"inputs/{name}", "RSFT_FENCE")
        ):
            attempt("predict", parameters)
        both = parameters | {"truth": "elsewhere"}
        assert attempt("predict", both, ("read", "elsewhere/secret.txt")) == ["secret"]
        Path("inputs", name).unlink()


@pytest.mark.parametrize("name", ["inputs", "@lists/l.txt"])
def test_a_named_link_and_the_links_of_a_list(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path("inputs/link.png").symlink_to(tmp_path / "elsewhere/secret.txt")
    Path("lists").mkdir()
    Path("lists/l.txt").write_text("inputs\n")
    with pytest.raises(RequestError, match="link"):
        attempt("predict", {"inputs": [name], "out": "outputs/o"})
    read = ("read", "inputs/link.png")
    assert attempt(
        "predict", {"inputs": ["inputs/link.png"], "out": "outputs/o"}, read
    ) == ["secret"]


def test_folders_that_libraries_need_are_made(tmp_path, monkeypatch):
    """In a new home: Ray and Matplotlib write, and PROJ reads the grids of the user."""
    for name in ("CACHE", "CONFIG", "DATA"):
        monkeypatch.delenv(f"XDG_{name}_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home/.local/share/proj").mkdir(parents=True)
    (tmp_path / "home/.local/share/proj/grid.tif").write_text("shifts")
    home = tmp_path / "home"
    parameters = {
        "inputs": ["inputs"],
        "out": tmp_path / "outputs/o",
        "ray": "auto",
    }
    attempts = [
        ("write", f"{home}/{name}/x") for name in (".ray", ".cache/rsft", "own")
    ]
    attempts += [
        ("read", f"{home}/.local/share/proj/grid.tif"),
        ("write", f"{home}/.cache/matplotlib/x"),
    ]
    results = attempt("predict", parameters, *attempts, MPLCONFIGDIR=f"{home}/own")
    assert results == ["3", "3", "3", "shifts", "FileNotFoundError"]
    assert attempt("predict", parameters, attempts[-1], MPLCONFIGDIR="") == ["3"]


@pytest.mark.parametrize("folder", ["bundle", "runs/a/001/bundle"])
def test_the_weights_that_a_bundle_names(tmp_path, monkeypatch, folder):
    """Their hash is checked when they are read."""
    monkeypatch.chdir(tmp_path)
    Path(folder).mkdir(parents=True)
    Path("elsewhere/vit.pth").write_text("weights")
    Path("elsewhere/vit.pth.sha256").write_text("digest")
    text = (
        f"backbone:\n  name: a\n  weights: {tmp_path}/elsewhere/vit.pth  # file of its"
        " weights\n"
    )
    Path(folder, "recipe.yaml").write_text(text)
    reads = [
        ("read", f"elsewhere/{name}")
        for name in ("vit.pth", "vit.pth.sha256", "secret.txt")
    ]
    bundle = folder.removesuffix("/001/bundle")
    result = attempt(
        "predict", {"bundle": bundle, "inputs": ["inputs"], "out": "outputs/o"}, *reads
    )
    assert result == ["weights", "digest", "PermissionError"]


@pytest.mark.parametrize("at", ["d/labels/train", "d/labels/train/a.txt"])
def test_the_names_of_classes_above_labels(tmp_path, monkeypatch, at):
    monkeypatch.chdir(tmp_path)
    Path("d/labels/train").mkdir(parents=True)
    Path("d/labels/train/a.txt").write_text("0")
    Path("d/data.yaml").write_text("names")
    Path("d/labels/data.yaml").symlink_to(tmp_path / "elsewhere/secret.txt")
    Path("d/other.yaml").write_text("other")
    Path("data.yaml").write_text("too far")
    reads = [
        ("read", name)
        for name in ("d/data.yaml", "d/labels/data.yaml", "d/other.yaml", "data.yaml")
    ]
    result = attempt(
        "predict", {"inputs": ["inputs"], "at": at, "out": "outputs/o"}, *reads
    )
    assert result == ["names", *["PermissionError"] * 3]


def test_files_in_the_home_of_a_user(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "inputs"))
    (tmp_path / "inputs/.netrc").write_text("password")
    parameters = {
        "inputs": [f"{tmp_path}/inputs/a.tif"],
        "out": f"{tmp_path}/outputs/o",
    }
    reads = [
        ("read", f"{tmp_path}/inputs/{name}")
        for name in ("a.tif", "a.tif.aux.xml", ".netrc")
    ]
    assert attempt("predict", parameters, *reads) == [
        "image",
        "statistics",
        "PermissionError",
    ]


@needs_plugin("publishing", "signing", "suggestions", "torchgeo_datasets")
def test_signing_audits_and_cards_write_beside_their_input(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write = ("write", "inputs/new")
    assert attempt("sign", {"bundle": "inputs", "key": "k"}, write) == ["3"]
    assert attempt("audit", {"source": "inputs", "out": None}, write) == ["3"]
    assert attempt("card", {"bundle": "inputs/bundle", "out": None}, write) == ["3"]
    assert attempt("card", {"bundle": "inputs", "out": "outputs/c"}, write) == [
        "PermissionError"
    ]
    assert attempt("show", {"bundle": "inputs"}, write) == ["PermissionError"]
    # extracted archives
    assert attempt("torchgeo", {"data": "inputs", "root": "outputs/s"}, write) == ["3"]
    assert attempt("from", {"checkpoint": "inputs/a.ckpt", "out": None}, write) == ["3"]


@pytest.mark.parametrize(
    ("setting", "fences"), [("on", True), ("off", False), ("elsewhere", False)]
)
def test_the_command_is_behind_the_fence(tmp_path, setting, fences):
    """A folder of chips is read through a link that points elsewhere, with and without
    the fence."""
    (tmp_path / "inputs/deep/a").mkdir(parents=True)
    (tmp_path / "inputs/deep/a/x.png").symlink_to(tmp_path / "elsewhere/secret.txt")
    command = [sys.executable, "-m", "rsft", "audit", str(tmp_path / "inputs/deep")]
    setting = str(tmp_path / setting) if setting == "elsewhere" else setting
    environment = os.environ | {
        "RSFT_FENCE": setting,
        "TMPDIR": str(tmp_path / "temporary"),
    }
    process = subprocess.run(command, capture_output=True, text=True, env=environment)
    printed = process.stdout + process.stderr
    assert ("which no argument names" in printed) is fences, printed
    assert process.returncode == (2 if fences else 0), printed


@pytest.mark.slow
def test_a_whole_prediction_behind_the_fence(tmp_path, run):
    """Its child processes, such as the one that reads the layer, are inside as well."""
    scene = write_geotiff(
        tmp_path / "inputs/s.tif",
        np.random.default_rng(0).integers(1, 255, (90, 90), np.uint8),
    )
    points = geopandas.GeoDataFrame({"a": [1]}, geometry=shapely.points([[45.0, 45.0]]))
    points.to_file(tmp_path / "inputs/p.gpkg")
    out = tmp_path / "outputs/o.gpkg"
    options = (
        f"--at {tmp_path}/inputs/p.gpkg --crs pixel -o {out} --html"
        f" {out.with_suffix('.html')} --engine torch"
    )
    command = [
        sys.executable,
        "-m",
        "rsft",
        "predict",
        str(run),
        str(scene),
        "--size",
        "32",
        *options.split(),
    ]
    environment = os.environ | {"TMPDIR": str(tmp_path / "temporary")}
    process = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert process.returncode == 0, process.stdout + process.stderr
    assert len(geopandas.read_file(out, layer="predictions")) == 1


def test_a_hidden_file_is_explained(tmp_path, monkeypatch):
    error = PermissionError(
        13, "Permission denied", str(tmp_path / "elsewhere/secret.txt")
    )
    explained = explain_fence(error)
    assert explained is not None and "RSFT_FENCE=off" in explained.hint
    assert explain_fence(PermissionError(13, "", str(tmp_path / "missing"))) is None
    assert explain_fence(FileNotFoundError(2, "", str(tmp_path))) is None
    monkeypatch.setattr("rsft.utils.fence.fence_version", lambda: 0)
    assert describe_fence() == "" and explain_fence(error) is None


def test_a_kernel_without_landlock_limits_nothing(monkeypatch):
    monkeypatch.setattr("rsft.utils.fence.sys.platform", "darwin")
    assert fence_version() == 0 and not enter_fence([], [], connects=False)


THREADS = """
import threading
from rsft.cli.fence import close_fence
from rsft.errors import RequestError

threading.Thread(target=threading.Event().wait, daemon=True).start()
try:
    close_fence("x", {})
except RequestError as error:
    print(error.message, error.hint)
"""


def test_one_other_thread_is_enough_to_stay_outside():
    result = subprocess.run(
        [sys.executable, "-c", THREADS],
        env=os.environ | {"OMP_NUM_THREADS": "1", "RSFT_FENCE": "on"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "cannot be closed" in result.stdout and "RSFT_FENCE=off" in result.stdout
