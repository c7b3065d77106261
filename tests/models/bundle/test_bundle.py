"""Save, load and find bundles; refuse altered ones."""

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import save as save_arrays
from safetensors.torch import save_file

import rsft
from rsft.data.imagery.stretch import IDENTITY_STRETCH
from rsft.errors import RequestError, WeightsError
from rsft.models.bundle.bundle import (
    Bundle,
    TensorFile,
    describe_restrictions,
    find_altered_files,
    find_bundle,
    index_digest,
    read_licenses,
    source_license,
)
from tests.helpers.messages import mentions


@pytest.fixture
def copy(run, tmp_path):
    return shutil.copytree(run / "bundle", tmp_path / "bundle")


def refused(folder, message, error=WeightsError):
    """Assert that a bundle cannot be loaded."""
    with pytest.raises(error, match=message):
        Bundle.load(folder)


def test_round_trip(copy, tmp_path):
    bundle = Bundle.load(copy)
    assert bundle.save(tmp_path / "again") == bundle.sha256
    again = Bundle.load(tmp_path / "again")
    assert (again.classes, again.contract, again.recipe) == (
        bundle.classes,
        bundle.contract,
        bundle.recipe,
    )
    assert all(
        torch.equal(again.tensors[key], bundle.tensors[key]) for key in bundle.tensors
    )
    for key, value in bundle.calibrator.tensors().items():
        np.testing.assert_array_equal(again.calibrator.tensors()[key], value)


def test_bundle_without_calibrator(copy, tmp_path):
    replace(Bundle.load(copy), calibrator=None).save(tmp_path / "plain")
    assert Bundle.load(tmp_path / "plain").calibrator is None
    assert not (tmp_path / "plain" / "confidence.safetensors").exists()


def test_contents_of_a_bundle(copy):
    bundle = Bundle.load(copy)
    assert bundle.classes == ("flat", "slanted", "steep")
    assert bundle.train_counts == (24, 4, 12)
    assert bundle.group_indices == {"head": [0], "medium": [], "tail": [1, 2]}
    assert bundle.contract.bands == ("gray",) and bundle.contract.units == {
        "uint8": (IDENTITY_STRETCH,) * 3
    }
    assert sum(path.stat().st_size for path in copy.iterdir()) < 1_000_000


def flip_last_bit(path):
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


@pytest.mark.parametrize(
    "name", ["weights.safetensors", "recipe.yaml", "confidence.safetensors"]
)
@pytest.mark.parametrize(
    "damage",
    [
        flip_last_bit,
        lambda path: path.unlink(),
        lambda path: path.write_bytes(path.read_bytes()[:100]),
    ],
)
def test_altered_file(copy, name, damage):
    damage(copy / name)
    refused(copy, mentions(name, "missing or altered"))


def test_file_that_does_not_belong_to_the_bundle(copy):
    (copy / ".DS_Store").touch()
    Bundle.load(copy)
    (copy / "weights.pkl").touch()
    refused(copy, mentions("weights.pkl", "not belong"))


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "{}", '{"format": 2}', "[" * 5000, '{"a":' * 200 + "1" + "}" * 200],
)
def test_damaged_index(copy, text):
    (copy / "bundle.json").write_text(text)
    refused(copy, "damaged")


def read_index(bundle):
    return json.loads((bundle / "bundle.json").read_text())


def edit(copy, **changes):
    index = read_index(copy) | changes
    (copy / "bundle.json").write_text(json.dumps(index, indent=1))
    return index


def edit_with_hash(copy, **changes):
    """Edit the index and its hash."""
    edit(copy, sha256=index_digest(edit(copy, **changes)))


def replace_file(copy, name, content):
    """Replace a file of a bundle, its hash, and the hash of the index."""
    (copy / name).write_bytes(content)
    edit_with_hash(
        copy,
        files=read_index(copy)["files"] | {name: hashlib.sha256(content).hexdigest()},
    )


