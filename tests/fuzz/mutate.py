"""Mutate files of a known structure. A mutation depends on the random generator and on
the file only."""

from __future__ import annotations

import io
import json
import re
import sqlite3
import struct
import zipfile
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

Mutator = Callable[[Random, bytes], bytes]

PORT = b"58739"
"""Port in the addresses below. The sandbox replaces it by the port on which it waits
for requests."""

_LISTS = json.loads((Path(__file__).parent / "values.json").read_text(encoding="utf-8"))
_NUMBERS: list[str] = [*_LISTS["numbers"], "9" * 4999]
_TEXTS: list[str] = [*_LISTS["texts"], "x" * 300, "[" * 2000, "{a: " * 1500, "(" * 999]
_NAMES: list[str] = [*_LISTS["names"], "x" * 300, "a/" * 300 + "x"]
_VALUES: list[Any] = [*_LISTS["values"], "x" * 300]
_WORD = re.compile(r"[^\s,;|\"'=:<>\[\]{}()]+")


def mutate_text(rng: Random, data: bytes) -> bytes:
    """Change fields, lines or the encoding of a text."""
    text = data.decode("utf-8", "surrogateescape")
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        text = rng.choice(_TEXT_CHANGES)(rng, text)
    return _encode(rng, text)


def mutate_bytes(rng: Random, data: bytes) -> bytes:
    """Change bytes at random places."""
    content = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        _change_bytes(rng, content)
    return bytes(content)


def _change_bytes(rng: Random, content: bytearray) -> None:
    size = len(content)
    change = rng.randrange(11)
    start = rng.randint(0, size)
    length = rng.choice((1, 4, 64, 512, 1000))
    if change < 3 and size:
        content[rng.randrange(size)] ^= 1 << rng.randrange(8)
    elif change < 5 and size:
        content[rng.randrange(min(size, 200))] = rng.choice(
            (0, 1, 127, 128, 255, rng.randrange(256))
        )
    elif change < 7 and size > 8:
        width = rng.choice((2, 4, 8))
        value = rng.choice(
            (0, 1, -1, 2**15 - 1, 2**31 - 1, 2**63 - 1, -(2**31), 60_000)
        ) & (2 ** (8 * width) - 1)
        start = rng.randrange(size - width)
        content[start : start + width] = value.to_bytes(
            width, rng.choice(("little", "big"))
        )
    elif change == 7:
        del content[start:]
    elif change == 8:
        del content[start : start + length]
    elif change == 9:
        content[start:start] = content[start : start + length] * rng.choice((1, 1, 20))
    else:
        content[start : start + length] = bytes(min(length, size - start))


