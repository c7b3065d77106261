"""What a result says, and how its table is drawn."""

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from rsft.inference.predict import result as result_module
from rsft.inference.predict.result import PredictionResult, UsedEngine
from rsft.scenes.query import Query

ENGINE = UsedEngine("engine: torch", {})


def job(path="out.gpkg", **fields):
    """Return what the steps use of a job, which takes seconds."""
    query = fields.pop("query", Query())
    values = {
        "output_path": Path(path),
        "writes_files": True,
        "skipped_files": 0,
        "request": SimpleNamespace(query=query, truth_path=None),
        "plan": SimpleNamespace(crs="EPSG:4326", positions=[], scenes=[]),
        "bundle": SimpleNamespace(classes=("a", "b"), calibrator=None),
        "journal": SimpleNamespace(key="key"),
    }
    return SimpleNamespace(**(values | fields))


def result(rejections=()):
    table = pd.DataFrame({"class": ["b", "a", "b"]})
    path = Path("out.gpkg")
    return PredictionResult(table, list(rejections), ("a", "b", "c"), path, None)


def test_counts_and_the_list_of_rejections():
    predicted = result()
    assert predicted.counts == {"a": 1, "b": 2, "c": 0}
    assert predicted.rejected_list == Path("out.rejected.csv")


@pytest.mark.parametrize(
    ("path", "crs", "words"),
    [
        ("out.gpkg", None, ""),
        ("out.csv", None, ""),
        ("out.parquet", None, "Debian"),
        ("out.PARQUET", "EPSG:4326", "Debian"),
        ("out.geojson", None, "GeoJSON needs degrees"),
        ("out.geojson", "EPSG:4326", ""),
    ],
)
def test_notes_on_formats(path, crs, words):
    predicted = result()
    plan = SimpleNamespace(crs=crs)
    # its public caller needs a classified job
    result_module._add_notes(predicted, job(path, plan=plan), ENGINE)
    assert predicted.notes[0] == "engine: torch"
    assert len(predicted.notes) == 1 + bool(words) and words in predicted.notes[-1]


@pytest.mark.parametrize("writes_files", [True, False])
def test_notes_on_files(writes_files):
    predicted = result([("a.tif", 0, "damaged")])
    shown = job(skipped_files=1200, writes_files=writes_files)
    result_module._add_notes(predicted, shown, UsedEngine("", {}))
    skipped, rejected = predicted.notes
    assert skipped.endswith("not images by their suffix: 1,200")
    listed = ", listed in out.rejected.csv" if writes_files else ""
    assert rejected == f"rejected: 1{listed}"


@pytest.mark.parametrize(
    ("query", "tile_step"),
    [
        (Query(), None),
        (Query(grid=64), 1.0),
        (Query(grid=64, stride=48), 0.75),
        (Query(grid=64, stride=128), 1.0),
    ],
)
def test_tiles_do_not_overlap_on_the_map(query, tile_step, monkeypatch):
    monkeypatch.setattr(result_module, "table_metadata", lambda *_: {"notes": []})
    # its public caller writes the layer to a file
    layer = result_module._make_layer(result(), job(query=query), ENGINE)
    assert layer.tile_step == tile_step and layer.geometry_type == "Point"
    counts = {name: layer.metadata[name] for name in ("chips", "rejected", "ood")}
    assert counts == {"chips": 3, "rejected": 0, "ood": 0}


@pytest.mark.parametrize(
    ("are_boxes", "geometry_type"),
    [([True], "Polygon"), ([True, False], "Point"), ([False], "Point")],
)
def test_boxes_are_drawn_if_all_positions_have_them(
    are_boxes, geometry_type, monkeypatch
):
    monkeypatch.setattr(result_module, "table_metadata", lambda *_: {})
    positions = [SimpleNamespace(are_boxes=value) for value in are_boxes]
    plan = SimpleNamespace(crs=None, positions=positions, scenes=[])
    layer = result_module._make_layer(result(), job(plan=plan), ENGINE)
    assert layer.geometry_type == geometry_type


def test_accuracy_of_the_validation():
    share = SimpleNamespace(index=1, accuracy=0.805, share=0.6)
    calibrator = SimpleNamespace(compare_with_one_class=lambda: share)
    bundle = SimpleNamespace(classes=("a", "b"), calibrator=calibrator)
    # its public caller needs a classified job
    assert result_module._describe_accuracy(bundle) == [
        "validation: 80% right",
        "all b: 60% right",
    ]
    assert result_module._describe_accuracy(job().bundle) == []
