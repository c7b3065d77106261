"""Commands that are killed leave the same bytes as undisturbed ones."""

import sys

import pytest

from tools.kill_runs.__main__ import markdown
from tools.kill_runs.contents import digest_folder
from tools.kill_runs.rounds import Result, kill_verb
from tools.kill_runs.verbs import CHEAP, VERBS, write_cheap_inputs, write_small_store


@pytest.mark.slow
@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="looks for processes in /proc"
)
@pytest.mark.exhaustive
@pytest.mark.parametrize("name", CHEAP)
def test_a_killed_command_ends_as_an_undisturbed_one(tmp_path, name):
    (tmp_path / "inputs").mkdir()
    write_cheap_inputs(tmp_path / "inputs")
    write_small_store(tmp_path / "inputs")
    result = kill_verb(VERBS[name], 1, tmp_path, seed=1)
    assert result.passed, result.sentences()
    assert result.files > 2
    notes = tmp_path / "home/.local/share/rsft/stores.json"
    assert notes.is_file() or name == "data-add"  # not in the home of the user


def test_clocks_are_not_compared_but_numbers_are(tmp_path):
    (tmp_path / "a.json").write_text('{"created": "2026-01-02T03:04:05+00:00", "n": 1}')
    (tmp_path / "metrics.csv").write_text("epoch,seconds,val_macro\n1,7.5,0.5\n")
    (tmp_path / "empty").mkdir()
    before = digest_folder(tmp_path)
    assert list(before) == ["a.json", "metrics.csv", "empty/"]
    (tmp_path / "a.json").write_text('{"created": "2026-09-09T09:09:09+00:00", "n": 1}')
    (tmp_path / "metrics.csv").write_text("epoch,seconds,val_macro\n1,9.5,0.5\n")
    assert digest_folder(tmp_path) == before
    (tmp_path / "metrics.csv").write_text("epoch,seconds,val_macro\n1,9.5,0.6\n")
    (tmp_path / "a.json").write_text('{"created": "2026-09-09T09:09:09+00:00", "n": 2}')
    after = digest_folder(tmp_path)
    assert [name for name in before if after[name] != before[name]] == [
        "a.json",
        "metrics.csv",
    ]


def test_anything_that_is_left_fails():
    result = Result("export", 1.0, 3, set(), kills=2)
    assert result.passed and markdown([result]).endswith(
        "| export | 1.0 | 2 | 0 | 0 | 0 | 0 | 0 of 3 |"
    )
    result.left.append(".tmp")
    assert not result.passed and result.sentences() == "export: 2 kills\n  left: .tmp"
