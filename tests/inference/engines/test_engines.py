"""The engine sees a chip as the evaluation did."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from rsft.errors import RequestError
from rsft.evaluation.evaluate import evaluate
from rsft.inference.engines import engines
from rsft.inference.engines.engines import Kind, compiler, open_engine
from rsft.inference.inputs.discovery import find_chips
from rsft.inference.predict.job import predict
from rsft.inference.predict.request import Request
from rsft.models.bundle.bundle import Bundle, combine
from rsft.recipe.schema import Evaluate
from tests.helpers.tiny_bundles import copied

COMPILED = Kind("torch", "bf16", compiled=True)


@pytest.mark.parametrize("tta", ["none", "five-crop"])
def test_predictions_are_those_of_the_evaluation(run, root, tmp_path, tta):
    bundle = Bundle.load(run)
    recipe = bundle.recipe.model_copy(update={"evaluate": Evaluate(tta=tta, margin=8)})
    replace(bundle, recipe=recipe).save(tmp_path / "bundle")
    evaluate(tmp_path / "bundle", root, tmp_path, split="val", baselines=False, representation=False)
    known = pd.read_parquet(tmp_path / "predictions.parquet").set_index("path")
    paths = find_chips([root / "chips/val"]).chips
    table = predict(tmp_path / "bundle", paths, tmp_path / "out.csv", Request()).table
    known = known.loc[[path.relative_to(root).as_posix() for path in paths]]
    columns = [name for name in table if name.startswith("p_")]
    np.testing.assert_allclose(table[columns], known[columns], atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "precision", "tta", "runs"), [("onnx", "fp32", "none", 1), ("openvino", "fp32", "five-crop", 2)]
)
def test_other_engines_say_the_same(run, root, tmp_path, monkeypatch, kind, precision, tta, runs):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    bundle = Bundle.load(run)
    recipe = bundle.recipe.model_copy(update={"evaluate": Evaluate(tta=tta, margin=8)})
    if runs > 1:
        averaged = combine(recipe, [bundle, copied(bundle)])
        bundle = replace(averaged, confidence=bundle.confidence)
    replace(bundle, recipe=recipe).save(tmp_path / "bundle")
    paths = find_chips([root / "chips/val"]).chips
    plain = predict(tmp_path / "bundle", paths, tmp_path / "plain.csv", Request(engine="torch"))
    for name in ("made", "kept"):
        asked = Request(engine=kind, precision=precision)
        other = predict(tmp_path / "bundle", paths, tmp_path / f"{name}.geojson", asked)
        assert f"engine: {kind} {precision}" in other.notes
        columns = [name for name in other.table if name.startswith("p_")]
        np.testing.assert_allclose(other.table[columns], plain.table[columns], atol=1e-3)
        np.testing.assert_allclose(other.table["ood_distance"], plain.table["ood_distance"], rtol=0.05)
    (folder,) = (tmp_path / "cache").glob(f"rsft/engines/*/{kind}-{precision}-*")
    by_file = predict(tmp_path / "bundle", paths, tmp_path / "file.csv", Request(engine=str(folder)))
    assert by_file.table["class"].tolist() == other.table["class"].tolist()
    with pytest.raises(RequestError, match="an export of the bundle"):
        predict(run, paths, tmp_path / "wrong.csv", Request(engine=str(folder)))


@pytest.mark.slow
@pytest.mark.parametrize("compiles", [True, False])
def test_bfloat16_is_near_compiled_or_not_and_says_which(run, monkeypatch, compiles):
    if not compiles:
        monkeypatch.setattr(engines, "compiler", lambda: None)
    elif compiler() is None:
        pytest.skip("there is no C++ compiler here")
    bundle = Bundle.load(run)
    opened = open_engine(bundle, COMPILED, "cpu")
    told = (COMPILED, "") if compiles else (Kind("torch", "bf16"), "not compiled: there is no C++ compiler")
    assert (opened.kind, opened.note) == told
    images = np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32)
    wanted = open_engine(bundle, Kind("torch"), "cpu").run(images)
    np.testing.assert_allclose(opened.run(images).logits, wanted.logits, atol=1e-2 * abs(wanted.logits).max())


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_one_core_a_thread_and_all_of_them_elsewhere(three_threads):
    with engines._one_core_each() as pool, ThreadPoolExecutor(1) as later:
        assert list(pool.map(lambda _: torch.get_num_threads(), range(9))) == [1] * 9
        assert (torch.get_num_threads(), later.submit(torch.get_num_threads).result()) == (3, 3)


def test_one_size_is_computed_whatever_comes():
    seen = []

    def run(x):
        seen.append(len(x))
        return x.sum((1, 2)), x.max((1, 2))

    logits, features = engines._padded(run, 5)(np.ones((3, 2, 2)))
    assert seen == [5] and logits.tolist() == [4, 4, 4] and features.tolist() == [1, 1, 1]
