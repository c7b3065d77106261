"""A scene is recognized by its content, wherever it lies."""

import os
import shutil

import pytest

from rsft.data.imagery.scene_uri import SceneUri
from rsft.scenes.fingerprint import allow_scene, scene_fingerprint


def fingerprint(path):
    return scene_fingerprint(SceneUri.parse(path))


def test_copies_are_equal_and_changes_differ(tmp_path):
    first = tmp_path / "a.tif"
    first.write_bytes(os.urandom(300_000))
    copy = tmp_path / "other name.tif"
    shutil.copy(first, copy)
    assert fingerprint(first) == fingerprint(copy)
    assert len(fingerprint(first)) == 32
    content = bytearray(first.read_bytes())
    for changed in (content[:-1], content + b"x", b"y" + content[1:]):
        copy.write_bytes(changed)
        assert fingerprint(copy) != fingerprint(first)
    content[-1] ^= 1
    copy.write_bytes(content)
    assert fingerprint(copy) != fingerprint(first)


@pytest.mark.parametrize("size", [0, 1, 16384, 16385])
def test_files_of_every_size(tmp_path, size):
    (tmp_path / "a").write_bytes(bytes(size))
    (tmp_path / "b").write_bytes(bytes(size + 1))
    assert fingerprint(tmp_path / "a") != fingerprint(tmp_path / "b")


def test_names_in_a_folder_count(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.tif").write_bytes(b"1")
    assert fingerprint(tmp_path / "a") == fingerprint(tmp_path / "b")
    (tmp_path / "b/x.tif").rename(tmp_path / "b/y.tif")
    assert fingerprint(tmp_path / "a") != fingerprint(tmp_path / "b")


def test_scenes_on_servers_and_missing_ones_have_none(tmp_path):
    assert fingerprint("https://127.0.0.1/a.tif") is None
    assert fingerprint(tmp_path / "missing.tif") is None


def test_only_a_scene_of_its_fingerprint_may_be_read(tmp_path, monkeypatch):
    allowed = []
    name = "rsft.scenes.fingerprint.allow_reading"
    monkeypatch.setattr(name, allowed.append)
    (tmp_path / "a.tif").write_bytes(b"scene")
    uri = SceneUri(str(tmp_path / "a.tif"))
    assert not allow_scene(uri, "0" * 32) and not allowed
    assert allow_scene(uri, scene_fingerprint(uri)) and allowed == [tmp_path]
    folder = SceneUri(str(tmp_path))
    assert allow_scene(folder, scene_fingerprint(folder))
    assert allowed == [tmp_path, tmp_path]