def test_unknown_format(copy):
    edit(copy, format=99)
    refused(copy, mentions("format 99", "reads format 3", "use rsft"))


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": ["steep", "slanted", "flat"]},
        {"metrics": {}},
        {"more": 1},
        {"sha256": "0" * 64},
    ],
)
def test_edited_index(copy, changes):
    edit(copy, **changes)
    refused(copy, r"bundle\.json was edited")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ["flat", "flat", "steep"]}, "each class needs one name"),
        ({"train_counts": [24, 4]}, "one count"),
        ({"groups": {"head": ["ghost"]}}, "a group names an unknown class"),
        ({"files": {"../recipe.yaml": "0"}}, "the files of a bundle are"),
        ({"more": 1}, "more: Extra inputs"),
        ({"contract": {"planes": []}}, r"contract\.units: Field required"),
    ],
)
def test_invalid_index_with_a_valid_hash(copy, changes, message):
    edit_with_hash(copy, **changes)
    refused(copy, message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 30_000}, r"contract\.size: .* 4096"),
        ({"size": 0}, r"contract\.size: .* 1"),
        ({"size": -5}, r"contract\.size: .* 1"),
        ({"crop": 0}, r"contract\.crop: .* 1"),
        ({"crop": -96}, r"contract\.crop: .* 1"),
        ({"crop": 10**6}, r"contract\.crop: .* 8192"),
        ({"side": 10**6}, r"contract\.side: .* 8192"),
        ({"mean": [0.5, 0.5]}, "entries for"),
        ({"planes": ["*".join(["gray"] * 3000)] * 3}, r"contract\.planes\.0: .* 500"),
        ({"std": [0.0] * 3}, r"contract\.std\.0: .* 0"),
        ({"planes": []}, r"contract\.planes: .* 1"),
    ],
)
def test_contract_with_numbers_beyond_its_limits(copy, changes, message):
    edit_with_hash(copy, contract=read_index(copy)["contract"] | changes)
    refused(copy, message)


def test_invalid_tensors_with_a_valid_hash(copy):
    replace_file(copy, "confidence.safetensors", save_arrays({"x": np.zeros(2)}))
    refused(copy, r"cannot be read: .*(means|temperature|scores)")
    replace_file(copy, "weights.safetensors", b"no tensors")
    refused(copy, r"cannot be read: .*header")


def test_tensors_of_several_runs_have_the_number_of_their_run(copy):
    for number in ("x", "9" * 5000):
        replace_file(
            copy,
            "weights.safetensors",
            save_arrays({f"runs.{number}.head": np.zeros(2)}),
        )
        refused(copy, mentions("no number"))


def test_hash_depends_on_the_contents(copy, tmp_path):
    bundle = Bundle.load(copy)
    index = read_index(copy)
    assert bundle.sha256 == index["sha256"] == index_digest(index)
    other = replace(bundle, classes=("a", "b", "c"), groups={})
    assert other.save(tmp_path / "other") != bundle.sha256


def test_stored_metrics(copy, run):
    metrics = Bundle.load(copy).metrics
    assert (metrics["split"], metrics["chips"]) == ("val", 18)
    rows = pd.read_csv(run / "metrics.csv")
    assert metrics["macro"]["value"] == pytest.approx(
        rows["val_macro"].iloc[-1], abs=1e-4
    )
    assert (
        metrics["tail"]["low"] <= metrics["tail"]["value"] <= metrics["tail"]["high"]
        and "medium" not in metrics
    )


FRESH = """
import sys, rsft
table = rsft.load_bundle(sys.argv[1], device="cpu").predict(sys.argv[2])
print(table[["p_flat", "p_slanted", "p_steep"]].round(5).to_json(orient="values"))
"""


@pytest.mark.slow
def test_prediction_in_another_process_without_the_training_data(copy, root, tmp_path):
    """The chip store of the recipe does not exist."""
    chips = shutil.copytree(root / "chips/val", tmp_path / "chips")
    recipe = (
        (copy / "recipe.yaml").read_text().replace(str(root), str(tmp_path / "gone"))
    )
    replace_file(copy, "recipe.yaml", recipe.encode())
    local = rsft.load_bundle(copy, device="cpu").predict(chips)
    assert (
        Bundle.load(copy).recipe.data.root == str(tmp_path / "gone")
        and len(local) == 18
    )
    command = [sys.executable, "-c", FRESH, copy, chips]
    remote = json.loads(subprocess.check_output(command, cwd=tmp_path, text=True))
    assert np.array(remote) == pytest.approx(
        local[["p_flat", "p_slanted", "p_steep"]].to_numpy(), abs=1e-5
    )


