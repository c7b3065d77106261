"""The method `hf` in recipes, runs, bundles and exports."""

import hashlib
import json
import os
import signal
from dataclasses import replace
from importlib.metadata import distribution

import pandas as pd
import pytest
import torch

from rsft.errors import Interrupted, RecipeError, RequestError
from rsft.inference.export.export import export_bundle
from rsft.models.bundle.bundle import Bundle
from rsft.models.loading import load_classifier, load_unmerged_classifier
from rsft.peft.methods.registry import method_from_dict, method_to_dict
from rsft.plugins.huggingface.method import HuggingFaceMethod
from rsft.recipe.load import load_recipe
from rsft.training.finetune import finetune
from rsft.training.listeners import RunListener
from rsft.training.runs.reader import TIMING_COLUMNS
from tests.helpers.messages import mentions
from tests.helpers.plugins import needs_plugin
from tests.helpers.tiny_bundles import timm_bundle

pytestmark = [needs_plugin("huggingface"), pytest.mark.slow]
pytest.importorskip("peft", reason="Hugging Face PEFT is not installed")

SHIRA = [
    "peft={method: hf, config: {peft_type: SHIRA, r: 2}}",  # at random indices
    "backbone.blocks=2",
    "train.checkpoint_steps=1",
    "train.ema=0.9",
]


class SignalAtStep(RunListener):
    """Sends SIGTERM to this process at the fifth step."""

    def on_step(self, step):
        if step.done == 5:
            os.kill(os.getpid(), signal.SIGTERM)


def results(run):
    tables = [
        pd.read_csv(run.folder / name) for name in ("metrics.csv", "modulator.csv")
    ]
    columns = list(TIMING_COLUMNS)
    texts = [x.drop(columns=columns, errors="ignore").to_csv() for x in tables]
    return [*texts, run.metadata["bundle_sha256"]]


@pytest.fixture(scope="module")
def finished(root, tmp_path_factory):
    from tests.helpers.bars_recipe import BARS_RECIPE

    folder = tmp_path_factory.mktemp("finished")
    (folder / "bars.yaml").write_text(BARS_RECIPE.replace("ROOT", str(root)))
    return finetune(load_recipe(folder / "bars.yaml", SHIRA), folder)


def test_a_resumed_run_equals_an_unbroken_one(recipe_file, tmp_path, finished):
    recipe = load_recipe(recipe_file, SHIRA)
    with pytest.raises(Interrupted):
        finetune(recipe, tmp_path, SignalAtStep())
    torch.manual_seed(99)
    resumed = finetune(recipe, tmp_path, resume=tmp_path / "bars/001")
    assert results(resumed) == results(finished)


def test_a_bundle_knows_the_package_and_loads(finished, caplog):
    index = json.loads((finished.bundle_dir / "bundle.json").read_text())
    version, digest = index["packages"]["peft"].split(" sha256:")
    package = distribution("peft")
    record = package.read_text("RECORD").encode()
    assert (version, digest) == (package.version, hashlib.sha256(record).hexdigest())
    assert finished.metadata["trained_parameters"] > 0
    bundle = Bundle.load(finished.bundle_dir)
    assert bundle.packages == index["packages"]
    assert "SHIRA of Hugging Face PEFT" in bundle.recipe.peft.title
    names = [name for name in bundle.tensors if "shira_indices" in name]
    assert len(names) == 8 and "blocks.0.attn.qkv.shira_indices" in names
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    merged = load_classifier(bundle, "cpu")
    unmerged = load_unmerged_classifier(bundle, "cpu")
    torch.testing.assert_close(merged(images), unmerged(images), atol=1e-4, rtol=1e-4)
    assert not merged.adapted.unmerged and not caplog.records
    other = replace(bundle, packages={"peft": f"0.1.0 sha256:{digest}"})
    load_classifier(other, "cpu")
    assert "peft 0.1.0" in caplog.text and "install peft==0.1.0" in caplog.text


def test_a_bundle_lacks_no_tensor(finished):
    bundle = Bundle.load(finished.bundle_dir)
    tensors = dict(bundle.tensors.items())
    del tensors[next(name for name in tensors if "shira_indices" in name)]
    with pytest.raises(Exception, match="do not fit"):
        load_classifier(replace(bundle, tensors=tensors), "cpu")


def test_an_export_holds_the_merged_network(finished, tmp_path):
    result = export_bundle(
        finished.bundle_dir, "torch-export", output_dir=tmp_path / "out"
    )
    assert result.metadata["checked"]["largest"] < 1e-3


@pytest.mark.parametrize("name", ["OFT", "IA3"])
def test_the_export_for_peft_is_checked_with_peft(tmp_path, name):
    section = {"method": "hf", "rank": None, "config": {"peft_type": name}}
    timm_bundle(tmp_path, peft=section).save(tmp_path / "bundle")
    result = export_bundle(tmp_path / "bundle", "peft", output_dir=tmp_path / "out")
    assert result.metadata["checked"]["largest"] < 1e-5
    config = json.loads((tmp_path / "out/adapter_config.json").read_text())
    assert config["peft_type"] == name
    readme = (tmp_path / "out/README.md").read_text()
    assert f"A {name} of Hugging Face PEFT adapter" in readme


def test_learned_scales_have_no_place_in_files_of_peft(tmp_path):
    section = {"method": "hf", "rank": None}
    bundle = timm_bundle(tmp_path, peft=section, meta={"outer_every": 2})
    bundle.save(tmp_path / "bundle")
    with pytest.raises(RequestError, match=mentions("scale", "--format peft")):
        export_bundle(tmp_path / "bundle", "peft", output_dir=tmp_path / "out")


def test_the_configuration_is_data(recipe_file):
    method = HuggingFaceMethod({"peft_type": "OFT", "r": 4}, ["q", "k", "v"], "last:2")
    assert method_from_dict(json.loads(json.dumps(method_to_dict(method)))) == method
    recipe = load_recipe(
        recipe_file, ["peft={method: hf}", "peft.config={peft_type: DORA, r: 2}"]
    )
    assert recipe.peft.build() == HuggingFaceMethod({"peft_type": "DORA", "r": 2})
    with pytest.raises(RecipeError, match=mentions("peft.config", "peft_type: OFT")):
        load_recipe(recipe_file, ["peft={method: hf, config: 3}"])


def test_a_missing_package_is_named(recipe_file, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    recipe = load_recipe(recipe_file, SHIRA)
    with pytest.raises(RequestError, match=mentions("peft", "pip install peft")):
        finetune(recipe, tmp_path)
