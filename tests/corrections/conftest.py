"""A scene in dB with two bands, a store of chips from another scene, and predictions of
a toy model."""

from __future__ import annotations

import json
from pathlib import Path
from shutil import copytree
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyogrio
import pytest

from rsft.data.chips.store import ChipStore
from rsft.data.imagery.stretch import Stretch
from rsft.data.prepare.image_folder import prepare_folder
from rsft.inference.options import PredictionRequest
from rsft.inference.predict import job
from rsft.scenes.options import ChipOptions, ChipSize, Declaration
from rsft.scenes.query import Query
from tests.helpers.scenes import (
    UTM,
    toy_bundle,
    toy_contract,
    use_toy_model,
    write_geotiff,
)
from tests.helpers.vector_layers import CellHere

SIDE = 8
# row, col; four of them at the edge of 48 x 48
SHIPS = [
    (2, 2),
    (2, 40),
    (20, 20),
    (20, 41),
    (45, 3),
    (46, 46),
]


def decibels(height, width, seed=0, bands=2):
    """Return bands of a sea in dB (B, H, W)."""
    return (
        np.random.default_rng(seed)
        .normal(-20, 2, (bands, height, width))
        .astype(np.float32)
    )


class Desk(NamedTuple):
    """A store and a scene, and a function that predicts the ships of the scene."""

    store: Path
    scene: Path
    positions: Path
    folder: Path
    patch: pytest.MonkeyPatch

    def predict(self, name="out.parquet", bands=("VH", "VV"), chips=True, **fields):
        """Predict the ships with a model of some bands, and return the path of the
        table (of layers, the fastest)."""
        count = len(bands)
        stretch = (Stretch(low=-40.0, high=0.0),)
        planes = {
            "units": {"db": stretch * count},
            "planes": bands,
            "mean": (0.5,) * count,
            "std": (0.25,) * count,
        }
        contract = toy_contract(bands=("VH", "VV"), **planes)
        use_toy_model(self.patch, toy_bundle(contract=fields.pop("contract", contract)))
        query = fields.pop("query", Query(at=self.positions))
        options = {
            "chip_options": ChipOptions(size=ChipSize(SIDE)),
            "declaration": Declaration("db"),
            "chips_dir": self.folder / "cut" if chips else None,
            "overwrite": True,
        }
        request = PredictionRequest(query=query, **(options | fields))
        job.predict(Path("bundle"), [self.scene], self.folder / name, request)
        return self.folder / name

    def table(self):
        """Return the manifest of the store."""
        return ChipStore.open(self.store).table


@pytest.fixture(scope="session")
def dark_and_bright(tmp_path_factory):
    """Make a store with the classes dark and bright in two bands (dB)."""
    source = tmp_path_factory.mktemp("source")
    for split, count in {"train": 3, "val": 2}.items():
        for number, name in enumerate(("bright", "dark")):
            folder = source / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                seed = 100 + 10 * number + index + 50 * (split == "val")
                write_geotiff(
                    folder / f"{index}.tif",
                    decibels(SIDE, SIDE, seed),
                    names=("VH", "VV"),
                )
    return prepare_folder(
        source, tmp_path_factory.mktemp("data") / "store", unit="db"
    ).root


@pytest.fixture
def desk(dark_and_bright, tmp_path, monkeypatch):
    """Copy the store, and make a scene with six ships."""
    monkeypatch.chdir(tmp_path)
    # layers are read without the process that limits damage, which takes a second
    monkeypatch.setattr("rsft.data.imagery.vectors.ReaderCell", CellHere)
    store = copytree(dark_and_bright, tmp_path / "store")
    scene = write_geotiff(
        tmp_path / "scene.tif",
        decibels(48, 48),
        crs="EPSG:32633",
        transform=UTM,
        names=("VH", "VV"),
    )
    lines = ["row,col", *(f"{row},{col}" for row, col in SHIPS)]
    (tmp_path / "ships.csv").write_text("\n".join(lines))
    return Desk(store, scene, tmp_path / "ships.csv", tmp_path, monkeypatch)


LABELS = ["bright", "dark", "not a target", "unsure", "", "bright"]


def correct(path, labels=LABELS, field="corrected"):
    """Write labels into a field of a table of predictions, as a person does in QGIS."""
    if path.suffix == ".geojson":
        content = json.loads(path.read_text())
        for feature, label in zip(content["features"], labels, strict=True):
            feature["properties"][field] = label or None
        path.write_text(json.dumps(content))
    elif path.suffix == ".csv":
        pd.read_csv(path).assign(**{field: labels}).to_csv(path, index=False)
    elif path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pq.read_table(path)
        pq.write_table(table.append_column(field, pa.array(labels)), path)
    else:
        frame = pyogrio.read_dataframe(path, layer="predictions").assign(
            **{field: labels}
        )
        metadata = pyogrio.read_dataframe(path, layer="rsft_metadata")
        pyogrio.write_dataframe(frame, path, layer="predictions", driver="GPKG")
        pyogrio.write_dataframe(
            metadata, path, layer="rsft_metadata", driver="GPKG", append=True
        )
    return path


def read_layer(path):
    """Return the table of predictions without its geometry."""
    return (
        pd.read_parquet(path)
        if path.suffix == ".parquet"
        else pyogrio.read_dataframe(path, layer="predictions")
    )


def page_table(desk, labels=LABELS, name="out.parquet", **options):
    """Write what the review page saves."""
    rows = read_layer(desk.predict(name, **options))
    verdicts = [
        label if label in ("not a target", "unsure") else "class" for label in labels
    ]
    classes = ["" if label in ("not a target", "unsure") else label for label in labels]
    frame = pd.DataFrame(
        {
            "path": rows["path"],
            "class": classes,
            "verdict": verdicts,
            "predicted": rows["class"],
        }
    )
    frame = frame.assign(
        scene=rows["scene"],
        at=rows["at"],
        row=rows["row"],
        col=rows["col"],
        chip=rows["chip"],
    )
    frame = frame.assign(table=str(desk.folder / name))
    frame = frame.assign(path="") if not options.get("chips", True) else frame
    frame.to_csv(desk.folder / "corrected.csv", index=False)
    return desk.folder / "corrected.csv"
