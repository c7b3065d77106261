"""The engine sees a chip as the evaluation did."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from rsft.bundle import Bundle
from rsft.evaluate import evaluate
from rsft.predict.inputs import find_chips
from rsft.predict.result import Request
from rsft.predict.run import predict
from rsft.recipe.schema import Evaluate


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
