"""An engine classifies chips as the evaluation does."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rsft.errors import RequestError
from rsft.evaluation.evaluate import evaluate
from rsft.inference.options import PredictionRequest
from rsft.inference.predict.job import predict
from rsft.models.bundle.bundle import Bundle, combine_bundles
from rsft.recipe.schema import EvaluateSection
from rsft.scenes.inputs import find_chips
from tests.helpers.messages import mentions
from tests.helpers.tiny_bundles import perturbed_copy


@pytest.mark.slow
@pytest.mark.parametrize("tta", ["none", "five-crop", "mirror", "turns"])
def test_predictions_equal_those_of_the_evaluation(run, root, tmp_path, tta):
    bundle = Bundle.load(run)
    recipe = bundle.recipe.model_copy(
        update={"evaluate": EvaluateSection(tta=tta, margin=8)}
    )
    replace(bundle, recipe=recipe).save(tmp_path / "bundle")
    evaluate(
        tmp_path / "bundle",
        root,
        tmp_path,
        split="val",
        baselines=False,
        representation=False,
    )
    evaluated = pd.read_parquet(tmp_path / "predictions.parquet").set_index("path")
    paths = [Path(path) for path in find_chips([root / "chips/val"])[0]]
    table = predict(
        tmp_path / "bundle", paths, tmp_path / "out.csv", PredictionRequest()
    ).table
    evaluated = evaluated.loc[[path.relative_to(root).as_posix() for path in paths]]
    columns = [name for name in table if name.startswith("p_")]
    np.testing.assert_allclose(table[columns], evaluated[columns], atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "precision", "tta", "runs"),
    [
        ("onnx", "fp32", "none", 1),
        ("openvino", "fp32", "five-crop", 2),
        ("onnx", "fp32", "turns", 1),
    ],
)
def test_other_engines_give_the_same_predictions(
    run, root, tmp_path, monkeypatch, engine, precision, tta, runs
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    bundle = Bundle.load(run)
    recipe = bundle.recipe.model_copy(
        update={"evaluate": EvaluateSection(tta=tta, margin=8)}
    )
    if runs > 1:
        averaged = combine_bundles(recipe, [bundle, perturbed_copy(bundle)])
        bundle = replace(averaged, calibrator=bundle.calibrator)
    replace(bundle, recipe=recipe).save(tmp_path / "bundle")
    paths = [Path(path) for path in find_chips([root / "chips/val"])[0]]
    reference = predict(
        tmp_path / "bundle",
        paths,
        tmp_path / "torch.csv",
        PredictionRequest(engine="torch"),
    ).table
    for name in ("exported", "cached"):
        request = PredictionRequest(engine=engine, precision=precision)
        result = predict(
            tmp_path / "bundle", paths, tmp_path / f"{name}.geojson", request
        )
        assert f"engine: {engine} {precision}" in result.notes
        columns = [name for name in result.table if name.startswith("p_")]
        np.testing.assert_allclose(result.table[columns], reference[columns], atol=1e-3)
        np.testing.assert_allclose(
            result.table["ood_distance"], reference["ood_distance"], rtol=0.05
        )
    (folder,) = (tmp_path / "cache").glob(f"rsft/engines/*/{engine}-{precision}-*")
    by_path = predict(
        tmp_path / "bundle",
        paths,
        tmp_path / "file.csv",
        PredictionRequest(engine=str(folder)),
    )
    assert by_path.table["class"].tolist() == result.table["class"].tolist()
    with pytest.raises(RequestError, match=mentions("export")):
        predict(
            run, paths, tmp_path / "wrong.csv", PredictionRequest(engine=str(folder))
        )
