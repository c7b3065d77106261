"""Inputs stand for a path, for the lines of a list, or for the matches of a pattern."""

from pathlib import Path

import pytest

from rsft.errors import RequestError
from rsft.utils.input_paths import expand_path


def test_paths_lists_and_patterns(tmp_path):
    files = [tmp_path / name for name in ("a[1].png", "b.png")]
    for file in files:
        file.touch()
    (tmp_path / "list.txt").write_text(f"# all\n\n{tmp_path / '*.png'}\n{files[0]}\n")
    assert expand_path(files[0]) == files[:1]
    assert expand_path(tmp_path / "*.png") == files
    assert expand_path(Path(f"@{tmp_path / 'list.txt'}")) == [*files, files[0]]


@pytest.mark.parametrize("name", ["absent.png", "*.jpg", "a**b", "@absent.txt"])
def test_nothing_that_matches(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match=r"no such file|cannot be read"):
        expand_path(Path(name))
