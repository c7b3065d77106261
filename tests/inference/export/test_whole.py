"""`rsft export --whole`: the graph gives what `rsft predict` says of the same chips."""

import json
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest

from rsft.data.imagery.reader import read_chip
from rsft.errors import RequestError, WeightsError
from rsft.inference.export import whole
from rsft.inference.export.export import export_bundle
from rsft.inference.options import PredictionRequest
from rsft.inference.predict.job import predict
from rsft.models.bundle.bundle import Bundle, combine_bundles
from rsft.recipe.load import load_recipe
from rsft.recipe.schema import EvaluateSection
from rsft.training.finetune import finetune
from tests.helpers.messages import mentions
from tests.helpers.plugins import needs_plugin
from tests.helpers.stac_schemas import item_faults
from tests.helpers.tiny_bundles import perturbed_copy

pytestmark = pytest.mark.slow


def run_graph(folder, paths):
    """Return the outputs of a graph for chips of files."""
    pixels = np.stack(
        [np.moveaxis(read_chip(path)[:, :, :1], 2, 0) for path in paths]
    ).astype(np.float32)
    session = onnxruntime.InferenceSession(
        folder / "model.onnx", providers=["CPUExecutionProvider"]
    )
    return session.run(
        ["probabilities", *[x.name for x in session.get_outputs()][1:]],
        {"pixels": pixels},
    )


def predictions(bundle, paths, output):
    """Return the table of `rsft predict` with PyTorch."""
    return predict(bundle, paths, output, PredictionRequest(engine="torch")).table


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("tta", "runs"), [("none", 1), ("turns", 1), ("rotations", 1), ("five-crop", 2)]
)
def test_the_graph_gives_the_predictions(run, root, tmp_path, tta, runs):
    bundle = Bundle.load(run)
    recipe = bundle.recipe.model_copy(
        update={"evaluate": EvaluateSection(tta=tta, margin=8)}
    )
    if runs > 1:
        bundle = replace(
            combine_bundles(recipe, [bundle, perturbed_copy(bundle)]),
            calibrator=bundle.calibrator,
        )
    replace(bundle, recipe=recipe).save(tmp_path / "bundle")
    result = export_bundle(tmp_path / "bundle", "onnx", whole=True, side=32)
    assert (
        result.folder == tmp_path / "exports/onnx-fp32-whole"
        and "8 chips of noise" in result.notes[1]
    )
    paths = sorted((root / "chips/val").rglob("*.png"))
    table = predictions(tmp_path / "bundle", paths, tmp_path / "out.csv")
    probabilities, distances = run_graph(result.folder, paths)
    columns = [f"p_{name}" for name in bundle.classes]
    np.testing.assert_allclose(probabilities, table[columns].to_numpy(), atol=1e-4)
    np.testing.assert_allclose(distances, table["ood_distance"], rtol=1e-3, atol=1e-3)
    whole = json.loads((result.folder / "export.json").read_text())
    assert (
        whole["whole"] == {"unit": "uint8", "bands": ["gray"], "side": 32}
        and whole["tta"] == tta
    )
    properties = (
        onnxruntime.InferenceSession(result.folder / "model.onnx")
        .get_modelmeta()
        .custom_metadata_map
    )
    assert json.loads(properties["classes"]) == list(bundle.classes)
    assert [properties[key] for key in ("unit", "bands", "side")] == [
        "uint8",
        "gray",
        "32",
    ]


