import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from rsft.bundle import Bundle, find_bundle
from rsft.errors import RequestError, WeightsError
from rsft.imagery.stretch import AS_IT_IS


@pytest.fixture
def copy(run, tmp_path):
    return shutil.copytree(run / "bundle", tmp_path / "bundle")


def test_round_trip(copy, tmp_path):
    bundle = Bundle.load(copy)
    assert bundle.save(tmp_path / "again") == bundle.sha256
    again = Bundle.load(tmp_path / "again")
    assert (again.classes, again.contract, again.recipe) == (bundle.classes, bundle.contract, bundle.recipe)
    assert all(torch.equal(again.tensors[key], bundle.tensors[key]) for key in bundle.tensors)
    for key, value in bundle.confidence.tensors().items():
        np.testing.assert_array_equal(again.confidence.tensors()[key], value)


def test_a_bundle_without_confidence(copy, tmp_path):
    replace(Bundle.load(copy), confidence=None).save(tmp_path / "plain")
    assert Bundle.load(tmp_path / "plain").confidence is None
    assert not (tmp_path / "plain" / "confidence.safetensors").exists()


def test_what_it_says(copy):
    bundle = Bundle.load(copy)
    assert bundle.classes == ("flat", "slanted", "steep")
    assert bundle.train_counts == (24, 4, 12)
    assert bundle.group_indices == {"head": [], "medium": [0], "tail": [1, 2]}
    assert bundle.contract.bands == ("gray",) and bundle.contract.units == {"uint8": (AS_IT_IS,) * 3}
    assert sum(path.stat().st_size for path in copy.iterdir()) < 1_000_000


@pytest.mark.parametrize("name", ["weights.safetensors", "recipe.yaml", "confidence.safetensors"])
def test_an_altered_file(copy, name):
    data = bytearray((copy / name).read_bytes())
    data[-1] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(WeightsError, match=f"{name} is missing or altered"):
        Bundle.load(copy)


def test_a_missing_file(copy):
    (copy / "weights.safetensors").unlink()
    with pytest.raises(WeightsError, match="missing"):
        Bundle.load(copy)


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_a_damaged_index(copy, text):
    (copy / "bundle.json").write_text(text)
    with pytest.raises(WeightsError, match="damaged"):
        Bundle.load(copy)


def test_another_format(copy):
    index = json.loads((copy / "bundle.json").read_text())
    (copy / "bundle.json").write_text(json.dumps(index | {"format": 99}))
    with pytest.raises(WeightsError, match="format 99"):
        Bundle.load(copy)


def test_found_from_the_run_and_from_the_recipe(run):
    assert find_bundle(run) == find_bundle(run.parent) == find_bundle(run / "bundle") == run / "bundle"


def test_the_newest_finished_run_counts(copy, tmp_path):
    for number in ("9", "10"):
        shutil.copytree(copy, tmp_path / "runs" / number / "bundle")
    (tmp_path / "runs" / "11").mkdir()
    assert find_bundle(tmp_path / "runs") == tmp_path / "runs" / "10" / "bundle"


def test_no_bundle(tmp_path):
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(RequestError, match="no bundle"):
            Bundle.load(path)


def test_everybody_may_read_it(copy, tmp_path):
    Bundle.load(copy).save(tmp_path / "again")
    assert len({path.stat().st_mode for path in (tmp_path / "again").iterdir()}) == 1
