"""Faults of a sweep file, with the lines of their values."""

from typing import Literal

import pytest

from rsft.errors import Fault, RecipeError
from rsft.recipe.components import Section
from rsft.recipe.text import COMMAND_LINE, read_document
from rsft.study.file_faults import locate_fault, raise_faults, read_keys


class Plan(Section):
    """Keys of a toy file."""

    side: int
    count: int = 3
    kind: Literal["a", "b"] = "a"


def read(folder, text):
    (folder / "plan.yaml").write_text(text)
    return read_document(folder / "plan.yaml")


def test_a_valid_file_is_its_model(tmp_path):
    document = read(tmp_path, "side: 8\ncount: 4\n")
    assert read_keys(Plan, document, "a plan", "plan") == Plan(side=8, count=4)


def test_all_faults_have_their_lines(tmp_path):
    document = read(tmp_path, "count: many\ncolor: red\nkind: c\n")
    with pytest.raises(RecipeError):
        read_keys(Plan, document, "a plan", "plan")
    faults = {fault.key: fault for fault in document.faults}
    assert set(faults) == {"side", "count", "color", "kind"}
    assert (faults["count"].line, faults["count"].value) == (1, "many")
    assert faults["color"].allowed == "no such key; a plan has side, count, kind"
    assert faults["side"].value == "nothing" and "a" in faults["kind"].allowed
    document.faults.append(faults["count"])
    with pytest.raises(RecipeError) as raised:
        raise_faults(document, "plan.yaml")
    lines = [fault.line for fault in raised.value.faults]
    assert lines == sorted(lines) and len(lines) == 4


def test_a_fault_of_the_recipe_gets_the_line_of_the_file_that_changes_it(tmp_path):
    document = read(tmp_path, "name: x\ngrid:\n  train.lr: [0]\n")
    own = Fault("recipe.yaml", 7, "train.lr", "0", "a number > 0")
    assert locate_fault(document, own, ["grid"]) is own
    changed = Fault(COMMAND_LINE, 0, "train.lr", "0", "a number > 0", True)
    located = locate_fault(document, changed, ["search", "grid"])
    assert (located.file, located.line) == (document.file, 2)
    assert located.value == "0" and not located.overridden
    elsewhere = locate_fault(document, changed, ["search"])
    assert (elsewhere.file, elsewhere.line) == (COMMAND_LINE, 0)
