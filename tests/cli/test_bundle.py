"""Commands of `rsft bundle` as a user types them."""

import json
import shutil

import pytest

from rsft.models.bundle.bundle import Bundle


def test_show(rsft, run):
    code, printed = rsft("bundle", "show", run)
    assert (
        code == 0
        and "the whole chip (most training chips have 32 x 32 pixels)" in printed
    )
    digest = Bundle.load(run).sha256
    assert digest in printed and "% on 18 chips of val" in printed
    rows = [line.split() for line in printed.splitlines()]
    assert ["license,", "backbone", "vit_tiny_patch8_64.simship:", "MIT"] in rows
    assert ["license,", "data", "bars:", "unknown"] in rows
    assert ["slanted", "tail", "4"] in rows and [
        "block",
        "q",
        "k",
        "v",
        "out",
        "mlp1",
        "mlp2",
    ] in rows
    code, printed = rsft("bundle", "show", run, "--json")
    assert code == 0 and json.loads(printed)["sha256"] == digest
    assert json.loads(printed)["licenses"] == [
        {
            "source": "backbone",
            "name": "vit_tiny_patch8_64.simship",
            "license": "MIT",
            "restrictions": [],
        },
        {
            "source": "data",
            "name": "bars",
            "license": "unknown",
            "restrictions": ["unknown"],
        },
    ]


@pytest.mark.slow
def test_verify(rsft, run, tmp_path):
    digest = Bundle.load(run).sha256
    code, printed = rsft("bundle", "verify", run, "--sha256", digest)
    assert code == 0 and printed.count("ok     ") == 5 and f"sha256 {digest}" in printed
    assert rsft("bundle", "verify", run, "--sha256", "beef")[0] == 1
    folder = shutil.copytree(run / "bundle", tmp_path / "bundle")
    (folder / "notes.txt").touch()
    (folder / "recipe.yaml").write_text("seed: 1")
    code, printed = rsft("bundle", "verify", folder)
    assert (
        code == 1
        and "fault  recipe.yaml is missing" in printed
        and "fault  notes.txt does not" in printed
    )
    code, printed = rsft("bundle", "verify", folder, "--json")
    assert code == 1 and len(json.loads(printed)["faults"]) == 2
    assert rsft("bundle", "verify", tmp_path / "nowhere")[0] == 2


@pytest.mark.slow
def test_diff(rsft, run, tmp_path):
    assert rsft("bundle", "diff", run, run)[1].strip() == "the bundles are identical"
    bundle = Bundle.load(run)
    tensors = {key: tensor + 1 for key, tensor in bundle.tensors.items()}
    other = tmp_path / "other"
    type(bundle)(
        **(vars(bundle) | {"tensors": tensors, "train_counts": (24, 4, 13)})
    ).save(other)
    code, printed = rsft("bundle", "diff", run, other)
    rows = [line.split() for line in printed.splitlines()]
    assert code == 0 and ["training", "chips", "of", "steep", "12", "13"] in rows
    assert ["gamma", "1", "0", "0", "1"] in [row[:5] for row in rows]
    assert json.loads(rsft("bundle", "diff", run, other, "--json")[1])["classes"] == {
        "steep": [12, 13]
    }


@pytest.mark.slow
def test_stac_and_card(rsft, run, tmp_path):
    item = tmp_path / "item.json"
    card = tmp_path / "card.md"
    code, printed = rsft("bundle", "stac", run, "-o", item)
    assert (
        code == 0
        and str(item) in printed
        and json.loads(item.read_text())["stac_version"] == "1.1.0"
    )
    code, printed = rsft(
        "bundle", "card", run, "-o", card, "--repository", "analyst/bars"
    )
    assert (
        code == 0
        and str(card) in printed
        and "hf download analyst/bars" in card.read_text()
    )
    assert (
        rsft("bundle", "stac", run, "-o", item)[0]
        == rsft("bundle", "card", run, "-o", card)[0]
        == 2
    )
    assert rsft("bundle", "card", run, "-o", card, "--overwrite")[0] == 0


@pytest.mark.slow
def test_push_lists_the_files_and_asks(rsft, run, tmp_path, monkeypatch):
    from rsft.plugins.publishing import hub

    uploads = []
    questions = []
    monkeypatch.setattr(
        hub,
        "upload_hub_folder",
        lambda folder, name, public: uploads.append((name, public)),
    )
    monkeypatch.setattr("typer.confirm", lambda text: questions.append(text))
    code, printed = rsft("bundle", "push", run, "analyst/bars", "--item")
    assert (
        code == 0
        and not uploads
        and "bundle/weights.safetensors" in printed
        and "item.json" in printed
    )
    assert questions == ["upload these files to the private repository analyst/bars?"]
    assert (
        "note: recipe.yaml of the bundle names paths of this machine: data.root /"
        in printed
    )
    assert rsft("bundle", "push", run, "analyst/bars", "--yes", "--public")[0] == 0
    assert uploads == [("analyst/bars", True)] and len(questions) == 1


@pytest.mark.slow
def test_push_to_a_folder(rsft, run, root, tmp_path, monkeypatch):
    from rsft.plugins.publishing import hub

    monkeypatch.setattr(hub, "upload_hub_folder", None)
    code, printed = rsft(
        "bundle", "push", run, "analyst/bars", "--out", tmp_path / "hub"
    )
    assert (
        code == 0
        and "README.md" in printed
        and (tmp_path / "hub/bundle/bundle.json").is_file()
    )
    assert rsft("bundle", "verify", tmp_path / "hub")[0] == 0
    chips = root / "chips/val/flat"
    assert rsft("predict", tmp_path / "hub", chips, "-o", "hub.csv")[0] == 0
    assert rsft("predict", run, chips, "-o", "run.csv")[0] == 0
    assert (tmp_path / "hub.csv").read_text() == (tmp_path / "run.csv").read_text()
    assert rsft("bundle", "push", run, "bars", "--out", tmp_path / "other")[0] == 2
