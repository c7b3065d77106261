"""The item of a bundle is valid STAC with the extension MLM, and says what the bundle
knows."""

import copy
import hashlib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rsft.data.imagery.stretch import CHIP_MAX, Stretch
from rsft.errors import RequestError, WeightsError
from rsft.metrics.intervals import Interval
from rsft.plugins.publishing.source import Measurement, read_source
from rsft.plugins.publishing.stac_item import (
    list_stac_bands,
    model_name,
    render_item,
    write_stac_item,
)
from tests.helpers.scenes import toy_contract
from tests.helpers.stac_schemas import item_faults

Item = dict[str, Any]


def read_item(run, **options):
    return json.loads(write_stac_item(run, **options).read_text("utf-8"))


@pytest.mark.slow
def test_the_published_schemas_accept_a_new_bundle(run, tmp_path):
    item = read_item(run, output=tmp_path / "item.json")
    assert item_faults(item) == []
    properties = item["properties"]
    assert properties["mlm:input"][0]["input"]["shape"] == [-1, 3, 32, 32]
    classes = properties["mlm:output"][0]["classification:classes"]
    assert [entry["description"] for entry in classes] == ["flat", "slanted", "steep"]


def test_pystac_reads_the_item_and_finds_the_files(ships):
    pystac = pytest.importorskip("pystac", reason="pystac-core is not installed")
    item = pystac.Item.from_file(write_stac_item(ships))
    assert (
        item.geometry is None
        and item.datetime.isoformat() == "2026-11-26T05:30:38+00:00"
    )
    assert set(item.assets) == {"weights", "bundle", "recipe", "confidence"}
    for asset in item.assets.values():
        data = Path(asset.get_absolute_href()).read_bytes()
        assert asset.extra_fields["file:size"] == len(data)
        assert (
            asset.extra_fields["file:checksum"]
            == f"1220{hashlib.sha256(data).hexdigest()}"
        )


def test_stac_model_accepts_the_fields(ships):
    reason = (
        "stac-model is not installed: it needs the newest pip, so rsft does not list it"
    )
    schema = pytest.importorskip("stac_model.schema", reason=reason)
    properties = read_item(ships)["properties"]
    model = schema.MLModelProperties.model_validate(properties)
    assert model.name == "ships" and model.tasks == {
        "classification",
        "scene-classification",
    }
    with pytest.raises(ValueError, match="shape"):
        schema.MLModelProperties.model_validate(
            properties | {"mlm:input": [{"name": "chip", "input": {}}]}
        )


@pytest.mark.parametrize(
    "damage",
    [
        lambda item: item["properties"].update(datetime=None),
        lambda item: item["properties"].pop("mlm:name"),
        lambda item: item["properties"].pop("bands"),
        lambda item: item["properties"]["mlm:input"][0]["input"].pop("shape"),
        lambda item: item["assets"]["weights"].update({"file:checksum": "sha256"}),
    ],
)
def test_the_published_schemas_refuse_a_damaged_item(damage, ships):
    item = copy.deepcopy(read_item(ships))
    assert item_faults(item) == []
    damage(item)
    assert item_faults(item)


def test_planes_that_are_computed_are_valid(ships):
    source = read_source(ships)
    units = {
        "db": (Stretch(low=-30.0, high=0.0), Stretch(low=-40.0, high=-10.0), CHIP_MAX)
    }
    contract = toy_contract(
        units=units, bands=("VV", "VH", "HH"), planes=("VV", "VH", "VV - VH"), size=32
    )
    source = replace(source, bundle=replace(source.bundle, contract=contract))
    item = json.loads(render_item(source, ships))
    assert item_faults(item) == []
    fields = item["properties"]["mlm:input"][0]
    assert fields["bands"][1:] == [
        "VH",
        {"name": "VV - VH", "format": "rio-calc", "expression": "VV - VH"},
    ]
    assert [band["name"] for band in item["properties"]["bands"]] == [
        "VV",
        "VH",
        "VV - VH",
    ]
    function = fields["pre_processing_function"]
    assert function["expression"] == "rsft.data.imagery.contract:Contract.to_input"


def test_nothing_is_taken_from_the_run_of_another_bundle(ships):
    metadata = json.loads((ships / "run.json").read_text())
    (ships / "run.json").write_text(json.dumps(metadata | {"bundle_sha256": "0" * 64}))
    properties = read_item(ships)["properties"]
    assert "written" in properties["description"]
    assert [entry["split"] for entry in properties["rsft:accuracy"]] == ["val"]


def test_an_existing_item_stays(ships):
    path = write_stac_item(ships)
    with pytest.raises(RequestError, match="exists"):
        write_stac_item(ships)
    assert write_stac_item(ships, overwrite=True) == path == ships / "item.json"


def test_the_links_follow_the_folder(ships, tmp_path):
    folder = shutil.copytree(ships / "bundle", tmp_path / "my ships")
    item = read_item(folder, output=tmp_path / "items/ships.json")
    assert item["assets"]["bundle"]["href"] == "../my%20ships/bundle.json"


def test_a_number_that_is_not_finite_is_refused(ships):
    measurement = Measurement(
        "ships", "test", 1, {"lora": {"micro": Interval(float("nan"), 0.0, 1.0)}}
    )
    with pytest.raises(WeightsError, match="not finite"):
        render_item(replace(read_source(ships), measurements=(measurement,)), ships)


@pytest.mark.parametrize(
    "name", ["ships", "7", "ü", "a", "new ships (2)", "x" * 300, "-", "a_"]
)
def test_any_recipe_has_a_valid_name(name):
    assert re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_.\-\s]+[a-zA-Z0-9]", model_name(name))


def test_bands_and_computed_planes():
    contract = toy_contract(
        units={"db": toy_contract().units["uint8"]},
        bands=("VV", "VH"),
        planes=("VV", "VV - VH", "VV"),
    )
    assert list_stac_bands(contract) == [
        {"name": "VV", "description": "db"},
        {"name": "VH", "description": "db"},
        {"name": "VV - VH", "description": "computed from the bands"},
    ]
