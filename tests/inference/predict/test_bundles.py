"""Several bundles on the same chips."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from rsft.errors import RequestError
from rsft.inference.options import PredictionRequest
from rsft.inference.predict.batch_journal import BatchJournal
from rsft.inference.predict.bundles import (
    check_compatible,
    output_paths,
    predict_bundles,
)
from rsft.inference.predict.job import predict
from rsft.models.bundle.bundle import Bundle
from rsft.recipe.schema import EvaluateSection
from tests.helpers.plugins import needs_plugin
from tests.helpers.tiny_bundles import perturbed_copy


@pytest.fixture(scope="module")
def other(run, tmp_path_factory):
    """Save a second bundle of the same recipe."""
    folder = tmp_path_factory.mktemp("other") / "bundle"
    perturbed_copy(Bundle.load(run)).save(folder)
    return folder


@pytest.mark.slow
def test_tables_equal_those_of_single_bundles(rsft, run, other, root, tmp_path):
    chips = root / "chips/val"
    code, printed = rsft(
        "predict", run, chips, "-o", "out.csv", "--also", other, "--device", "cpu"
    )
    assert code == 0 and printed.count("18 chips classified") == 2
    assert printed.count("engine: torch fp32") == 2
    request = PredictionRequest(engine="torch", device="cpu")
    for folder, name in ((run, "out.csv"), (other, "out.bars.csv")):
        alone = predict(folder, [chips], tmp_path / f"alone.{name}", request).table
        table = pd.read_csv(tmp_path / name)
        assert table["class"].tolist() == alone["class"].tolist()
        np.testing.assert_allclose(table["p_flat"], alone["p_flat"], atol=1e-5)
    assert not list(Path.cwd().glob(".*journal"))


@pytest.mark.slow
def test_resume_in_the_second_bundle(run, other, root, tmp_path, monkeypatch):
    chips = root / "chips/val"
    calls = []

    def stop(*arguments):
        calls.append(arguments)
        if len(calls) == 5:  # the second of three batches of the second bundle
            raise KeyboardInterrupt
        record(*arguments)

    record = BatchJournal.record
    request = PredictionRequest(device="cpu", batch_size=6)
    with monkeypatch.context() as patched:
        patched.setattr(BatchJournal, "record", stop)
        with pytest.raises(KeyboardInterrupt):
            predict_bundles([run, other], [chips], tmp_path / "out.csv", request)
    assert len(list(tmp_path.glob(".*.journal"))) == 2
    results = predict_bundles([run, other], [chips], tmp_path / "out.csv", request)
    assert [len(result.table) for result in results] == [18, 18] and not list(
        tmp_path.glob(".*")
    )


@pytest.mark.slow
def test_call_that_was_killed_between_the_deletions_of_its_journals(
    run, other, root, tmp_path, monkeypatch
):
    chips = root / "chips/val"
    request = PredictionRequest(device="cpu")
    close = BatchJournal.close

    def close_only_the_second(journal, finished):
        close(journal, finished and "bars" in journal.path.name)

    with monkeypatch.context() as patched:
        patched.setattr(BatchJournal, "close", close_only_the_second)
        before = predict_bundles([run, other], [chips], tmp_path / "out.csv", request)
    assert [path.name for path in tmp_path.glob(".*")] == [".out.csv.journal"]
    results = predict_bundles([run, other], [chips], tmp_path / "out.csv", request)
    assert not list(tmp_path.glob(".*"))
    for first, second in zip(before, results, strict=True):
        pd.testing.assert_frame_equal(first.table, second.table)
    with pytest.raises(RequestError, match="already"):
        predict_bundles([run, other], [chips], tmp_path / "out.csv", request)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--engine", "onnx"], "by PyTorch in float32"),
        (["--html", "page.html"], "are for one bundle"),
    ],
)
def test_refused(rsft, run, other, root, tmp_path, options, message):
    code, printed = rsft(
        "predict", run, root, "-o", "out.csv", "--also", other, *options
    )
    assert code == 2 and message in printed and not list(tmp_path.iterdir())


@pytest.mark.slow
def test_incompatible_bundles(run):
    bundle = Bundle.load(run)
    contract = bundle.contract.model_copy(update={"crop": 8, "size": 64})
    recipe = bundle.recipe.model_copy(
        update={"evaluate": EvaluateSection(tta="five-crop")}
    )
    others = {
        "have different backbones: vit_tiny_patch8_64.simship": replace(
            bundle, backbone_sha256="0" * 64
        ),
        "their contracts differ in crop, size": replace(bundle, contract=contract),
        "test-time views": replace(bundle, recipe=recipe),
    }
    for message, other in others.items():
        with pytest.raises(RequestError, match=message) as caught:
            check_compatible(bundle, other)
        assert str(caught.value).count("bars (") == 2


def test_names_of_tables():
    bundles = [
        SimpleNamespace(recipe=SimpleNamespace(name=name))
        for name in ("a", "a", "b", "b")
    ]
    paths = output_paths(Path("x/out.gpkg"), bundles)
    assert [path.name for path in paths] == [
        "out.gpkg",
        "out.a.gpkg",
        "out.b.gpkg",
        "out.b-2.gpkg",
    ]
    assert {path.parent for path in paths} == {Path("x")}


@needs_plugin("annotation_formats")
def test_a_suffix_of_two_parts_follows_the_name():
    bundles = [SimpleNamespace(recipe=SimpleNamespace(name="a"))] * 2
    assert output_paths(Path("out.coco.json"), bundles)[1].name == "out.a.coco.json"
