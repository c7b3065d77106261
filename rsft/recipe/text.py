"""YAML of recipes: scalars of YAML 1.2, lines of keys, no aliases or tags."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from rsft.errors import Fault
from rsft.utils.untrusted.documents import MAX_DEPTH, MAX_JSON_BYTES, read_regular

MAX_YAML_LENGTH = 2**16
"""Largest number of letters of a recipe or sweep file; the largest one of rsft has
3,000. Reading takes up to 2 s."""
COMMAND_LINE = "command line"
"""Name of the command line in faults, in place of a file."""

_CONSTANTS = {"": None, "~": None, "null": None, "true": True, "false": False}
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")  # 64 bits; a longer one is a number
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_PLAIN = re.compile(r"[A-Za-z0-9_./][\w./:-]*(?<!:)", re.ASCII)


@dataclass
class Document:
    """A recipe file as written.

    Attributes:
        file: path of the file.
        values: values by section and key.
        lines: line numbers from 1 by dotted key.
        faults: what is wrong with the file.
        overridden: keys and sections whose values are from the command line.
    """

    file: str
    values: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    overridden: set[str] = field(default_factory=set)

    @property
    def is_readable(self) -> bool:
        """Whether the file is valid YAML."""
        return bool(self.values) or not self.faults

    def add_fault(
        self,
        key: str,
        value: str,
        allowed: str,
        *,
        line: int | None = None,
        near: str = "",
    ) -> None:
        """Add a fault.

        Args:
            key: dotted key.
            value: the value, as text.
            allowed: what the key accepts.
            line: number of the line, from 1; None for that of the key, of `near`, or of
                the section.
            near: the key that was probably meant.
        """
        if line is None:
            line = next(
                (
                    self.lines[x]
                    for x in (key, near, key.partition(".")[0])
                    if x in self.lines
                ),
                0,
            )
        is_overridden = not self.overridden.isdisjoint((key, key.rpartition(".")[0]))
        file = COMMAND_LINE if is_overridden and not line else self.file
        self.faults.append(Fault(file, line, key, value, allowed, is_overridden))


def read_document(path: Path) -> Document:
    """Read a recipe or sweep file without checking its keys.

    Returns:
        The document. Syntax errors are in its `faults`.
    """
    document = Document(str(path))
    # a byte that is not UTF-8 becomes a character that YAML rejects
    text = read_regular(path, MAX_JSON_BYTES).decode(errors="surrogateescape")
    try:
        root = _compose(text)
        if isinstance(root, yaml.MappingNode):
            _walk(document, root, "", document.values)
        elif root is not None:
            problem = "it has no sections with keys"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=root.start_mark)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line if mark else text.count("\n", 0, getattr(error, "position", 0))
        line_text = [*text.splitlines(), "the end of the file"][line][:120]
        problem = getattr(error, "problem", "only printable UTF-8 text")
        allowed = f"a valid recipe in YAML ({problem})"
        document.add_fault("syntax", repr(line_text), allowed, line=line + 1)
    return document


def parse_value(text: str) -> Any:
    """Read one value of the command line: YAML such as "8", "null" or "[9, 10]".

    Returns:
        The value; an empty text is None.

    Raises:
        yaml.YAMLError: the text is not valid YAML.

    Example:
        >>> parse_value("[9, 10]"), parse_value("1e-3"), parse_value("no")
        ([9, 10], 0.001, 'no')
    """
    root = _compose(text)
    if root is None:
        return None
    return _value(root)


def parse_overrides(
    document: Document, overrides: Sequence[str]
) -> Iterator[tuple[str, Any]]:
    """Iterate over keys and values of `section.key=value`.

    Those that cannot be read become faults of the document.
    """
    for text in overrides:
        key, equals, raw = map(str.strip, text.partition("="))
        if not equals:
            document.faults.append(
                Fault(COMMAND_LINE, 0, text, "no value", "write section.key=value")
            )
            continue
        document.overridden.add(key)
        try:
            yield key, parse_value(raw)
        except yaml.YAMLError:
            document.add_fault(key, raw, "not valid YAML")


def to_yaml(value: Any) -> str:
    """Return a value as one line of YAML, which `parse_value` reads back.

    Example:
        >>> to_yaml({"*": [1, None, "no"]})
        '{"*": [1, null, no]}'
    """
    if isinstance(value, str):
        if _PLAIN.fullmatch(value) and _scalar(value) == value:
            return value
        return yaml.safe_dump(value, default_style='"', width=10**9).strip()
    if isinstance(value, list):
        return f"[{', '.join(map(to_yaml, value))}]"
    if isinstance(value, dict):
        pairs = [f"{to_yaml(key)}: {to_yaml(item)}" for key, item in value.items()]
        return "{" + ", ".join(pairs) + "}"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value)


@lru_cache(maxsize=32)  # a command reads the same recipe several times, in 20 ms each
def _compose(text: str) -> yaml.Node | None:
    """Return the node tree of a text.

    A text beyond the limits, or with anchors, aliases or tags, raises YAMLError.
    """
    if len(text) > MAX_YAML_LENGTH:
        raise yaml.MarkedYAMLError(
            problem=f"it has {len(text):,} letters; the limit is {MAX_YAML_LENGTH:,}"
        )
    depth = 0
    for event in yaml.parse(text, yaml.BaseLoader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        problem = ""
        if depth > MAX_DEPTH:
            problem = f"it is nested more than {MAX_DEPTH} levels deep"
        elif getattr(event, "anchor", None) or getattr(event, "tag", None):
            problem = "recipes have no anchors, aliases or tags"
        if problem:
            mark: Any = event.start_mark
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
    node: yaml.Node | None = yaml.compose(text, yaml.BaseLoader)
    return node


def _walk(
    document: Document, mapping: yaml.MappingNode, prefix: str, values: dict[str, Any]
) -> None:
    """Fill `values` from a mapping, and record lines and repeated keys."""
    for key_node, node in mapping.value:
        key = _name(key_node)
        line = key_node.start_mark.line + 1
        dotted = prefix + key
        if dotted in document.lines:
            first = document.lines[dotted]
            document.add_fault(
                dotted, f"again (first on line {first})", "each key once", line=line
            )
            continue
        document.lines[dotted] = line
        if isinstance(node, yaml.MappingNode) and not prefix:
            values[key] = {}
            _walk(document, node, f"{key}.", values[key])
        else:
            values[key] = _value(node)


def _name(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return str(node.value)
    return to_yaml(_value(node))


def _value(node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return {_name(key): _value(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_value(item) for item in node.value]
    if isinstance(node, yaml.ScalarNode) and node.style is not None:
        return node.value
    return _scalar(node.value)


def _scalar(text: str) -> Any:
    """Return a plain scalar of YAML 1.2: 1e-3 is a number, `no` and 1:30 are text."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text):
        return float(text)
    return text
