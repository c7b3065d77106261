"""Answers of the reader cell: JSON, with arrays and tables as bytes behind it.

An answer is plain data, and decoding it runs no code of the cell. What is not plain,
such as an open file or a function, stays in the cell, and the answer refers to it by a
number.
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time
from enum import Enum
from functools import lru_cache
from importlib import import_module
from operator import attrgetter
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PACKAGE = "rsft."
_TAG = "\0"
"""Key of a value that is no JSON, with the name of its kind."""
_COLLECTIONS = (tuple, set, frozenset)
_TIMES = (datetime, date, time)
_NUMBERS = "biufcSUMm"
"""Kinds of arrays whose elements are values, not objects."""


def encode(value: Any, keep: Callable[[Any], int]) -> list[Any]:
    """Return a value of the cell as blocks of bytes: the JSON, and what it refers to.

    Args:
        value: None, numbers, texts, paths, times, arrays, tables of Arrow and pandas,
            and lists, mappings and data classes of these. Other objects stay in the
            cell.
        keep: takes an object that stays in the cell, and returns its number.

    Example:
        >>> answer = encode((1.5, {"a": b"bytes"}), keep=id)
        >>> decode(answer, refer=int)
        (1.5, {'a': b'bytes'})
    """
    blocks = []

    def encode_item(item: Any) -> Any:
        kind = type(item)
        if item is None or kind in (bool, int, float, str):
            return item
        if kind is list:
            return [encode_item(x) for x in item]
        if kind is memoryview:
            blocks.append(item)
            return {_TAG: "block", "": len(blocks)}
        tag, content = _describe(item) or ("kept", keep(item))
        return {_TAG: tag, "": encode_item(content)}

    tree = encode_item(value)
    return [json.dumps(tree, separators=(",", ":")).encode(), *blocks]


def decode(answer: Sequence[Any], refer: Callable[[int], Any]) -> Any:
    """Decode an answer.

    Args:
        answer: what `encode` returned, in this or in another process.
        refer: takes the number of an object in the cell, and returns what stands for
            it.

    Raises:
        ValueError: it is no such answer.
    """
    kinds = _KINDS | {"block": answer.__getitem__, "kept": refer}

    def decode_item(tree: Any) -> Any:
        if isinstance(tree, list):
            return [decode_item(item) for item in tree]
        if not isinstance(tree, dict):
            return tree
        return kinds[tree[_TAG]](decode_item(tree[""]))

    try:
        return decode_item(json.loads(answer[0]))
    except Exception as error:  # a hostile answer raises anything
        raise ValueError(f"the answer of the reader cannot be used: {error}") from error


def _describe(value: Any) -> tuple[str, Any] | None:
    """Return the kind of a value that is no JSON, and what it is made of.

    It is None for an object that stays in the cell.
    """
    kind = type(value)
    if kind in _COLLECTIONS:
        return kind.__name__, list(value)
    if kind is dict:
        return "dict", [list(item) for item in value.items()]
    if kind is Counter:
        return "Counter", dict(value)
    if kind is bytes:
        return "bytes", memoryview(value)
    if isinstance(value, PurePath):
        return "path", str(value)
    if isinstance(value, _TIMES):
        return kind.__name__, value.isoformat()
    if kind.__module__ == "numpy":
        return _describe_array(value)
    return _describe_object(value)


def _describe_array(value: Any) -> tuple[str, Any] | None:
    import numpy as np  # most answers have no array, and its import takes 0.1 s

    if type(value) in (np.ndarray, np.memmap) and value.dtype.kind in _NUMBERS:
        array = np.ascontiguousarray(value)
        data = array.reshape(-1).view(np.uint8).data
        return "array", [array.dtype.str, list(value.shape), data]
    if isinstance(value, np.generic):
        return "number", np.asarray(value)
    return None


def _describe_object(value: Any) -> tuple[str, Any] | None:
    kind = type(value)
    name = [kind.__module__, kind.__qualname__]
    if kind.__module__.startswith(_PACKAGE):
        if isinstance(value, Enum):
            return "object", [*name, value.name]
        if isinstance(value, tuple):
            return "object", [*name, list(value)]
        if is_dataclass(value):
            return "object", [*name, [getattr(value, x.name) for x in fields(value)]]
    if kind.__name__ not in ("Table", "DataFrame"):
        return None
    import pyarrow as pa

    if not isinstance(value, pa.Table):
        return "frame", pa.Table.from_pandas(value)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, value.schema) as stream:
        stream.write_table(value)
    return "table", memoryview(sink.getvalue())


def _make_array(content: Any) -> "NDArray[Any]":
    import numpy as np

    name, shape, data = content
    dtype = np.dtype(name)
    if dtype.kind not in _NUMBERS:
        raise TypeError(f"an array of {dtype}")
    return np.frombuffer(data, dtype).reshape(shape)


def _make_table(data: Any) -> Any:
    import pyarrow as pa

    try:
        # a text would be the name of a file
        table = pa.ipc.open_stream(pa.py_buffer(data)).read_all()
        table.validate(full=True)
    except pa.ArrowException as error:
        raise TypeError(f"a damaged table: {error}") from error
    return table


def _make_object(content: Any) -> Any:
    """Return a member of an enumeration, a named tuple or a data class."""
    module, name, values = content
    kind = find_class(module, name)
    if issubclass(kind, Enum):
        return kind[values]
    if issubclass(kind, tuple):
        return tuple.__new__(kind, values)
    value = object.__new__(kind)
    for field, item in zip(fields(kind), values, strict=True):
        object.__setattr__(value, field.name, item)
    return value


_KINDS: dict[str, Callable[[Any], Any]] = {
    **{kind.__name__: kind for kind in (*_COLLECTIONS, dict, Counter)},
    **{kind.__name__: kind.fromisoformat for kind in _TIMES},
    "bytes": lambda data: bytes(memoryview(data)),  # a number would be a size
    "array": _make_array,
    "number": lambda array: array[()],
    "path": Path,
    "table": _make_table,
    "frame": lambda table: table.to_pandas(),
    "object": _make_object,
}
"""Makes a value of what `_describe` returned, by its kind."""


@lru_cache
def find_class(module: str, name: str) -> Any:
    """Return a class of this package; no other name of an answer is looked up."""
    if not module.startswith(_PACKAGE):
        raise TypeError(f"{module} is no module of rsft")
    kind = attrgetter(name)(import_module(module))
    if not isinstance(kind, type):
        raise TypeError(f"{name} is no class")
    return kind
