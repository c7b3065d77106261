"""The cell of a command reads what its arguments name, and nothing else."""

import os
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely
import typer

from rsft.cli import build_app, reading
from rsft.cli.options import CommandFunction
from rsft.errors import RequestError
from rsft.utils.cell import client
from rsft.utils.cell.walls import landlock_version
from tests.helpers.messages import mentions
from tests.helpers.plugins import needs_plugin
from tests.helpers.scenes import write_geotiff
from tests.helpers.style import ROOT
from tests.utils.cell.probes import perform


def find_commands(command):
    """Yield the commands with their functions."""
    for name, member in getattr(command, "commands", {}).items():
        function = getattr(member.callback, "__wrapped__", None)
        if isinstance(function, CommandFunction):
            yield name, function
        yield from find_commands(member)


COMMANDS = dict(find_commands(typer.main.get_command(build_app())))

pytestmark = pytest.mark.skipif(
    not landlock_version(), reason="the kernel has no Landlock"
)


@pytest.fixture
def folders(tmp_path):
    for name in ("inputs", "elsewhere", "outputs"):
        (tmp_path / name).mkdir()
    (tmp_path / "inputs/a.tif").write_text("image")
    (tmp_path / "inputs/a.tif.aux.xml").write_text("statistics")
    (tmp_path / "elsewhere/secret.txt").write_text("secret")


@pytest.fixture
def attempt(tmp_path, monkeypatch, folders):
    """Open the cell of a command, and return what each of the attempts gives there."""
    monkeypatch.setenv("RSFT_CELL", "")
    monkeypatch.setenv("CPL_VSIL_CURL_ALLOWED_FILENAME", "-")
    # another test may have opened one
    monkeypatch.setattr(client, "_cell", None)
    monkeypatch.setattr(reading, "TRUSTED", (ROOT / "tests",))

    def attempt(command, parameters, *attempts):
        reading.open_reading_cell(COMMANDS[command].find_files(parameters))
        with closing(client.current_cell()) as cell:
            return [
                cell.call(perform, action, str(Path(target).absolute()))
                for action, target in attempts
            ]

    return attempt


@pytest.fixture
def port():
    """Address of a server on this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"/{server.getsockname()[1]}"


def test_a_prediction_reads_only_what_it_names(tmp_path, attempt, port):
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
        ("read", secret),
        ("list", f"{tmp_path}/elsewhere"),
        ("write", f"{tmp_path}/outputs/o.csv"),
        ("write", f"{tmp_path}/inputs/a.tif"),
        ("connect", port),
    ) == ["image", "statistics", *["PermissionError"] * 5]
    assert (tmp_path / "inputs/a.tif").read_text() == "image"


def test_a_long_list_names_folders(tmp_path, attempt):
    secret = tmp_path / "elsewhere/secret.txt"
    lines = [secret.parent / "missing.tif"]
    for number in range(3_000):
        folder = tmp_path / f"scenes/{number % 1500}"
        folder.mkdir(parents=True, exist_ok=True)
        lines.append(folder / f"{number}.tif")
        lines[-1].write_text("image")
    (tmp_path / "inputs/list.txt").write_text("\n".join(map(str, lines)))
    parameters = {
        "inputs": [f"@{tmp_path}/inputs/list.txt"],
        "out": tmp_path / "outputs",
    }
    reads = [("read", lines[-1]), ("read", lines[1]), ("read", secret)]
    assert attempt("predict", parameters, *reads) == ["image"] * 2 + ["PermissionError"]
    subprocess.run([sys.executable, "-c", ""], check=True)  # workers start


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
def test_a_named_server_can_be_contacted(attempt, tmp_path, port, name, monkeypatch):
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
    ("command", "parameters"),
    [
        ("fusrs", {"root": "outputs/s", "lists": None}),
        ("predict", {"inputs": ["inputs"], "out": "o", "ray": True}),
        pytest.param(
            "push",
            {"bundle": "inputs", "out": None},
            marks=needs_plugin("publishing"),
        ),
        pytest.param(
            "torchgeo",
            {"root": "outputs/s", "data": "inputs", "download": True},
            marks=needs_plugin("torchgeo_datasets"),
        ),
    ],
)
def test_only_the_command_itself_asks_other_servers(
    tmp_path, attempt, port, command, parameters, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert attempt(command, parameters, ("connect", port)) == ["PermissionError"]
    assert "CPL_VSIL_CURL_ALLOWED_FILENAME" not in os.environ


def test_a_glob_or_a_list_names_its_files(attempt, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("list.txt").write_text("elsewhere/secret.txt\n@list.txt\n")
    reads = [("read", "inputs/a.tif"), ("read", "elsewhere/secret.txt")]
    assert attempt(
        "predict", {"inputs": ["inputs/*.tif"], "out": "outputs/o"}, *reads
    ) == ["image", "PermissionError"]
    Path("lists").mkdir()
    Path("list.txt").rename("lists/l.txt")
    assert attempt(
        "predict", {"inputs": ["@lists/l.txt"], "out": "outputs/o"}, *reads
    ) == ["PermissionError", "secret"]


@pytest.mark.parametrize(
    "image", ["p/IMAGEDATA/a.tif", "p/imagery/a.tif", "p/measurement/a.tiff"]
)
def test_an_image_of_a_product_needs_the_header_above(
    attempt, tmp_path, monkeypatch, image
):
    monkeypatch.chdir(tmp_path)
    for path in (Path(image), Path("p/metadata/product.xml")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text")
    reads = [("read", image), ("read", "p/metadata/product.xml")]
    assert attempt("predict", {"inputs": [image], "out": "outputs/o"}, *reads) == [
        "text",
        "text",
    ]


def test_links_in_a_folder_lead_nowhere_else(attempt, tmp_path, monkeypatch):
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
        both = parameters | {"truth_path": "elsewhere"}
        assert attempt("predict", both, ("read", "elsewhere/secret.txt")) == ["secret"]
        Path("inputs", name).unlink()


@pytest.mark.parametrize("name", ["inputs", "@lists/l.txt"])
def test_a_named_link_and_the_links_of_a_list(attempt, tmp_path, monkeypatch, name):
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


@pytest.mark.parametrize("at", ["d/labels/train", "d/labels/train/a.txt"])
def test_the_names_of_classes_above_labels(attempt, tmp_path, monkeypatch, at):
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


def test_files_in_the_home_of_a_user(attempt, tmp_path, monkeypatch):
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


@pytest.mark.parametrize(
    ("setting", "fences"), [("on", True), ("off", False), ("elsewhere", False)]
)
def test_a_command_follows_no_link(tmp_path, folders, setting, fences):
    """A folder of chips is read through a link that points elsewhere, with and without
    walls."""
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
    assert ("so the command does not read it" in " ".join(printed.split())) is fences, (
        printed
    )
    assert process.returncode == (2 if fences else 0), printed


@pytest.mark.slow
def test_a_whole_prediction(tmp_path, folders, run):
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


def test_what_may_be_read_is_printed_on_demand(tmp_path, folders):
    command = [sys.executable, "-m", "rsft", "--debug", "audit", f"{tmp_path}/inputs"]
    process = subprocess.run(command, capture_output=True, text=True)
    assert "may be read: " in process.stderr
    assert f"{tmp_path}/inputs" in process.stderr.replace("\n", "")
