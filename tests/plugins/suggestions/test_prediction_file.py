"""Every format of `rsft predict` is read; other files are refused with a reason."""

import json

import geopandas
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely

from rsft.errors import RequestError
from rsft.inference.writers.columns import probability_columns
from rsft.inference.writers.layer import PredictionLayer
from rsft.inference.writers.tables import write_prediction_table
from rsft.plugins.suggestions.prediction_file import read_prediction_file
from tests.helpers.messages import mentions

CLASSES = ("ship", "Öltanker")
METADATA = {
    "classes": list(CLASSES),
    "train_counts": {"ship": 9, "Öltanker": 2},
    "recipe": "ships",
}


def write(path, rows=2):
    table = pd.DataFrame(
        {
            "chip": ["a", "b"],
            "scene": ["s.tif", None],
            "path": ["cut/a.tif", "cut/b.tif"],
            "class": ["ship", "Öltanker"],
            "probability": [0.75, 0.5],
            "class_set": pd.Series(["ship | Öltanker", None], dtype=object),
            "ood": [False, True],
            "ood_distance": [0.5, 1.5],
            "p_ship": [0.75, 0.5],
            "p_Öltanker": [0.25, 0.5],
            "at": pd.array([7, None], "Int64"),
            "p_value": ["x", "y"],
            "geometry": pd.Series([shapely.Point(1, 2), None], dtype=object),
        }
    )
    write_prediction_table(
        PredictionLayer(table.head(rows), "EPSG:4326", CLASSES, METADATA), path
    )
    return path


def probabilities(file):
    return file.table[probability_columns(file.classes)].to_numpy(float)


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".parquet", ".csv"])
def test_formats(tmp_path, suffix):
    file = read_prediction_file(write(tmp_path / f"out{suffix}"))
    assert file.classes == CLASSES and file.invalid == 0
    assert probabilities(file).tolist() == [[0.75, 0.25], [0.5, 0.5]]
    assert file.table["class_set"].tolist() == ["ship | Öltanker", ""]
    assert file.table["scene"].tolist() == ["s.tif", ""] and file.table[
        "at"
    ].tolist() == ["7", ""]
    assert file.table["ood_distance"].tolist() == [0.5, 1.5] and file.table[
        "p_value"
    ].tolist() == ["x", "y"]
    assert file.metadata.get("train_counts") == (
        None if suffix == ".csv" else METADATA["train_counts"]
    )


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".parquet", ".csv"])
def test_no_rows(tmp_path, suffix):
    assert probabilities(
        read_prediction_file(write(tmp_path / f"out{suffix}", rows=0))
    ).shape == (0, 2)


def test_a_layer_that_was_saved_again(tmp_path):
    frame = geopandas.read_file(
        write(tmp_path / "out.gpkg"), layer="predictions"
    ).assign(corrected=["ship", None])
    frame.to_file(tmp_path / "edited.gpkg", layer="my ships", driver="GPKG")
    file = read_prediction_file(tmp_path / "edited.gpkg")
    assert file.table["corrected"].tolist() == ["ship", ""] and file.metadata == {}


def test_csv_of_a_spreadsheet(tmp_path):
    path = tmp_path / "saved.csv"
    path.write_text(
        "path;class;p_a;p_b;ood_distance\nx.png;a;0,75;0,25;0,5\n", "utf-8-sig"
    )
    file = read_prediction_file(path)
    assert probabilities(file).tolist() == [[0.75, 0.25]] and file.table[
        "ood_distance"
    ].tolist() == [0.5]


def test_rows_without_valid_probabilities_are_left_out(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text(
        "path,class,p_a,p_b\nx,a,0.6,0.4\ny,a,,\n,a,1,0\nz,b,0.9,0.9\nu,b,-1,2\nv,b,nan,1\nw,b,x,1\n"
    )
    file = read_prediction_file(path)
    assert (
        file.table["path"].tolist() == ["x"]
        and file.invalid == 6
        and np.isfinite(probabilities(file)).all()
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "cannot be read"),
        (
            "a.csv",
            b"name,label\nx,y\n",
            "no column path, class, p_<class>; it has name, label",
        ),
        (
            "a.csv",
            b"path,class,p_a\nx,a,2\n",
            "no row has a path and the probabilities",
        ),
        ("a.csv", b'path,class,p_a\n"x,a,1\n', "cannot be read"),
        ("a.csv", b"path,class\nx,y,z,1,2\n", "the row has 5 fields"),
        ("a.csv", b"path,class\nx,y\n", "no column p_<class>"),
        ("a.csv", b"\xff\xfe\x00path", "cannot be read"),
        ("a.csv", b"\x00\x00\x00", "no column path"),
        ("a.geojson", b"{}", "cannot be read"),
        ("a.geojson", b"[1", "cannot be read"),
        ("a.parquet", b"PAR1", "cannot be read"),
        ("a.gpkg", b"", "cannot be read"),
        ("a.shp", b"", "unknown format: .shp"),
    ],
)
def test_other_files_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RequestError, match=message) as refused:
        read_prediction_file(tmp_path / name)
    assert name in refused.value.location and refused.value.hint


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(RequestError, match="no such file"):
        read_prediction_file(tmp_path / "no.gpkg")
    with pytest.raises(RequestError, match="unknown format: no suffix"):
        read_prediction_file(tmp_path)


@pytest.mark.parametrize(
    "metadata", [3, [], {"classes": 3}, {"classes": [1]}, {"train_counts": {"a": "x"}}]
)
def test_damaged_metadata(tmp_path, metadata):
    path = tmp_path / "p.parquet"
    table = pa.table({"path": ["x"], "class": ["a"], "p_a": [1.0]})
    pq.write_table(table.replace_schema_metadata({"rsft": json.dumps(metadata)}), path)
    with pytest.raises(RequestError, match=mentions("metadata", "damaged")):
        read_prediction_file(path)