def mutate_json(rng: Random, data: bytes) -> bytes:
    """Change values and keys of a JSON file; sometimes its text."""
    if rng.random() < 0.15:
        return mutate_text(rng, data)
    content = json.loads(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        content = change_value(rng, content)
    if rng.random() < 0.03:
        return b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    return json.dumps(content).encode("utf-8", "surrogatepass")


def change_value(rng: Random, content: Any) -> Any:
    """Replace, remove, rename, repeat or nest one value anywhere in nested
    containers."""
    places = list(_places(content))
    if not places or rng.random() < 0.03:
        return deepcopy(rng.choice(_VALUES))
    container, key = rng.choice(places)
    change = rng.randrange(8)
    if change < 4:
        container[key] = deepcopy(rng.choice(_VALUES))
    elif change == 4:
        del container[key]
    elif change == 5:
        old = container[key]
        container[key] = rng.choice(([old], [old, deepcopy(old)], {"a": old}, str(old)))
    elif isinstance(container, dict):
        container[rng.choice(("", "x", "name", "type", "[/w]", "é", "x" * 300))] = (
            container.pop(key)
        )
    else:
        container.insert(key, deepcopy(container[rng.randrange(len(container))]))
    return content


def mutate_zip(members: Mutator) -> Mutator:
    """Return a mutator of archives .zip that mutates one member, or the bytes of the
    archive."""

    def mutate(rng: Random, data: bytes) -> bytes:
        if rng.random() < 0.3:
            return mutate_bytes(rng, data)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            contents = [(info, archive.read(info)) for info in archive.infolist()]
        chosen = rng.randrange(len(contents))
        target = io.BytesIO()
        with zipfile.ZipFile(target, "w") as archive:
            for number, (info, content) in enumerate(contents):
                if number == chosen and rng.random() < 0.1:
                    continue
                name = (
                    rng.choice(_NAMES)
                    if number == chosen and rng.random() < 0.3
                    else info.filename
                )
                copy = zipfile.ZipInfo(name, info.date_time)
                copy.external_attr = info.external_attr
                copy.compress_type = rng.choice(
                    (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
                )
                archive.writestr(
                    copy, members(rng, content) if number == chosen else content
                )
        return target.getvalue()

    return mutate


def mutate_safetensors(rng: Random, data: bytes) -> bytes:
    """Change the header of a safetensors file, or bytes."""
    if rng.random() < 0.3:
        return mutate_bytes(rng, data)
    (length,) = struct.unpack("<Q", data[:8])
    header = mutate_json(rng, data[8 : 8 + length])
    size = rng.choice((0, 1, 2**63, length)) if rng.random() < 0.1 else len(header)
    return struct.pack("<Q", size) + header + data[8 + length :]


def mutate_parquet(rng: Random, data: bytes) -> bytes:
    """Change types, values, columns or metadata of a Parquet table, or bytes."""
    if rng.random() < 0.3:
        return mutate_bytes(rng, data)
    table = pq.read_table(io.BytesIO(data))
    names = table.column_names
    column = rng.randrange(len(names))
    change = rng.randrange(7)
    if change == 0:
        table = table.drop([names[column]])
    elif change == 1:
        table = table.rename_columns(
            ["x" if number == column else name for number, name in enumerate(names)]
        )
    elif change == 2:
        text = rng.choice((b"\xff", b"[", b"[]", b"{}", b"1", b"[" * 5000))
        table = table.replace_schema_metadata({rng.choice((b"rsft", b"pandas")): text})
    elif change == 3:
        table = table.slice(0, rng.choice((0, 1)))
    elif change == 4:
        table = table.append_column(names[column], table.column(column))
    else:
        values = table.column(column).to_pylist()
        if change == 5 or not values:
            values = [rng.choice(_VALUES[:18])] * len(values)
        else:
            values[rng.randrange(len(values))] = rng.choice(_VALUES)
        try:
            array = pa.array(values)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            array = pa.array(
                pd.Series(values, dtype=object).map(lambda x: repr(x).encode())
            )
        table = table.set_column(column, names[column], array)
    target = io.BytesIO()
    try:
        pq.write_table(table, target)
    except (pa.ArrowException, UnicodeError, ValueError):
        return mutate_bytes(rng, data)
    return target.getvalue()


def mutate_sqlite(rng: Random, data: bytes) -> bytes:
    """Change fields, rows, columns or tables of an SQLite file, or bytes."""
    if rng.random() < 0.4:
        return mutate_bytes(rng, data)
    database = sqlite3.connect(":memory:")
    try:
        database.deserialize(data)
        _change_tables(rng, database)
        return database.serialize()
    except sqlite3.Error:
        return mutate_bytes(rng, data)
    finally:
        database.close()


def _change_tables(rng: Random, database: sqlite3.Connection) -> None:
    rows = database.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table'"
    ).fetchall()
    tables = [name for (name,) in rows if not name.startswith(("sqlite_", "rtree_"))]
    database.execute("PRAGMA writable_schema = ON")
    for (name,) in database.execute(
        "SELECT name FROM sqlite_master WHERE type = 'trigger'"
    ).fetchall():
        database.execute(f'DROP TRIGGER "{name}"')
    for _ in range(rng.choice((1, 1, 2, 3))):
        table = rng.choice(tables)
        columns = [row[1] for row in database.execute(f'PRAGMA table_info("{table}")')]
        if not columns:
            continue  # the table has another name now
        column = rng.choice(columns)
        change = rng.randrange(8)
        blobs = [b"", b"\xff\0", b"GP", rng.randbytes(30)]
        value = rng.choice(
            [*_TEXTS[:40], None, -1, 0, 10**12, 1e308, float("inf"), *blobs]
        )
        if change < 5:
            database.execute(f'UPDATE OR IGNORE "{table}" SET "{column}" = ?', (value,))
        elif change == 5:
            database.execute(f'DELETE FROM "{table}"')
        elif change == 6:
            database.execute(f'ALTER TABLE "{table}" RENAME COLUMN "{column}" TO "x"')
        else:
            database.execute(f'ALTER TABLE "{table}" RENAME TO "x{rng.randrange(9)}"')
    database.commit()


def _places(content: Any) -> Any:
    if isinstance(content, dict):
        items: Any = content.items()
    elif isinstance(content, list):
        items = enumerate(content)
    else:
        return
    for key, value in items:
        yield content, key
        yield from _places(value)


def _replace_word(rng: Random, text: str) -> str:
    words = list(_WORD.finditer(text))
    numbers = list(re.finditer(r"-?\d+(\.\d+)?", text))
    if not words:
        return rng.choice(_TEXTS)
    if numbers and rng.random() < 0.5:
        words = numbers
        lists = (_NUMBERS,)
    else:
        lists = (_NUMBERS, _TEXTS)
    word = rng.choice(words)
    return text[: word.start()] + rng.choice(rng.choice(lists)) + text[word.end() :]


def _insert(rng: Random, text: str) -> str:
    place = rng.randint(0, len(text))
    return text[:place] + rng.choice(rng.choice((_NUMBERS, _TEXTS))) + text[place:]


def _change_lines(rng: Random, text: str) -> str:
    lines = text.splitlines(keepends=True) or [""]
    first = rng.randrange(len(lines))
    second = rng.randrange(len(lines))
    change = rng.randrange(6)
    if change == 0:
        del lines[first]
    elif change == 1:
        lines.insert(second, lines[first])
    elif change == 2:
        lines[first], lines[second] = lines[second], lines[first]
    elif change == 3:
        lines[first] = lines[first] * rng.choice((2, 50))
    elif change == 4:
        lines[first] = rng.choice((" " * 1200, "\t", "\n\n")) + lines[first]
    else:
        lines[first] = (
            lines[first].rstrip("\n")
            + rng.choice((",", ";", "\t", " ", ",,,,", " 1", '"'))
            + "\n"
        )
    return "".join(lines)


def _cut(rng: Random, text: str) -> str:
    start = rng.randint(0, len(text))
    return (
        text[:start]
        if rng.random() < 0.5
        else text[:start] + text[start + rng.choice((1, 2, 8, 40)) :]
    )


def _change_separator(rng: Random, text: str) -> str:
    return text.replace(
        rng.choice(', ;\t"<:\n'), rng.choice([*",;\t|\n", "", "\r\n", '"'])
    )


_TEXT_CHANGES = [*[_replace_word] * 4, _insert, _change_lines, _cut, _change_separator]


def _encode(rng: Random, text: str) -> bytes:
    chosen = rng.random()
    if chosen < 0.02:
        return text.encode("utf-16", "surrogatepass")
    if chosen < 0.04:
        return b"\xef\xbb\xbf" + text.encode("utf-8", "surrogateescape")
    data = text.encode("utf-8", "surrogateescape")
    if chosen < 0.08:
        place = rng.randint(0, len(data))
        return (
            data[:place]
            + rng.choice((b"\xff", b"\0", b"\xc3", b"\xed\xa0\x80", b"\x1a"))
            + data[place:]
        )
    return b"" if chosen < 0.083 else data