@needs_plugin("exports")
def test_chips_that_are_normalized_one_by_one(recipe_file, root, tmp_path):
    """The network without pre-training, with batch norm and chip-standard."""
    network = [
        "backbone={name: aconvnet, pool: avg}",
        "peft={method: full}",
        "meta=null",
        "head.init=random",
    ]
    recipe = load_recipe(
        recipe_file, [*network, "data.stretch=chip-standard", "train.epochs=1"]
    )
    folder = finetune(recipe, tmp_path).folder
    contract = Bundle.load(folder).contract
    assert contract.chip_standard and (contract.mean, contract.std) == ((0.0,), (1.0,))
    paths = sorted((root / "chips/val").rglob("*.png"))
    table = predictions(folder, paths, tmp_path / "out.csv")
    columns = [name for name in table if name.startswith("p_")]
    whole_graph = export_bundle(
        folder, "onnx", output_dir=tmp_path / "whole", whole=True, side=32
    ).folder
    np.testing.assert_allclose(
        run_graph(whole_graph, paths)[0], table[columns].to_numpy(), atol=1e-4
    )
    graph = export_bundle(folder, "onnx", output_dir=tmp_path / "graph").folder
    other = predict(
        folder, paths, tmp_path / "graph.csv", PredictionRequest(engine=str(graph))
    ).table
    np.testing.assert_allclose(
        other[columns].to_numpy(), table[columns].to_numpy(), atol=1e-4
    )
    with pytest.raises(RequestError, match="normalizes each chip by its own"):
        export_bundle(folder, "timm", output_dir=tmp_path / "timm")
    stac_item = pytest.importorskip("rsft.plugins.publishing.stac_item")
    item = json.loads(stac_item.write_stac_item(folder).read_text())
    function = item["properties"]["mlm:input"][0]["pre_processing_function"]
    assert "standard deviation of the chip" in function["description"]
    assert item_faults(item) == []


@pytest.mark.exhaustive
def test_a_bundle_without_calibration_has_probabilities_only(run, root, tmp_path):
    replace(Bundle.load(run), calibrator=None).save(tmp_path / "bundle")
    folder = export_bundle(tmp_path / "bundle", "onnx", whole=True, side=32).folder
    paths = sorted((root / "chips/val").rglob("*.png"))[:4]
    (probabilities,) = run_graph(folder, paths)
    columns = [f"p_{name}" for name in Bundle.load(run).classes]
    table = predictions(tmp_path / "bundle", paths, tmp_path / "out.csv")
    np.testing.assert_allclose(probabilities, table[columns].to_numpy(), atol=1e-4)


@needs_plugin("exports")
def test_the_command_and_what_it_refuses(rsft, run, root, tmp_path):
    code, printed = rsft(
        "export",
        run,
        "--format",
        "onnx",
        "--whole",
        "--size",
        48,
        "-o",
        tmp_path / "out",
    )
    assert (
        code == 0
        and "the graph takes chips of 48 x 48 pixels in uint8, with the bands gray"
        in printed
    )
    assert (
        "probabilities differ from those of rsft predict by" in printed
        and "chips of noise" in printed
    )
    code, printed = rsft(
        "predict",
        run,
        root / "chips/val",
        "-o",
        "out.csv",
        "--engine",
        tmp_path / "out",
    )
    assert code == 2 and "for programs without rsft" in printed
    for options, message in {
        (
            "--format",
            "onnx",
            "--whole",
        ): "takes chips of any size, but a graph takes chips of one size",
        (
            "--format",
            "openvino",
            "--whole",
            "--size",
            32,
        ): "openvino cannot hold the whole pipeline",
        (
            "--format",
            "onnx",
            "--whole",
            "--precision",
            "int8",
        ): "a whole pipeline is not written in int8",
        ("--format", "onnx", "--size", 32): "--unit and --size only work with --whole",
        (
            "--format",
            "onnx",
            "--whole",
            "--size",
            32,
            "--unit",
            "db",
        ): "db pixels, but the model takes uint8",
    }.items():
        code, printed = rsft("export", run, "-o", tmp_path / "wrong", *options)
        assert code in (1, 2) and message in printed, printed
    assert not (tmp_path / "wrong").exists()


@pytest.mark.exhaustive
def test_a_graph_that_differs_is_not_written(run, tmp_path, monkeypatch):
    monkeypatch.setattr(
        whole.ByteResize, "forward", lambda self, images: images.flip(3)
    )
    with pytest.raises(WeightsError, match=mentions("differs from rsft predict")):
        export_bundle(run, "onnx", output_dir=tmp_path / "out", whole=True, side=32)
    assert not (tmp_path / "out").exists()


@pytest.mark.exhaustive
def test_a_crop_gives_the_size(run, tmp_path):
    bundle = Bundle.load(run)
    replace(bundle, contract=bundle.contract.model_copy(update={"crop": 24})).save(
        tmp_path / "bundle"
    )
    result = export_bundle(tmp_path / "bundle", "onnx", whole=True)
    assert result.metadata["whole"]["side"] == 24
    with pytest.raises(RequestError, match=mentions("20 pixels", "middle 24")):
        export_bundle(
            tmp_path / "bundle",
            "onnx",
            output_dir=tmp_path / "out",
            whole=True,
            side=20,
        )
