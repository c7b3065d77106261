"""Changes of random lines, and the tests that notice them."""

from types import SimpleNamespace

import pytest

from tools.maintenance import mutation
from tools.maintenance.mutation import mutations, survives

SOURCE = "def f(x: int = 3) -> bool:\n    return not x < 2 and x + 1 == 5\n"


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    monkeypatch.setattr(mutation, "ROOT", tmp_path)
    (tmp_path / "rsft/part").mkdir(parents=True)
    (tmp_path / "tests/part").mkdir(parents=True)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = exhaustive\n")
    (tmp_path / "rsft/part/f.py").write_text(SOURCE)
    test = (
        "f = runpy.run_path('rsft/part/f.py')['f']\ndef test_f():\n    assert f(4) and"
        " not f(1)\n"
    )
    (tmp_path / "tests/part/test_f.py").write_text("import runpy\n" + test)
    return tmp_path


def test_changes_of_a_line(checkout):
    changes = {(m.old, m.new) for m in mutations(checkout / "rsft/part/f.py")}
    assert {
        ("x < 2", "(x <= 2)"),
        ("x + 1", "(x - 1)"),
        ("2", "(3)"),
        ("not x < 2", "(x < 2)"),
    } <= changes
    assert ("int", "(int)") not in changes and len(changes) == 9


def test_a_change_survives_if_no_test_notices_it(checkout):
    file = checkout / "rsft/part/f.py"
    folder = checkout / "tests/part"
    assert mutation.tests_of(file) == [folder / "test_f.py", folder]
    assert mutation.tests_of(file.with_name("g.py")) == [folder]
    found = {
        m.new: survives(m, 60)
        for m in mutations(file)
        if m.new in ("(x <= 2)", "(x - 1)")
    }
    assert found == {"(x <= 2)": True, "(x - 1)": False} and file.read_text() == SOURCE
    assert not survives(next(iter(mutations(file))), 0.001)


def test_tests_of_other_folders_that_run_the_line_notice_a_change(checkout):
    (checkout / "tests/other").mkdir()
    test = checkout / "tests/part/test_f.py"
    test.rename(checkout / "tests/other/test_g.py")
    test.write_text("def test_nothing():\n    pass\n")
    change = next(
        m for m in mutations(checkout / "rsft/part/f.py") if m.new == "(x - 1)"
    )
    contexts = {2: ["", "tests/part/test_f.py::test_f|run"]}
    lines = SimpleNamespace(
        measured_files=lambda: ["/elsewhere/rsft/part/f.py"],
        contexts_by_lineno=lambda _: contexts,
    )
    assert survives(change, 60) and survives(change, 60, lines)
    contexts[2].append("tests/other/test_g.py::test_f|run")
    assert mutation.tests_of_line(change, lines) == ["tests/other/test_g.py::test_f"]
    assert not survives(change, 60, lines)
    contexts[2][2] = "tests/other/test_g.py::test_that_is_gone|run"
    assert survives(change, 60, lines)
