"""Write every format, and read it by another library."""

import os
from functools import partial

import geopandas
import pyogrio
import pytest

from rsft.errors import RequestError
from rsft.inference.writers.layer import PredictionLayer
from rsft.inference.writers.tables import (
    check_output_file,
    check_output_path,
    write_prediction_table,
)
from tests.helpers.messages import mentions
from tests.helpers.prediction_tables import (
    CLASSES,
    COLUMNS,
    METADATA,
    SQUARE,
    Unprintable,
    table,
    write,
)


@pytest.mark.parametrize(
    ("name", "sidecar"), [("out.geojson", "out.qml"), ("out.csv", "out.csvt")]
)
def test_sidecars_belong_to_their_table(tmp_path, name, sidecar):
    (tmp_path / sidecar).write_text("precious")
    with pytest.raises(RequestError, match=sidecar):
        write(tmp_path / name, SQUARE)
    assert (
        not (tmp_path / name).exists()
        and (tmp_path / sidecar).read_text() == "precious"
    )
    write(tmp_path / name, SQUARE, overwrite=True)
    assert (tmp_path / sidecar).read_text("utf-8") not in ("", "precious")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, sidecar])


@pytest.mark.parametrize("name", ["out.geojson", "out.csv"])
def test_a_failure_leaves_neither_table_nor_sidecar(tmp_path, name):
    rows = table(SQUARE).assign(broken=[Unprintable()])
    with pytest.raises((RuntimeError, AttributeError)):
        write_prediction_table(
            PredictionLayer(rows, "EPSG:4326", CLASSES, METADATA), tmp_path / name
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("out.shp", "10 characters"),
        ("out.feather", "unknown format"),
        ("out", "no suffix"),
        ("folder.csv", "folder"),
    ],
)
def test_refused(tmp_path, name, reason):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(RequestError, match=reason):
        write(tmp_path / name, None)


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson"])
def test_keeps_labels_that_an_analyst_entered(tmp_path, suffix):
    out = tmp_path / f"out{suffix}"
    layer = PredictionLayer(
        table(SQUARE, SQUARE), "EPSG:4326", CLASSES, METADATA
    ).with_corrections()
    write_prediction_table(layer, out)
    write_prediction_table(layer, out, overwrite=True)  # no label yet
    labeled = layer._replace(table=layer.table.assign(corrected=["ship", " "]))
    write_prediction_table(labeled, out, overwrite=True)
    before = out.read_bytes()
    with pytest.raises(RequestError, match=mentions("1 labels", "corrected")) as caught:
        check_output_path(out, COLUMNS, overwrite=True)
    assert "rsft data add" in str(caught.value)
    assert out.read_bytes() == before
    out.write_bytes(b"damaged")
    write(out, SQUARE, overwrite=True)
    assert len(pyogrio.read_dataframe(out)) == 1


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson"])
@pytest.mark.parametrize(
    ("column", "cells", "count"),
    [("corrected", [3, 0], 2), ("Corrected", ["ship"] * 2, 0)],
)
def test_only_the_column_of_corrections_is_kept(tmp_path, suffix, column, cells, count):
    out = tmp_path / f"out{suffix}"
    rows = table(SQUARE, SQUARE).assign(**{column: cells})
    write_prediction_table(PredictionLayer(rows, "EPSG:4326", CLASSES, METADATA), out)
    if count:
        with pytest.raises(RequestError, match=f"{count} labels"):
            check_output_path(out, COLUMNS, overwrite=True)
    else:
        check_output_path(out, COLUMNS, overwrite=True)


@pytest.mark.parametrize(
    "content",
    [b"[" * 10**6, b"[]", b'{"features": [{"properties": null}]}', b"\xff", None],
)
def test_a_damaged_layer_has_no_corrections(tmp_path, content):
    for out in (tmp_path / "out.geojson", tmp_path / "out.gpkg"):
        os.mkfifo(out) if content is None else out.write_bytes(content)
        check_output_path(out, COLUMNS, overwrite=True)


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".parquet", ".csv"])
def test_overwrites_only_on_request(tmp_path, suffix):
    out = tmp_path / f"out{suffix}"
    out.write_text("precious")
    with pytest.raises(RequestError, match="--overwrite"):
        write(out, None)
    assert out.read_text() == "precious"
    write(out, SQUARE, overwrite=True)
    readers = {
        ".parquet": geopandas.read_parquet,
        ".gpkg": partial(pyogrio.read_dataframe, layer="predictions"),
    }
    read = readers.get(suffix, pyogrio.read_dataframe)
    assert len(read(out)) == 1


def test_new_files(tmp_path):
    (tmp_path / "a.csv").touch()
    check_output_file(tmp_path / "a.csv", (".csv",), overwrite=True)
    for path, message in {
        "a.csv": "exists already",
        "a.gpkg": "must be a .csv file",
    }.items():
        with pytest.raises(RequestError, match=message):
            check_output_file(tmp_path / path, (".csv",), overwrite=False)
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(RequestError, match="is a folder"):
        check_output_file(tmp_path / "d.csv", (".csv",), overwrite=True)
