"""`rsft.embed` returns the table that `rsft embed` writes."""

import geopandas
import numpy as np
import pytest

import rsft as package
from rsft.errors import RequestError
from tests.helpers.style import ROOT

RUN = ROOT / "tests/compat/0.2/run"
CHIPS = ROOT / "tests/compat/0.2/store/chips/val"


def test_the_table_is_that_of_the_command(rsft, tmp_path):
    code, text = rsft("embed", CHIPS, "-o", "v.parquet", "--bundle", RUN)
    assert code == 0, text
    model = package.load_bundle(RUN, device="cpu")
    table = package.embed(CHIPS, bundle=model)
    written = geopandas.read_parquet(tmp_path / "v.parquet")
    assert list(table) == list(written) and table["chip"].equals(written["chip"])
    vectors = np.stack(table["vector"])
    np.testing.assert_allclose(vectors, np.stack(written["vector"]), rtol=1e-5)
    np.testing.assert_allclose(vectors, model.features(CHIPS), rtol=1e-4, atol=1e-5)
    assert table.attrs["rejected"] == []


def test_an_encoder_by_name(root):
    name = "vit_tiny_patch8_64.simship"
    table = package.embed(root, backbone=name, input_size=32, device="cpu")
    assert len(table) == 58 and {"split", "class"} <= set(table)
    assert len(table["vector"][0]) == 192


@pytest.mark.parametrize(
    "arguments", [{"bundle": RUN, "backbone": "x"}, {"backbone": "no_encoder"}]
)
def test_faults_name_arguments(arguments):
    with pytest.raises(RequestError) as error:
        package.embed(CHIPS, **arguments)
    assert "--" not in str(error.value)


def test_arrays_have_features():
    with pytest.raises(RequestError, match="is no chips"):
        package.embed(np.zeros((4, 4)), bundle=RUN)
