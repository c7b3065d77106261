"""scenes.csv: rows that are appended, damaged, found again and put in order."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from rsft.inference.scene_table import SceneResult, SceneTable, read_scenes


def finished(name, **fields):
    return SceneResult(name, "done", chips=3, job=f"job of {name}", **fields)


def finish(table, *names):
    """Write the table anew with these scenes."""
    table.finish(names, lambda position: SceneResult(names[position], "pending"))


def names(path):
    return [scene.scene for scene in read_scenes(path)]


@pytest.fixture
def path(tmp_path):
    """Write the table of an interrupted call: scene a, then b."""
    table = SceneTable(tmp_path / "scenes.csv")
    table.add(finished("a"))
    table.add(finished("b", modified=7))
    table.close()
    return tmp_path / "scenes.csv"


def test_each_row_is_in_the_file_at_once(tmp_path):
    path = tmp_path / "new/scenes.csv"
    table = SceneTable(path)
    for name in ("c", "a"):
        table.add(finished(name))
        assert names(path)[-1] == name
    finish(table, "a", "b", "c")
    frame = pd.read_csv(path)
    assert list(frame["scene"]) == ["a", "b", "c"]
    assert list(frame["status"]) == ["done", "pending", "done"]
    assert list(frame["chips"]) == [3, 0, 3]


def test_rows_of_an_earlier_call_are_found(path):
    table = SceneTable(path)
    assert table.find("b") == finished("b", modified=7)
    assert table.find("c") is None
    table.add(table.find("a")._replace(status="skipped"))
    table.add(finished("c"))
    finish(table, "a", "b", "c")
    rows = list(read_scenes(path))
    # nobody has looked at scene b, which stays in the index of the next call
    assert rows == [
        finished("a")._replace(status="skipped"),
        finished("b", modified=7)._replace(status="pending"),
        finished("c"),
    ]


def test_the_last_row_of_a_scene_counts(path):
    table = SceneTable(path)
    table.add(finished("a", reason="again"))
    table.close()
    assert names(path) == ["a", "b", "a"]
    assert SceneTable(path).find("a").reason == "again"


@pytest.mark.parametrize("cut", [1, 5, 12])
def test_a_torn_last_row_is_removed(path, cut):
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    assert names(path) == ["a"]
    table = SceneTable(path)
    assert table.find("a") == finished("a") and table.find("b") is None
    table.add(finished("b", modified=7))
    assert path.read_bytes() == whole
    finish(table, "b", "a")
    rows = [(scene.scene, scene.status) for scene in read_scenes(path)]
    assert rows == [("b", "done"), ("a", "pending")]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"a letter",
        b"scene,status\na,done\n",
        b"\x00\xff\n" * 9,
        b'"' + b"x" * 200_000 + b"\n",
    ],
)
def test_another_table_is_begun_anew(tmp_path, content):
    path = tmp_path / "scenes.csv"
    path.write_bytes(content)
    table = SceneTable(path)
    assert table.find("a") is None
    table.add(finished("a"))
    finish(table, "a")
    assert list(read_scenes(path)) == [finished("a")]


def test_a_changed_cell_is_no_row(path):
    path.write_text(path.read_text().replace("a,done,3", "a,done,three"))
    assert SceneTable(path).find("a") is None


def test_names_with_quotes_and_formulas(tmp_path):
    path = tmp_path / "scenes.csv"
    scenes = ['/a"b",c', "=1+1", "'=x", "/é"]
    table = SceneTable(path)
    for name in reversed(scenes):
        table.add(finished(name))
    table.close()
    again = SceneTable(path)
    assert [again.find(name) for name in scenes] == list(map(finished, scenes))
    finish(again, *scenes)
    assert names(path) == scenes
    assert "\n=1+1" not in path.read_text()


def test_a_row_is_one_line(tmp_path):
    table = SceneTable(tmp_path / "scenes.csv")
    table.add(finished("/a\nb\x07", reason="one\r\ntwo"))
    table.add(finished("c"))
    finish(table, "c", "/a\nb\x07")
    rows = [(scene.scene, scene.status) for scene in read_scenes(table.path)]
    assert rows == [("c", "done"), ("/a b\\x07", "done")]


WRITER = """
import sys
from pathlib import Path
from rsft.inference.scene_table import SceneResult, SceneTable
table = SceneTable(Path(sys.argv[1]))
for position in range(10**7):
    table.add(SceneResult(f"s{position}", "done"))
    if position == 500:
        print("ready", flush=True)
"""


def test_a_killed_process_leaves_whole_rows(tmp_path):
    path = tmp_path / "scenes.csv"
    command = [sys.executable, "-c", WRITER, path]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as writer:
        assert writer.stdout.readline() == b"ready\n"
        writer.send_signal(signal.SIGKILL)
    rows = Path(path).read_bytes().splitlines()
    assert len(rows) > 500
    assert list(pd.read_csv(path)["scene"]) == [f"s{i}" for i in range(len(rows) - 1)]
    assert SceneTable(path).find("s500").status == "done"
