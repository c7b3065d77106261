"""Several bundles in one pass."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from rsft.inference.predict import multi_bundle
from rsft.inference.predict.job import predict
from rsft.inference.predict.multi_bundle import predict_together, tables_of
from rsft.inference.predict.request import Request
from rsft.models.bundle.bundle import Bundle
from tests.helpers.tiny_bundles import copied


@pytest.fixture(scope="module")
def other(run, tmp_path_factory):
    """Another bundle, of the same recipe."""
    folder = tmp_path_factory.mktemp("other") / "bundle"
    copied(Bundle.load(run)).save(folder)
    return folder


@pytest.mark.slow
def test_two_tables_as_by_each_alone(rsft, run, other, root, tmp_path):
    chips = root / "chips/val"
    code, printed = rsft("predict", run, chips, "-o", "out.csv", "--also", other, "--device", "cpu")
    assert code == 0 and printed.count("18 chips classified") == 2
    assert "engine: torch fp32; chips and embedding are shared by 2 bundles" in printed
    for folder, name in ((run, "out.csv"), (other, "out.bars.csv")):
        alone = predict(folder, [chips], tmp_path / f"alone.{name}", Request(engine="torch", device="cpu")).table
        table = pd.read_csv(tmp_path / name)
        assert table["class"].tolist() == alone["class"].tolist()
        np.testing.assert_allclose(table["p_flat"], alone["p_flat"], atol=1e-5)
    assert not list(Path.cwd().glob(".*journal"))


@pytest.mark.slow
def test_a_job_that_was_stopped_between_two_tables(run, other, root, tmp_path, monkeypatch):
    chips, settled = root / "chips/val", []

    def stop(*arguments):
        settled.append(arguments)
        if len(settled) == 4:  # the second table of the second batch
            raise KeyboardInterrupt
        return rows(*arguments)

    rows = multi_bundle.classify_all.__globals__["rows_of"]
    request = Request(device="cpu", batch_size=6)
    with monkeypatch.context() as patched:
        patched.setitem(multi_bundle.classify_all.__globals__, "rows_of", stop)
        with pytest.raises(KeyboardInterrupt):
            predict_together([run, other], [chips], tmp_path / "out.csv", request)
    assert len(list(tmp_path.glob(".*.journal"))) == 2
    results = predict_together([run, other], [chips], tmp_path / "out.csv", request)
    assert [len(result.table) for result in results] == [18, 18] and not list(tmp_path.glob(".*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "told"),
    [(["--engine", "onnx"], "in PyTorch, in float32"), (["--html", "page.html"], "a review page is of one bundle")],
)
def test_refused(rsft, run, other, root, tmp_path, options, told):
    code, printed = rsft("predict", run, root, "-o", "out.csv", "--also", other, *options)
    assert code == 2 and told in printed and not list(tmp_path.iterdir())


def test_names_of_tables():
    names = [SimpleNamespace(recipe=SimpleNamespace(name=name)) for name in ("a", "a", "b", "b")]
    found = tables_of(Path("x/out.gpkg"), names)
    assert [path.name for path in found] == ["out.gpkg", "out.a.gpkg", "out.b.gpkg", "out.b-2.gpkg"]
    assert {path.parent for path in found} == {Path("x")}
