"""A bundle is laid out as a repository of the Hub, rsft reads this folder, and only an
upload contacts the Hub."""

import json
import os
from types import SimpleNamespace
from unittest.mock import create_autospec

import pandas as pd
import pytest

import rsft
from rsft.errors import RequestError
from rsft.plugins.publishing.hub import (
    list_hub_files,
    upload_hub_folder,
    write_hub_folder,
)
from tests.helpers.stac_schemas import item_faults

huggingface_hub = pytest.importorskip(
    "huggingface_hub", reason="huggingface_hub is not installed"
)


@pytest.fixture
def folder(ships, tmp_path):
    return write_hub_folder(ships, tmp_path / "hub", "analyst/ships")


@pytest.fixture
def api(monkeypatch):
    """The client of the Hub, which accepts the arguments of the installed version and
    sends nothing."""
    client = create_autospec(huggingface_hub.HfApi, instance=True)
    client.repo_exists.return_value = False
    client.upload_folder.return_value = SimpleNamespace(
        commit_url="https://huggingface.co/analyst/ships/commit/1"
    )
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: client)
    return client


def test_the_layout(folder):
    names = (
        "bundle.json",
        "confidence.safetensors",
        "recipe.yaml",
        "weights.safetensors",
    )
    bundle = [f"bundle/{name}" for name in names]
    assert list(list_hub_files(folder)) == ["README.md", *bundle, "item.json"]
    item = json.loads((folder / "item.json").read_text("utf-8"))
    assert (
        item_faults(item) == []
        and item["assets"]["weights"]["href"] == "./bundle/weights.safetensors"
    )


@pytest.mark.slow
def test_rsft_predicts_with_a_download(ships, folder, chips, tmp_path):
    snapshot = tmp_path / "snapshots/1"
    blobs = tmp_path / "blobs"
    # the cache of the Hub has links to files without names
    for number, name in enumerate(list_hub_files(folder)):
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        blobs.mkdir(exist_ok=True)
        (folder / name).replace(blobs / str(number))
        (snapshot / name).symlink_to(blobs / str(number))
    expected = rsft.load_bundle(ships).predict(chips)
    pd.testing.assert_frame_equal(rsft.load_bundle(snapshot).predict(chips), expected)


def test_a_bundle_with_any_folder_name_and_a_signature(ships, tmp_path):
    bundle = (ships / "bundle").rename(tmp_path / "mine")
    for name in (".signature.json", ".signed.json"):
        (bundle / name).write_text("{}")
    (bundle / ".secret").touch()
    folder = write_hub_folder(bundle, tmp_path / "hub")
    names = set(list_hub_files(folder))
    assert names >= {"bundle/.signature.json", "bundle/.signed.json"}
    assert "bundle/.secret" not in names
    item = json.loads((folder / "item.json").read_text("utf-8"))
    assert item["assets"]["bundle"]["href"] == "./bundle/bundle.json"


def test_an_existing_folder_stays(ships, folder):
    with pytest.raises(RequestError, match="exists"):
        write_hub_folder(ships, folder)


def test_a_new_repository_is_private(folder, api, monkeypatch):
    monkeypatch.delenv("HF_HUB_DISABLE_TELEMETRY", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_TELEMETRY", False)
    assert upload_hub_folder(folder, "analyst/ships").endswith("/commit/1")
    api.create_repo.assert_called_once_with("analyst/ships", private=True)
    [call] = api.upload_folder.call_args_list
    assert (
        call.kwargs["repo_id"] == "analyst/ships"
        and call.kwargs["folder_path"] == folder
    )
    assert call.kwargs["delete_patterns"] == ["bundle/*"]
    assert (
        huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY
        and os.environ["HF_HUB_DISABLE_TELEMETRY"] == "1"
    )


def test_a_public_repository_is_requested_twice(folder, api):
    api.repo_exists.return_value = True
    api.repo_info.return_value = SimpleNamespace(private=False)
    with pytest.raises(RequestError, match="everybody"):
        upload_hub_folder(folder, "analyst/ships")
    api.upload_folder.assert_not_called()
    upload_hub_folder(folder, "analyst/ships", public=True)
    api.create_repo.assert_not_called()
    api.upload_folder.assert_called_once()


def test_a_failed_upload_is_a_sentence(folder, api):
    api.create_repo.side_effect = OSError("401 Client Error\nmore")
    with pytest.raises(RequestError, match="401 Client Error") as error:
        upload_hub_folder(folder, "analyst/ships")
    assert "hf auth login" in error.value.hint and "more" not in error.value.message


@pytest.mark.parametrize(
    "name",
    [
        "ships",
        "a/b/c",
        "../ships",
        "a/..",
        "-a/b",
        "a b/c",
        "",
        "https://huggingface.co/a",
    ],
)
def test_names_of_repositories(name, folder, api):
    with pytest.raises(RequestError, match="name of a repository"):
        upload_hub_folder(folder, name)
    assert not api.method_calls
