"""The file export.json, and the files that it names."""

import json

import pytest

from rsft.errors import RequestError, WeightsError
from rsft.inference.engines.export_metadata import (
    METADATA_FORMAT,
    export_folder,
    read_export_metadata,
    write_export_metadata,
)
from tests.helpers.messages import mentions


@pytest.fixture
def export(tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "model.onnx").write_bytes(b"graph")
    (tmp_path / "parts/weights.bin").write_bytes(b"weights")
    write_export_metadata(tmp_path, {"format": METADATA_FORMAT, "kind": "onnx"})
    return tmp_path


def test_files_are_named_with_their_hashes(export):
    metadata = read_export_metadata(export)
    assert list(metadata["files"]) == ["model.onnx", "parts/weights.bin"]
    assert metadata["kind"] == "onnx" and len(metadata["files"]["model.onnx"]) == 64


@pytest.mark.parametrize("name", ["model.onnx", "parts/weights.bin"])
def test_altered_and_missing_files(export, name):
    (export / name).write_bytes(b"other")
    with pytest.raises(WeightsError, match=mentions(name, "altered")):
        read_export_metadata(export)
    (export / name).unlink()
    with pytest.raises(WeightsError, match=mentions(name, "missing")):
        read_export_metadata(export)


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"format": 1}', '{"format": 1, "files": ["a"]}']
)
def test_damaged_metadata(export, text):
    (export / "export.json").write_text(text)
    with pytest.raises(WeightsError, match=mentions("damaged", "export again")):
        read_export_metadata(export)


def test_other_folders_and_versions(export, tmp_path):
    content = json.loads((export / "export.json").read_text())
    (export / "export.json").write_text(json.dumps(content | {"format": 2}))
    with pytest.raises(WeightsError, match=mentions("export format 2", "reads 1")):
        read_export_metadata(export)
    content["files"] = {"a\0b": "x"}
    (export / "export.json").write_text(json.dumps(content))
    with pytest.raises(WeightsError, match="altered"):
        read_export_metadata(export)
    (export / "export.json").unlink()
    with pytest.raises(RequestError, match=mentions("not an export", "rsft export")):
        read_export_metadata(export)


def test_an_export_lies_beside_its_bundle(tmp_path):
    (tmp_path / "run/bundle").mkdir(parents=True)
    (tmp_path / "run/bundle/bundle.json").write_text("{}")
    for folder in (tmp_path / "run", tmp_path / "run/bundle"):
        assert export_folder(folder, "onnx-fp32") == tmp_path / "run/exports/onnx-fp32"
