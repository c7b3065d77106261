"""Commands that describe and publish bundles and chip stores."""

import json
import shutil

import pytest

from rsft.plugins.publishing import hub


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
    code, printed = rsft("bundle", "card", run, "-o", card)
    assert code == 0 and str(card) in printed and card.read_text().startswith("---")
    assert (
        rsft("bundle", "stac", run, "-o", item)[0]
        == rsft("bundle", "card", run, "-o", card)[0]
        == 2
    )
    assert rsft("bundle", "card", run, "-o", card, "--overwrite")[0] == 0


@pytest.mark.slow
def test_push_lists_the_files_and_asks(rsft, run, tmp_path, monkeypatch):
    uploads = []
    questions = []
    monkeypatch.setattr(
        hub,
        "upload_hub_folder",
        lambda folder, name, public: uploads.append((name, public)),
    )
    monkeypatch.setattr("typer.confirm", lambda text: questions.append(text))
    code, printed = rsft("bundle", "push", run, "analyst/bars")
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


@pytest.mark.slow
def test_croissant(rsft, root, tmp_path):
    store = shutil.copytree(root, tmp_path / "store")
    code, printed = rsft(
        "data",
        "croissant",
        store,
        "--creator",
        "Example Lab",
        "--published",
        "2026-11-27",
    )
    assert code == 0 and printed.split()[:1] == ["croissant"]
    written = json.loads((store / "croissant.json").read_text("utf-8"))
    assert (
        written["datePublished"] == "2026-11-27"
        and written["creator"]["name"] == "Example Lab"
    )
    code, printed = rsft("data", "croissant", store)
    assert code == 2 and "the file exists already" in printed
    code, printed = rsft(
        "data", "croissant", store, "--published", "27.11.2026", "--overwrite"
    )
    assert (
        code == 2
        and json.loads((store / "croissant.json").read_text("utf-8")) == written
    )
    options = (
        "--url",
        "https://example.com",
        "--creator",
        "x",
        "--published",
        "2026-11-27",
        "--overwrite",
    )
    code, printed = rsft("data", "croissant", store, *options)
    assert code == 0
