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
from importlib import import_module
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import numpy.typing as npt

from rsft.utils.cell.frames import Frame

_PACKAGE = "rsft."
_TAG = "\0"
"""Key of a value that is no JSON, with the name of its kind."""
_TIMES: tuple[type[date] | type[time], ...] = (datetime, date, time)
_NUMBERS = "biufcSUMm"
"""Kinds of arrays whose elements are values, not objects."""


def encode(value: Any, keep: Callable[[Any], int]) -> Frame:
    """Encode a value of the cell.

    Args:
        value: None, numbers, texts, paths, times, arrays, tables of Arrow and pandas,
            and lists, mappings and data classes of these. Other objects stay in the
            cell.
        keep: takes an object that stays in the cell, and returns its number.

    Example:
        >>> answer = encode((1.5, np.zeros(2)), keep=id)
        >>> decode(answer, refer=int)
        (1.5, array([0., 0.]))
    """
    parts: list[Any] = []
    tree = _Encoder(parts, keep).encode(value)
    return Frame(json.dumps(tree, separators=(",", ":")).encode(), parts)


def decode(answer: Frame, refer: Callable[[int], Any]) -> Any:
    """Decode an answer.

    Args:
        answer: what `encode` returned, in this or in another process.
        refer: takes the number of an object in the cell, and returns what stands for
            it.

    Raises:
        ValueError: it is no such answer.
    """
    try:
        return _Decoder(answer.parts, refer).decode(json.loads(answer.text))
    except (AttributeError, ImportError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"the answer of the reader cannot be used: {error}") from error


class _Encoder:
    def __init__(self, parts: list[Any], keep: Callable[[Any], int]) -> None:
        self._parts = parts
        self._keep = keep

    def encode(self, value: Any) -> Any:
        kind = type(value)
        if value is None or kind in (bool, int, float, str):
            return value
        if kind is list:
            return [self.encode(item) for item in value]
        tag, content = self._describe(value)
        return {_TAG: tag, "": content}

    def _describe(self, value: Any) -> tuple[str, Any]:
        """Return the kind of a value that is no JSON, and its content as JSON."""
        if type(value) in (tuple, set, frozenset):
            return type(value).__name__, [self.encode(item) for item in value]
        if type(value) in (np.ndarray, np.memmap) and value.dtype.kind in _NUMBERS:
            array = np.ascontiguousarray(value)
            self._parts.append(array.reshape(-1).view(np.uint8).data)
            return "array", [array.dtype.str, list(value.shape), len(self._parts) - 1]
        if isinstance(value, np.generic):
            return "number", self.encode(np.asarray(value))
        if type(value) in _MAPPINGS:
            items = [[*map(self.encode, item)] for item in value.items()]
            return _MAPPINGS[type(value)], items
        if isinstance(value, bytes):
            self._parts.append(value)
            return "bytes", len(self._parts) - 1
        if isinstance(value, PurePath):
            return "path", str(value)
        if isinstance(value, _TIMES):
            return type(value).__name__, value.isoformat()
        return self._describe_object(value)

    def _describe_object(self, value: Any) -> tuple[str, Any]:
        kind = type(value)
        name = [kind.__module__, kind.__qualname__]
        if kind.__module__.startswith(_PACKAGE):
            if isinstance(value, Enum):
                return "object", [*name, value.name]
            if isinstance(value, tuple):
                return "object", [*name, [self.encode(item) for item in value]]
            if is_dataclass(value):
                values = [self.encode(getattr(value, x.name)) for x in fields(value)]
                return "object", [*name, values]
        if kind.__name__ in ("Table", "DataFrame"):
            return self._describe_table(value)
        return "kept", self._keep(value)

    def _describe_table(self, value: Any) -> tuple[str, Any]:
        import pyarrow as pa

        tag = "table"
        if not isinstance(value, pa.Table):
            tag = "frame"
            value = pa.Table.from_pandas(value)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, value.schema) as stream:
            stream.write_table(value)
        self._parts.append(memoryview(sink.getvalue()))
        return tag, len(self._parts) - 1


_MAPPINGS: dict[type[Any], str] = {dict: "mapping", Counter: "counter"}


class _Decoder:
    def __init__(self, parts: Sequence[Any], refer: Callable[[int], Any]) -> None:
        self._parts = parts
        self._kinds: dict[str, Callable[[Any], Any]] = {
            "tuple": lambda items: tuple(map(self.decode, items)),
            "set": lambda items: set(map(self.decode, items)),
            "frozenset": lambda items: frozenset(map(self.decode, items)),
            "mapping": self._mapping,
            "counter": lambda items: Counter(self._mapping(items)),
            "array": self._array,
            "number": lambda content: self.decode(content)[()],
            "bytes": lambda number: bytes(parts[number]),
            "path": Path,
            "datetime": datetime.fromisoformat,
            "date": date.fromisoformat,
            "time": time.fromisoformat,
            "table": self._table,
            "frame": lambda number: self._table(number).to_pandas(),
            "object": self._object,
            "kept": lambda number: refer(int(number)),
        }

    def decode(self, tree: Any) -> Any:
        if isinstance(tree, list):
            return [self.decode(item) for item in tree]
        if not isinstance(tree, dict):
            return tree
        return self._kinds[tree[_TAG]](tree[""])

    def _mapping(self, items: Any) -> dict[Any, Any]:
        return {self.decode(key): self.decode(value) for key, value in items}

    def _array(self, content: Any) -> npt.NDArray[Any]:
        name, shape, number = content
        dtype = np.dtype(name)
        if dtype.kind not in _NUMBERS:
            raise TypeError(f"an array of {dtype}")
        return np.frombuffer(self._parts[number], dtype).reshape(shape)

    def _table(self, number: int) -> Any:
        import pyarrow as pa

        try:
            table = pa.ipc.open_stream(self._parts[number]).read_all()
            table.validate(full=True)
        except pa.ArrowException as error:
            raise TypeError(f"a damaged table: {error}") from error
        return table

    def _object(self, content: Any) -> Any:
        """Return a member of an enumeration, a named tuple or a data class."""
        module, name, values = content
        kind = find_class(module, name)
        if issubclass(kind, Enum):
            return kind[values]
        items = self.decode(values)
        if issubclass(kind, tuple):
            return tuple.__new__(kind, items)
        value = object.__new__(kind)
        for field, item in zip(fields(kind), items, strict=True):
            object.__setattr__(value, field.name, item)
        return value


def find_class(module: str, name: str) -> Any:
    """Return a class of this package; no other name of an answer is looked up."""
    if not module.startswith(_PACKAGE):
        raise TypeError(f"{module} is no module of rsft")
    found: Any = import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    if not isinstance(found, type):
        raise TypeError(f"{name} is no class")
    return found
