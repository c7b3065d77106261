"""Which engine a job uses, and that it classifies chips as the evaluation does.

Exported graphs come from other people: what they raise and return is checked.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from rsft.errors import RequestError, WeightsError
from rsft.evaluation.evaluate import evaluate
from rsft.inference.engines.base import EngineSpec, find_engine
from rsft.inference.engines.export_metadata import export_folder
from rsft.inference.engines.graph import GraphModel, graph_engine
from rsft.inference.export.export import export_bundle
from rsft.inference.options import PredictionRequest
from rsft.inference.predict import engine as engine_module
from rsft.inference.predict.engine import (
    choose_engine,
    load_engine,
    load_exported_engine,
)
from rsft.inference.predict.job import predict
from rsft.models.bundle.bundle import Bundle, combine_bundles
from rsft.models.outputs import ClassifierOutputs
from rsft.recipe.schema import EvaluateSection
from rsft.scenes.inputs import find_chips
from tests.helpers.messages import mentions
from tests.helpers.plugins import needs_plugin
from tests.helpers.scenes import toy_bundle
from tests.helpers.tiny_bundles import perturbed_copy

IMAGES = np.ones((2, 3, 8, 8), np.float32)


def run_graph(infer):
    bundle = toy_bundle()
    bundle.recipe.evaluate = SimpleNamespace(tta="none", margin=0, crop_margin=0)
    return graph_engine(
        bundle, GraphModel(infer), EngineSpec("onnx"), Path("model.onnx")
    ).infer(IMAGES)


def test_a_graph_of_the_bundle():
    outputs = run_graph(
        lambda images: ClassifierOutputs(np.ones((2, 2)), np.ones((2, 5)))
    )
    assert outputs.logits.shape == (2, 2) and outputs.features.dtype == np.float32


def test_a_graph_that_cannot_be_run():
    def infer(images):
        raise KeyError("no input images\nsecond line")

    with pytest.raises(
        WeightsError, match=mentions("exported graph", "no input images", "model.onnx")
    ):
        run_graph(infer)


GOOD = np.ones((2, 2))


@pytest.mark.parametrize(
    ("logits", "features"),
    [(np.ones((2, 3)), GOOD), (np.ones((1, 2)), GOOD), (np.ones(2), GOOD), (GOOD, np.ones((3, 5))),
     (GOOD, np.ones((2, 5, 1))), (np.ones((2, 2), np.int64), GOOD), (GOOD, np.ones((2, 5), np.complex64))],
)  # fmt: skip
def test_a_graph_that_is_not_one_of_the_bundle(logits, features):
    with pytest.raises(WeightsError, match=mentions("logits", "2 classes")):
        run_graph(lambda images: ClassifierOutputs(logits, features))


FAULTS = {
    '{"files": [], "format": 1}': (WeightsError, "export.json is damaged"),
    '{"files": {}, "format": 9}': (WeightsError, "export format 9; this rsft reads 1"),
    '{"files": {}, "format": 1, "bundle_sha256": "0a"}': (
        RequestError,
        "an export of the bundle 0a, not of",
    ),
    '{"files": {}, "format": 1, "bundle_sha256": "SHA", "whole": true}': (
        RequestError,
        "takes the pixels of chips",
    ),
    '{"files": {}, "format": 1, "bundle_sha256": "SHA", "kind": "timm"}': (
        RequestError,
        "no engine runs timm exports.*export onnx",
    ),
    '{"files": {}, "format": 1, "bundle_sha256": "SHA", "kind": "onnx"}': (
        WeightsError,
        "the graph cannot be opened",
    ),
}


@pytest.mark.parametrize("text", FAULTS)
def test_an_export_that_cannot_be_used(tmp_path, text):
    bundle = toy_bundle()
    error, words = FAULTS[text]
    (tmp_path / "export.json").write_text(text.replace("SHA", bundle.sha256))
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(error, match=words):
        load_exported_engine(bundle, tmp_path / "model.onnx")


@pytest.fixture
def run_dir(tmp_path):
    """The folder of a run whose exports say that they belong to `toy_bundle()`."""
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle/bundle.json").touch()
    for name in ("openvino-fp32", "onnx-int8", "onnx-fp32"):
        write_metadata(tmp_path, name)
    return tmp_path


def write_metadata(run_dir, name, sha256="0" * 64):
    folder = export_folder(run_dir, name)
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {"files": {}, "format": 1, "bundle_sha256": sha256}
    (folder / "export.json").write_text(json.dumps(metadata))


def choose(run_dir, precision=None, device="cpu"):
    name = choose_engine(toy_bundle(), run_dir, "auto", precision, device)
    return Path(name).name


def test_auto_takes_the_export_beside_the_bundle(run_dir):
    assert choose(run_dir) == "onnx-fp32"
    assert choose(run_dir / "bundle", "int8") == "onnx-int8"
    assert choose(run_dir, "bf16") == "torch"


@needs_plugin("exports")
def test_auto_takes_no_export_of_another_bundle(run_dir):
    write_metadata(run_dir, "onnx-fp32", "1" * 64)
    assert choose(run_dir) == "openvino-fp32"
    write_metadata(run_dir, "openvino-fp32", "1" * 64)
    assert choose(run_dir) == "torch"


@needs_plugin("exports")
def test_auto_takes_no_export_whose_package_is_missing(run_dir, monkeypatch):
    monkeypatch.setattr(engine_module, "find_spec", lambda name: name != "onnxruntime")
    assert choose(run_dir) == "openvino-fp32"


def test_auto_takes_pytorch_on_a_gpu(run_dir, monkeypatch):
    monkeypatch.setattr(engine_module, "has_gpu_driver", lambda: True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert choose(run_dir, device="auto") == "torch"
    assert choose(run_dir, device="cuda") == "torch"
    assert choose(run_dir, device="cpu") == "onnx-fp32"


def test_auto_does_not_ask_pytorch_without_a_driver(run_dir, monkeypatch):
    monkeypatch.setattr(engine_module, "has_gpu_driver", lambda: False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: 1 / 0)
    assert choose(run_dir, device="auto") == "onnx-fp32"


def test_a_job_takes_the_export_and_a_resumed_one_goes_on_with_its_engine(
    run, root, exported, tmp_path
):
    bundle_dir = tmp_path / "bundle"
    shutil.copytree(run / "bundle", bundle_dir)
    paths = [Path(path) for path in find_chips([root / "chips/val"])[0]]
    request = PredictionRequest(device="cpu", batch_size=2)
    out = tmp_path / "out.csv"

    def interrupt(done, total, item):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(bundle_dir, paths, out, request, interrupt)
    folder = tmp_path / "exports/onnx-fp32"  # as `rsft export` chooses it
    shutil.copytree(exported("onnx"), folder)
    resumed = predict(bundle_dir, paths, out, request)
    assert "engine: torch fp32" in resumed.notes
    other = predict(bundle_dir, paths, tmp_path / "other.csv", request)
    assert f"engine: onnx fp32; from {folder}" in other.notes
    columns = [name for name in other.table if name.startswith("p_")]
    np.testing.assert_allclose(other.table[columns], resumed.table[columns], atol=1e-3)


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
        ("onnx", "fp32", "rotations", 1),
    ],
)
def test_other_engines_give_the_same_predictions(
    run, root, tmp_path, engine, precision, tta, runs
):
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
    request = PredictionRequest(engine=engine, precision=precision)
    out = tmp_path / "out.geojson"
    with pytest.raises(RequestError, match="needs an export") as error:
        predict(tmp_path / "bundle", paths, out, request)
    assert f"rsft export {tmp_path}/bundle --format {engine}" in error.value.hint
    folder = export_bundle(tmp_path / "bundle", engine, precision).folder
    result = predict(tmp_path / "bundle", paths, out, request)
    assert f"engine: {engine} {precision}" in result.notes
    columns = [name for name in result.table if name.startswith("p_")]
    np.testing.assert_allclose(result.table[columns], reference[columns], atol=1e-3)
    np.testing.assert_allclose(
        result.table["ood_distance"], reference["ood_distance"], rtol=0.05
    )
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


@pytest.mark.parametrize(
    ("name", "precision", "message"),
    [
        pytest.param(
            "tensorrt",
            None,
            "neither an engine nor the path of an export .* choose auto, .*onnx,"
            " torch, openvino",
            marks=needs_plugin("exports"),
        ),
        ("torch", "int8", mentions("no int8 for torch", "choose fp32 or bf16")),
        ("onnx", "bf16", mentions("no bf16 for onnx", "choose fp32 or int8")),
        ("/", None, "the folder is not an export: export.json is missing"),
    ],
)
def test_wrong_requests_are_refused(tmp_path, name, precision, message):
    with pytest.raises(RequestError, match=message):
        load_engine(toy_bundle(), tmp_path, name, precision)


def test_a_graph_engine_computes_on_the_cpu_only():
    with pytest.raises(RequestError, match=mentions("onnx", "CPU only")):
        find_engine("onnx").check("fp32", "cuda")
    assert str(EngineSpec("onnx")) == "onnx fp32"
