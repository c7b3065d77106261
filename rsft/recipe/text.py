"""YAML as recipes use it: scalars by the rules of YAML 1.2, every key with its line, nothing hidden."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from rsft.errors import Fault

_CONSTANTS = {"": None, "~": None, "null": None, "true": True, "false": False}
_INTEGER = re.compile(r"[-+]?[0-9]+")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_PLAIN = re.compile(r"[A-Za-z0-9_./][\w./:-]*(?<!:)", re.ASCII)


@dataclass
class Document:
    """A recipe file as written: values by section and key, the line of every dotted key, and what is wrong with it."""

    file: str
    values: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    @property
    def is_readable(self) -> bool:
        """Whether it is YAML at all."""
        return bool(self.values) or not self.faults

    def add_fault(self, line: int, key: str, found: str, allowed: str) -> None:
        """Note one fault."""
        self.faults.append(Fault(self.file, line, key, found, allowed))


def read_document(path: Path) -> Document:
    """Read a recipe file; what is wrong with it stands in `faults`."""
    document = Document(str(path))
    try:
        text = path.read_bytes().decode()
        root = _compose(text)
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        document.add_fault(line, "encoding", f"byte {error.object[error.start]:#04x}", "UTF-8 text")
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        document.add_fault(line, "character", f"U+{int(error.character):04X}", "printable text")
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line if error.problem_mark else 0
        found = repr([*text.splitlines(), "the end of the file"][line])
        document.add_fault(line + 1, "syntax", found, f"valid YAML ({error.problem})")
    else:
        if isinstance(root, yaml.MappingNode):
            _walk(document, root, "", document.values)
        elif root is not None:
            document.add_fault(root.start_mark.line + 1, "recipe", show(_value(root)), "sections, each with its keys")
    return document


def parse_value(text: str) -> Any:
    """One value as the command line gives it: "8", "null", "[9, 10]".

    Raises:
        yaml.YAMLError: not valid YAML.
    """
    root = _compose(text)
    return None if root is None else _value(root)


def show(value: Any) -> str:
    """A value as one line of YAML that reads back equal."""
    if isinstance(value, str):
        if _PLAIN.fullmatch(value) and _scalar(value) == value:
            return value
        return yaml.safe_dump(value, default_style='"', width=10**9).strip()
    if isinstance(value, list):
        return f"[{', '.join(map(show, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{show(key)}: {show(item)}' for key, item in value.items())}}}"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)


def _compose(text: str) -> yaml.Node | None:
    """The node tree of a text.

    Raises:
        yaml.YAMLError: not valid YAML, or with anchors, aliases or tags: a recipe says what it means in place.
    """
    for token in yaml.scan(text, yaml.BaseLoader):
        if isinstance(token, yaml.AnchorToken | yaml.AliasToken | yaml.TagToken):
            problem = "an anchor, alias or tag, which recipes do not have"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=token.start_mark)
    node: yaml.Node | None = yaml.compose(text, yaml.BaseLoader)
    return node


def _walk(document: Document, mapping: yaml.MappingNode, prefix: str, values: dict[str, Any]) -> None:
    """Fill `values` with a mapping's keys, one level of sections deep, noting lines and repeated keys."""
    for key_node, node in mapping.value:
        key, line = _name(key_node), key_node.start_mark.line + 1
        dotted = prefix + key
        if dotted in document.lines:
            document.add_fault(line, dotted, f"again (first on line {document.lines[dotted]})", "each key once")
            continue
        document.lines[dotted] = line
        if isinstance(node, yaml.MappingNode) and not prefix:
            values[key] = {}
            _walk(document, node, f"{key}.", values[key])
        else:
            values[key] = _value(node)


def _name(node: yaml.Node) -> str:
    return str(node.value) if isinstance(node, yaml.ScalarNode) else show(_value(node))


def _value(node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return {_name(key): _value(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_value(item) for item in node.value]
    quoted = isinstance(node, yaml.ScalarNode) and node.style is not None
    return node.value if quoted else _scalar(node.value)


def _scalar(text: str) -> Any:
    """A plain scalar by YAML 1.2's core rules: 1e-3 is a number, `no` and 1:30 are text."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else text
