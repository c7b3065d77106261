"""Classify the same chips as uint8, as sigma0 and in dB by one bundle."""

from pathlib import Path

import numpy as np
import pytest
import rasterio

from rsft.data.imagery.reader import read_chip
from rsft.inference.options import PredictionRequest
from rsft.inference.predict.job import predict
from rsft.scenes.options import Declaration

RECIPE = """\
data: {root: ROOT, size: 32, bands: [VV, VH, VV], unit: amplitude, declare: amplitude, stretch: chip-max}
train: {epochs: 2, batch_size: 16, lr: 0.1}
"""

pytestmark = [pytest.mark.realdata, pytest.mark.slow]


@pytest.fixture(scope="module")
def stores(shared, tmp_path_factory):
    opensarship = pytest.importorskip("rsft.plugins.opensarship.prepare")
    folder = tmp_path_factory.mktemp("opensarship")
    source = shared("opensarship")
    return {
        product: opensarship.prepare_opensarship(
            source, folder / product, product=product
        )
        for product in ("uint8", "cal")
    }


@pytest.fixture(scope="module")
def bundle(stores, tmp_path_factory):
    from rsft.recipe.load import load_recipe
    from rsft.training.finetune import finetune

    folder = tmp_path_factory.mktemp("run")
    (folder / "ships.yaml").write_text(
        RECIPE.replace("ROOT", str(stores["uint8"].root))
    )
    return finetune(load_recipe(folder / "ships.yaml"), folder / "runs").bundle_dir


@pytest.fixture(scope="module")
def decibels(stores, tmp_path_factory):
    """The chips of the test split in dB, under their names."""
    folder = tmp_path_factory.mktemp("db")
    for row in stores["cal"].split("test").itertuples():
        pixels = read_chip(stores["cal"].root / row.path)
        with np.errstate(divide="ignore"):
            db = 10 * np.log10(pixels).transpose(2, 0, 1)
        shape = {"count": len(db), "height": db.shape[1], "width": db.shape[2]}
        with rasterio.open(
            folder / f"{row.name}.tif", "w", "GTiff", dtype="float32", **shape
        ) as file:
            file.write(db)
    return folder


def table(bundle, chips, out, declaration):
    result = predict(bundle, chips, out, PredictionRequest(declaration=declaration))
    assert not result.rejected
    names = result.table["path"].map(lambda path: Path(path).stem.removesuffix("_vh"))
    return result.table.set_index(names).filter(like="p_").sort_index()


def test_three_products_have_the_same_ranking(bundle, stores, decibels, tmp_path):
    bands = stores["cal"].bands
    paths = {
        name: [store.root / path for path in store.split("test")["path"]]
        for name, store in stores.items()
    }
    byte = table(bundle, paths["uint8"], tmp_path / "a.csv", Declaration(bands=bands))
    linear = table(
        bundle, paths["cal"], tmp_path / "b.csv", Declaration("sigma0", bands)
    )
    db = table(bundle, [decibels], tmp_path / "c.csv", Declaration("db", bands))
    assert (
        len(byte) > 20
        and byte.index.equals(linear.index)
        and byte.index.equals(db.index)
    )
    for other in (linear, db):
        assert np.abs(byte - other).to_numpy().max() < 0.02
        assert (np.argsort(byte.to_numpy(), 1) == np.argsort(other.to_numpy(), 1)).all()
