"""A link in a named folder is followed only to what is named as well."""

import json

import pytest

from rsft.errors import RequestError
from rsft.utils.cell import named


def test_links_of_named_folders(tmp_path, monkeypatch):
    monkeypatch.setattr(named, "OFF", False)
    for name in ("in", "out"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").touch()
    (tmp_path / "in/inner.png").symlink_to("a.png")
    outer = tmp_path / "in/outer.png"
    outer.symlink_to(tmp_path / "out/a.png")
    monkeypatch.setenv(named.SETTING, json.dumps([[str(tmp_path / "in")], False]))
    named.check_link(tmp_path / "in/inner.png")
    named.check_link(tmp_path / "out/a.png")
    with pytest.raises(RequestError) as raised:
        named.check_link(outer)
    assert str(tmp_path / "out") in raised.value.hint
    monkeypatch.setenv(named.SETTING, "")
    named.check_link(outer)
