"""Verify bundles."""

from dataclasses import replace

import pytest
import torch

from rsft.models.bundle.bundle import Bundle
from rsft.models.inspection.verify import build_meta_classifier, verify_bundle
from rsft.models.loading import load_unmerged_classifier


def save_changed(copy, **changes):
    """Save the bundle with changed contents and valid hashes, and verify it."""
    replace(Bundle.load(copy), **changes).save(copy)
    return verify_bundle(copy)


def test_intact_bundle(run):
    report = verify_bundle(run)
    assert not report.faults and report.sha256 == Bundle.load(run).sha256
    assert [words.split(" ")[0] for words in report.sound] == [
        "format",
        "3",
        "38",
        "backbone",
    ]


@pytest.mark.slow
def test_expected_hash(run):
    digest = Bundle.load(run).sha256
    for expected_hash in (digest, digest[:12].upper()):
        assert not verify_bundle(run, expected_hash).faults
    assert verify_bundle(run, "beef").faults == [f"its hash is {digest}, not beef"]
    assert len(verify_bundle(run, "").faults) == 1


def test_all_faulty_files_are_reported(copy):
    (copy / "recipe.yaml").unlink()
    (copy / "weights.safetensors").write_bytes(b"")
    (copy / "notes.txt").touch()
    assert verify_bundle(copy).faults == [
        "recipe.yaml is missing or altered",
        "weights.safetensors is missing or altered",
        "notes.txt does not belong to the bundle",
    ]


def test_edited_index(copy):
    text = (copy / "bundle.json").read_text()
    (copy / "bundle.json").write_text(text.replace('"steep"', '"steeper"'))
    report = verify_bundle(copy)
    assert report.sha256 == "" and report.faults[0].startswith("bundle.json was edited")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda t: t.pop("gamma"), "do not fit the network, such as gamma"),
        (
            lambda t: t.pop("blocks.0.q.a"),
            "do not fit the network, such as blocks.0.q.a",
        ),
        (
            lambda t: t.update({"blocks.9.q.a": torch.ones(2)}),
            "do not fit the network, such as blocks.9.q.a",
        ),
        (
            lambda t: t.update({"blocks.0.q.a": torch.ones(3, 5)}),
            "do not fit the network, such as blocks.0.q.a",
        ),
        (
            lambda t: t["blocks.0.q.a"].fill_(float("nan")),
            "blocks.0.q.a contains values that are not finite",
        ),
        (
            lambda t: t["gamma"].fill_(float("inf")),
            "gamma contains values that are not finite",
        ),
    ],
)
def test_tensors_that_contradict_the_recipe(copy, change, fault):
    tensors = {key: tensor.clone() for key, tensor in Bundle.load(copy).tensors.items()}
    change(tensors)
    (message,) = save_changed(copy, tensors=tensors).faults
    assert fault in message


@pytest.mark.slow
def test_pruned_site_needs_no_tensors(copy):
    tensors = {key: tensor.clone() for key, tensor in Bundle.load(copy).tensors.items()}
    tensors["gamma"][0] = float("-inf")
    assert not save_changed(copy, tensors=tensors).faults
    for name in ("blocks.0.q.a", "blocks.0.q.b"):
        del tensors[name]
    assert not save_changed(copy, tensors=tensors).faults
    del tensors["blocks.0.k.a"]
    (fault,) = save_changed(copy, tensors=tensors).faults
    assert "such as blocks.0.k.a" in fault


@pytest.mark.slow
def test_damaged_member_of_an_ensemble(copy):
    bundle = Bundle.load(copy)
    both = {
        f"runs.{number}.{key}": tensor.clone()
        for number in (0, 1)
        for key, tensor in bundle.tensors.items()
    }
    assert not save_changed(copy, tensors=both).faults
    both["runs.1.gamma"].fill_(float("nan"))
    assert save_changed(copy, tensors=both).faults == [
        "run 2: gamma contains values that are not finite"
    ]


def test_other_backbone(copy):
    (fault,) = save_changed(copy, backbone_sha256="0" * 64).faults
    assert (
        fault.startswith("backbone vit_tiny_patch8_64.simship has the hash ")
        and "0000 as in training" in fault
    )


def test_missing_backbone_weights(copy, monkeypatch, tmp_path):
    monkeypatch.setenv("RSFT_WEIGHTS", str(tmp_path / "empty"))
    bundle = Bundle.load(copy)
    peft = bundle.recipe.peft.model_copy(update={"blocks": "last:1"})
    backbone = bundle.recipe.backbone.model_copy(
        update={"name": "vit_tiny_patch16_224.augreg_in21k", "blocks": None}
    )
    faults = save_changed(
        copy,
        recipe=bundle.recipe.model_copy(update={"backbone": backbone, "peft": peft}),
    ).faults
    assert "do not fit the network, such as blocks.0" in faults[0]
    assert "rsft weights get vit_tiny_patch16_224.augreg_in21k" in faults[-1]


def test_the_meta_classifier_has_the_shapes_of_the_real_one(run):
    bundle = Bundle.load(run)
    expected = load_unmerged_classifier(bundle, "cpu")
    model = build_meta_classifier(bundle)
    assert [
        (name, parameter.shape, parameter.requires_grad)
        for name, parameter in model.named_parameters()
    ] == [
        (name, parameter.shape, parameter.requires_grad)
        for name, parameter in expected.named_parameters()
    ]
