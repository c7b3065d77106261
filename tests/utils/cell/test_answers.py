"""Values that a reader cell sends, and answers that are refused."""

import json
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import Enum
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest

from rsft.data.imagery.products.options import ProductOptions
from rsft.scenes.raster import PixelWindow
from rsft.utils.cell.answers import decode, encode
from rsft.utils.command_options import Access


def send(value):
    kept = []

    def keep(item):
        kept.append(item)
        return len(kept) - 1

    return decode([*map(bytearray, encode(value, keep))], kept.__getitem__)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -1,
        2**70,
        0.1,
        float("inf"),
        "ä\udcff\0",
        [1, [2]],
        (1, ("a",)),
        {1: "a", ("b", 2): [3], "\0": "tag"},
        Counter(a=2),
        {1, 2},
        frozenset("ab"),
        b"\0\xff",
        Path("a/b"),
        date(2026, 1, 2),
        datetime(2026, 1, 2, 3, tzinfo=UTC),
        np.float32(0.1),
        PixelWindow(1, 2, 3, 4),
        ProductOptions(),
    ],
)
def test_values_stay_as_they_are(value):
    found = send(value)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.uint16).reshape(2, 3).T,
        np.zeros((0, 2), np.float32),
        np.array(3 + 4j),
        np.array(["a", "bc"]),
        np.array([True]),
        np.array(["2026-01-02"], "M8[s]"),
    ],
)
def test_arrays(array):
    found = send(array)
    assert found.dtype == array.dtype and found.shape == array.shape
    assert (found == array).all()
    assert found.flags.writeable


def test_tables_of_arrow():
    table = pa.table({"a": [1, None], "b": ["x", "y"]})
    assert send(table).equals(table)


def test_other_objects_stay():
    function = len
    assert send([function])[0] is function
    masked = np.ma.masked_equal([1, 2], 2)
    assert send(masked) is masked
    objects = np.array([len], object)
    assert send(objects) is objects
    assert send(Access.READ) in (Access.READ,)


class _Tree(NamedTuple):
    tag: str
    content: object

    def answer(self):
        tree = {"\0": self.tag, "": self.content}
        return [bytearray(json.dumps(tree).encode()), bytearray(b"12345678")]


BLOCK = {"\0": "block", "": 1}


@pytest.mark.parametrize(
    "tree",
    [
        _Tree("object", ["subprocess", "Popen", {"args": "true"}]),
        _Tree("object", ["rsft.utils.cell.processes", "subprocess.Popen", {}]),
        _Tree("object", ["rsft.scenes.raster", "open_scene", {}]),
        _Tree("object", ["rsft.errors", "DataError", []]),
        _Tree("object", ["os", "environ", "PATH"]),
        _Tree("array", ["O", [1], BLOCK]),
        _Tree("array", [["O"], [1], BLOCK]),
        _Tree("array", [{"\0": "dict", "": [["a", "O"]]}, [1], BLOCK]),
        _Tree("array", ["u1", [9], BLOCK]),
        _Tree("array", ["u1", [1], "text"]),
        _Tree("block", 5),
        _Tree("bytes", 2**50),
        _Tree("table", BLOCK),
        _Tree("table", __file__),
        _Tree("frame", 5),
        _Tree("class", "os"),
        _Tree("datetime", "soon"),
        _Tree("dict", [[[], 1]]),
        _Tree("number", 5),
    ],
)
def test_an_answer_runs_no_code(tree):
    with pytest.raises(ValueError, match="cannot be used"):
        decode(tree.answer(), int)


def test_no_answer():
    with pytest.raises(ValueError, match="cannot be used"):
        decode([b"{"], int)
    with pytest.raises(ValueError, match="cannot be used"):
        decode([b"[" * 10**6], int)
    with pytest.raises(ValueError, match="cannot be used"):
        decode([], int)


@dataclass
class Stranger:
    """A data class of another package."""


class Color(Enum):
    """Members of another package."""

    RED = 1


def test_classes_of_other_packages_stay():
    for value in (Stranger(), Color.RED):
        assert send(value) is value
