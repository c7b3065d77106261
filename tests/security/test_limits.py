"""docs/security.md states the limits of the code."""

import importlib
import os
import re
from pathlib import Path

import pytest

from rsft.corrections.corrected_table import read_corrected_table
from rsft.data.annotations.base import read_annotations
from rsft.data.audit import read_audits
from rsft.data.chips.store import read_dataset
from rsft.data.datasets.formats.label_rows import read_numbered_lines
from rsft.data.datasets.formats.label_table import LabelTable
from rsft.data.imagery.vectors import read_geojson
from rsft.errors import DataError
from rsft.evaluation.files import read_json
from rsft.inference.engines.export_metadata import read_export_metadata
from rsft.models.bundle.bundle import read_index
from rsft.recipe.load import load_recipe
from rsft.scenes.inputs import find_chips
from rsft.scenes.raster import open_scene
from rsft.training.runs.reader import read_run_metadata
from tests.helpers.messages import mentions
from tests.helpers.plugins import needs_plugin

ROOT = Path(__file__).parents[2]
UNITS = {"": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
ROW = re.compile(
    r"\| [^|]+ \| [^|]+ \| ([\d,^]+) ?([KMG]iB|) \| `(\w+)` in `([\w/]+\.py)` \|"
)
LIMIT = re.compile(r"_?MAX_\w+")
ROWS = ROW.findall((ROOT / "docs/security.md").read_text("utf-8"))


def module(path):
    return importlib.import_module(path.removesuffix(".py").replace("/", "."))


def test_the_table_is_found():
    table = (
        (ROOT / "docs/security.md")
        .read_text("utf-8")
        .partition("| constant |")[2]
        .partition("\n\n")[0]
    )
    assert len(ROWS) == len(table.strip().splitlines()) - 1 > 30


@pytest.mark.parametrize(
    ("text", "unit", "name", "path"),
    ROWS,
    ids=[f"{path}-{name}" for *_, name, path in ROWS],
)
def test_a_limit_has_its_value(text, unit, name, path):
    base, _, power = text.replace(",", "").partition("^")
    assert getattr(module(path), name) == int(base) ** int(power or 1) * UNITS[unit]


@needs_plugin("stac_items")
def test_all_limits_of_these_files_are_in_the_table():
    for path in {ROOT / path for *_, path in ROWS} | {
        *(ROOT / "rsft/utils/untrusted").glob("*.py")
    }:
        targets = re.findall(
            r"^((?:_?[A-Z][A-Z_]*, )*_?[A-Z][A-Z_]*) = ",
            path.read_text("utf-8"),
            re.MULTILINE,
        )
        names = {
            name
            for target in targets
            for name in target.split(", ")
            if LIMIT.fullmatch(name)
        }
        assert names <= {name for *_, name, file in ROWS if ROOT / file == path}, path


READERS = {
    **{
        name: read_annotations
        for name in (
            "ships.csv",
            "ships.txt",
            "ships.json",
            "ships.xml",
            "ships.parquet",
        )
    },
    "ships.geojson": read_geojson,
    "item.json": open_scene,
    "list.txt": lambda path: find_chips([f"@{path}"]),
    "labels.txt": read_numbered_lines,
    "labels.csv": LabelTable,
    **{name: read_corrected_table for name in ("corrected.csv", "corrected.geojson")},
    "recipe.yaml": load_recipe,
    "bundle.json": lambda path: read_index(path.parent),
    "run.json": lambda path: read_run_metadata(path.parent),
    "metrics.json": lambda path: read_json(path, dict),
    "dataset.json": lambda path: read_dataset(path.parent),
    "audit.json": read_audits,
    "export.json": lambda path: read_export_metadata(path.parent),
}


@pytest.mark.parametrize("name", READERS)
def test_a_sparse_file_of_24_gb_is_named_with_its_size_and_the_limit(tmp_path, name):
    (tmp_path / name).write_bytes(b"{" * name.endswith("json"))
    os.truncate(tmp_path / name, 24 * 2**30)
    with pytest.raises(
        DataError, match=mentions("25,769,803,776 bytes", "the limit is", name)
    ):
        READERS[name](tmp_path / name)
