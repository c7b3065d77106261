"""Command lines that the plug-in builds: rsft accepts them."""

import ast
import re
import sys
from pathlib import Path

import pytest
import typer
from rsft_qgis import command_lines as lines

from rsft.cli import build_app
from rsft.cli.flags import FLAGS as COMMON_FLAGS
from rsft.cli.flags import Flags, take_flags
from rsft.data.imagery.units import DIGITAL_UNITS
from rsft.data.imagery.units import UNITS as ALL_UNITS

# the plug-in for QGIS must know every format that is read
from rsft.inference.prediction_table import _READERS
from rsft.scenes.query import LAND_KEYWORDS
from tests.helpers.plugins import needs_plugin
from tests.helpers.style import files_of
from tools.maintenance.qgis_plugin import PLUGIN_DIR

COMMANDS = typer.main.get_command(build_app()).commands
FLAGS = ("--read", "modulus", "--read", "calibrate=1e-05", "--read", "keep-noise")
PIXELS = lines.PixelOptions("sigma0", "VV,VH", 10.0, 20.0, True, 1e-5, True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            lines.position_options("a b.gpkg", "ships", 32, None),
            ["--at", "a b.gpkg", "--layer", "ships", "--size", "32"],
        ),
        (
            lines.position_options("a.geojson", "", None, 0),
            ["--at", "a.geojson", "--size", "box+0"],
        ),
        (lines.tile_options(32, None), ["--grid", "32"]),
        (lines.tile_options(32, 16), ["--grid", "32", "--stride", "16"]),
        (
            lines.detection_options(64, 1e-6, "auto"),
            ["--detect", "--size", "64", "--pfa", "1e-06", "--land", "auto"],
        ),
        (
            lines.detection_options(None, 0.001, "l.gpkg"),
            ["--detect", "--pfa", "0.001", "--land", "l.gpkg"],
        ),
        (lines.PixelOptions(lines.AS_DECLARED).options(), []),
        (
            PIXELS.options(),
            [
                "--unit",
                "sigma0",
                "--bands",
                "VV,VH",
                "--spacing",
                "10.0",
                "--resample-to",
                "20.0",
                *FLAGS,
            ],
        ),
        ({"--html": None}, []),
    ],
)
def test_options(options, words):
    command = lines.predict_command(
        "rsft", "b", "s.tif", "o.gpkg", options, "--device cuda --engine 'my export'"
    )
    start = [
        "rsft",
        "predict",
        "b",
        "s.tif",
        "--out",
        "o.gpkg",
        "--overwrite",
        "--json",
    ]
    assert command == [*start, *words, "--device", "cuda", "--engine", "my export"]


def test_the_command_line_parses_them():
    every = {
        **lines.position_options("a", "b", 1, 2),
        **lines.tile_options(3, 4),
        **lines.detection_options(5, 0.1, "none"),
    }
    words = lines.predict_command(
        "rsft",
        "b",
        "s.tif",
        "o.gpkg",
        {**every, **PIXELS.options(), "--html": "p.html"},
    )
    command = COMMANDS["predict"]
    words, flags = take_flags(words[2:])
    values = command.make_context("predict", words).params
    assert (
        values["bundle"] == Path("b")
        and values["inputs"] == ["s.tif"]
        and flags == Flags(as_json=True, overwrite=True)
    )
    assert (values["pfa"], values["stride"]) == (0.1, 4)
    assert values["product_options"] == ["modulus", "calibrate=1e-05", "keep-noise"]
    assert values["html_path"] == Path("p.html")
    show = lines.bundle_command("rsft", "b")
    shown = typer.main.get_command(build_app()).commands["bundle"].commands["show"]
    words, flags = take_flags(show[3:])
    assert shown.make_context("show", words).params == {"bundle": Path("b")}
    assert flags.as_json


def test_labels_join_a_store():
    plain = lines.add_command("rsft", "s", "t.gpkg", lines.LabelOptions())
    assert plain == [
        "rsft",
        "data",
        "add",
        "s",
        "t.gpkg",
        "--json",
        "--field",
        "corrected",
    ]
    labels = lines.LabelOptions("truth", "clutter", "a b, c,", "db", "VV,VH", "chips")
    words = lines.add_command("rsft", "s", "t.gpkg", labels)
    words, flags = take_flags(words[3:])
    assert flags.as_json
    values = COMMANDS["data"].commands["add"].make_context("add", words).params
    assert values == {
        **{
            "root": Path("s"),
            "corrected": Path("t.gpkg"),
            "label_field": "truth",
            "not_a_target": "clutter",
        },
        **{
            "new_classes": ["a b", "c"],
            "unit": "db",
            "bands": "VV,VH",
            "mixed_noise": False,
        },
        "source": ["chips"],
    }