def test_bundle_is_found_by_run_and_recipe_folder(run):
    assert (
        find_bundle(run)
        == find_bundle(run.parent)
        == find_bundle(run / "bundle")
        == run / "bundle"
    )


def test_newest_finished_run_is_used(copy, tmp_path):
    for number in ("9", "10"):
        shutil.copytree(copy, tmp_path / "runs" / number / "bundle")
    (tmp_path / "runs" / "11").mkdir()
    assert find_bundle(tmp_path / "runs") == tmp_path / "runs" / "10" / "bundle"


def test_no_bundle(tmp_path):
    for path in (tmp_path, tmp_path / "absent"):
        refused(path, "no bundle", RequestError)


def test_files_have_equal_permissions(copy, tmp_path):
    Bundle.load(copy).save(tmp_path / "again")
    assert len({path.stat().st_mode for path in (tmp_path / "again").iterdir()}) == 1


SATMAE = source_license("backbone", "satmae", "unknown; the code is CC-BY-NC-4.0")
DOTA = source_license("data", "DOTA", "academic use only, non-commercial")
FREE = source_license("backbone", "simship", "MIT")
UNKNOWN = source_license("data", "bars", "unknown")


def test_a_run_records_the_licenses_of_backbone_and_data(run):
    expected = (
        source_license("backbone", "vit_tiny_patch8_64.simship", "MIT"),
        UNKNOWN,
    )
    assert read_licenses(run) == Bundle.load(run).licenses == expected
    assert [entry.restrictions for entry in expected] == [(), ("unknown",)]


def test_licenses_survive_saving(run, tmp_path):
    replace(Bundle.load(run), licenses=(SATMAE, DOTA)).save(tmp_path / "bundle")
    assert (
        read_licenses(tmp_path / "bundle")
        == Bundle.load(tmp_path / "bundle").licenses
        == (SATMAE, DOTA)
    )
    index = read_index(tmp_path / "bundle")
    assert index["format"] == 3 and index["licenses"][0] == {
        "source": "backbone",
        "name": "satmae",
        "license": "unknown; the code is CC-BY-NC-4.0",
        "restrictions": ["non-commercial", "unknown"],
    }


def test_only_stated_restrictions_are_a_warning():
    assert describe_restrictions([FREE, UNKNOWN]) == ""
    assert (
        describe_restrictions([SATMAE, DOTA])
        == "licenses restrict the use of this bundle: non-commercial (backbone satmae);"
        " non-commercial, research-only (data DOTA)"
    )


@pytest.fixture
def path(tmp_path):
    """A file with two tensors, one of them in bfloat16."""
    path = tmp_path / "weights.safetensors"
    save_file({"a": torch.ones(2, dtype=torch.bfloat16), "b": torch.zeros(3)}, path)
    return path


def test_it_is_a_dictionary(path):
    tensors = TensorFile(path)
    assert sorted(tensors) == ["a", "b"] and len(tensors) == 2
    assert tensors["a"].dtype == torch.bfloat16 and "c" not in tensors
    tensors["c"] = torch.ones(1)
    del tensors["b"]
    assert sorted(tensors) == ["a", "c"] and sorted(tensors | {"d": torch.ones(1)}) == [
        "a",
        "c",
        "d",
    ]
    assert sorted(TensorFile(path)) == ["a", "b"]


def test_a_replaced_or_removed_file_is_an_error(path):
    first = TensorFile(path)
    second = TensorFile(path)
    save_file({"a": torch.zeros(4)}, path)
    with pytest.raises(WeightsError, match=mentions("replaced")):
        first["a"]
    path.unlink()
    with pytest.raises(WeightsError, match="cannot be read"):
        second["a"]


def test_files_that_are_not_those_of_the_index(tmp_path):
    for name in ("same", "changed", "foreign", ".hidden", "bundle.json"):
        (tmp_path / name).write_bytes(b"1")
    digest = hashlib.sha256(b"1").hexdigest()
    files = {"same": digest, "changed": "0" * 64, "absent": digest}
    assert find_altered_files(tmp_path, SimpleNamespace(files=files)) == [
        "changed is missing or altered",
        "absent is missing or altered",
        "foreign does not belong to the bundle",
    ]