def test_a_run_starts_at_a_bundle():
    words = lines.finetune_command(
        "rsft", "b", "my store", "r", "train.epochs=2 --no-report"
    )
    words, flags = take_flags(words[2:])
    values = COMMANDS["finetune"].make_context("f", words).params
    assert [values["recipe"], *values["overrides"]] == [
        "data.root=my store",
        "train.epochs=2",
    ]
    start = (values["start"], values["runs"], flags.as_json)
    assert start == (Path("b"), Path("r"), True)
    assert values["no_report"] is True and values["resume"] is False


def test_files_of_corrected_layers():
    assert (
        lines.table_path('/data/a.gpkg|layername=predictions|subset="ood"')
        == "/data/a.gpkg"
    )
    assert lines.table_path("/data/A.GeoJSON") == "/data/A.GeoJSON"
    assert set(lines.TABLE_SUFFIXES) <= set(_READERS)
    for source in ("Point?crs=EPSG:4326", "/data/a.shp", "dbname='x' table=\"y\"", ""):
        with pytest.raises(ValueError, match="not in a file"):
            lines.table_path(source)


def test_choices_are_those_of_rsft():
    assert set(lines.UNITS) == set(ALL_UNITS) - set(DIGITAL_UNITS)
    assert lines.LAND_METHODS == LAND_KEYWORDS


def test_further_options_with_an_open_quote():
    with pytest.raises(ValueError, match="quotation"):
        lines.predict_command("rsft", "b", "s", "o", {}, "--engine 'x")


def test_errors_name_parameters():
    assert lines.name_parameters("give --grid 64") == 'give "Tile size" 64'
    changed = lines.name_parameters("choose one of --at, --grid and --detect")
    assert changed == 'choose one of "Positions", "Tile size" and "Detect and classify"'
    assert lines.name_parameters("--new-class 'a--b'") == "\"New classes\" 'a--b'"
    for text in ("use --device cpu", "/data/--grid/x", "a --grids b", "x--at"):
        assert lines.name_parameters(text) == text
    assert (
        lines.name_parameters("give --overwrite to replace it, or another name")
        == "choose another name"
    )


@needs_plugin("ais")
def test_the_names_are_those_of_the_dialogs():
    sources = "".join(file.read_text("utf-8") for file in files_of(PLUGIN_DIR))
    for name in lines.PARAMETER_NAMES.values():
        assert re.search(
            rf'"{re.escape(name)}[^"]*"', sources.replace(f': "{name}",\n', "")
        ), name
    groups = {"data": "add", "prepare": "scenes", "ais": "match"}
    known = [COMMANDS["predict"], COMMANDS["finetune"]]
    known += [COMMANDS[group].commands[name] for group, name in groups.items()]
    options = {
        option
        for command in known
        for parameter in command.params
        for option in parameter.opts
    }
    assert set(lines.PARAMETER_NAMES) <= options | set(COMMON_FLAGS)


def test_texts():
    assert lines.display_command(["rsft", "predict", "a b"]) == "rsft predict 'a b'"
    assert lines.raster_location("/data/a.tif|option:NUM_THREADS=2") == "/data/a.tif"
    assert lines.raster_location('NETCDF:"a.nc":VV') == 'NETCDF:"a.nc":VV'


@pytest.mark.parametrize("file", files_of(PLUGIN_DIR), ids=lambda file: file.name)
def test_a_module_needs_neither_rsft_nor_torch_nor_new_python(file):
    # the Python of QGIS 3.34 for Windows
    tree = ast.parse(file.read_text("utf-8"), feature_version=(3, 9))
    imported = [
        name.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for name in node.names
    ]
    imported += [
        node.module or ""
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and not node.level
    ]
    packages = {module.split(".")[0] for module in imported}
    assert packages <= {*sys.stdlib_module_names, "qgis", "processing"}
    without_qgis = (
        "command_lines",
        "json_lines",
        "process",
        "executable",
        "bundle_page",
        "correction_texts",
    )
    assert file.stem not in without_qgis or "qgis" not in packages
