"""YAML 1.2 of recipes, and lines of their keys."""

import pytest
import yaml

from rsft.recipe.text import (
    MAX_YAML_LENGTH,
    Document,
    parse_overrides,
    parse_value,
    read_document,
    to_yaml,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("-.5", -0.5),
        ("+7", 7),
        ("007", 7),
        ("1" * 19, float("1" * 19)),
        ("1:30", "1:30"),
        ("no", "no"),
        ("true", True),
        ("True", "True"),
        ("null", None),
        ("~", None),
        ("", None),
        ("'1'", "1"),
        ("[1, a, [2.0]]", [1, "a", [2.0]]),
        ("{a: 1, b: {c: null}}", {"a": 1, "b": {"c": None}}),
        ("1.2.3", "1.2.3"),
        ("inf", "inf"),
    ],
)
def test_scalars_follow_yaml_1_2(text, value):
    parsed = parse_value(text)
    assert parsed == value and type(parsed) is type(value)


@pytest.mark.parametrize(
    "value",
    [
        "no",
        "1",
        "a: b",
        "",
        "ü",
        "two\nlines",
        "trailing:",
        "[",
        "x" * 300,
        1.5,
        1e-30,
        [],
        {},
        {"a b": [None, True, "null", 3]},
    ],
)
def test_what_is_written_is_read_back(value):
    text = to_yaml(value)
    assert "\n" not in text and parse_value(text) == value


@pytest.mark.parametrize(
    "text",
    ["&a 1", "*a", "!!python/object:os.system x", "[" * 200, "{", "a: b: c"],
)
def test_what_is_no_value(text):
    with pytest.raises(yaml.YAMLError):
        parse_value(text)


def test_long_texts_are_refused():
    assert len(parse_value("a" * MAX_YAML_LENGTH)) == MAX_YAML_LENGTH
    with pytest.raises(yaml.YAMLError, match="the limit is"):
        parse_value("a" * (MAX_YAML_LENGTH + 1))


def test_lines_of_sections_and_keys(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("# c\ndata:\n  root: x\n\n  size: 32\ntrain: {lr: 1e-3}\n")
    document = read_document(path)
    assert document.values == {
        "data": {"root": "x", "size": 32},
        "train": {"lr": 0.001},
    }
    assert document.lines == {
        "data": 2,
        "data.root": 3,
        "data.size": 5,
        "train": 6,
        "train.lr": 6,
    }
    assert document.is_readable and not document.faults


@pytest.mark.parametrize(
    ("content", "line", "key"),
    [
        (b"a: 1\nb: [\n", 3, "syntax"),
        (b"a: 1\n\xff\n", 2, "syntax"),
        (b"a: 1\nb: \x07\n", 2, "syntax"),
        (b"\n- 1\n", 2, "syntax"),
        (b"a:\n  b: 1\n  b: 2\n", 3, "a.b"),
    ],
)
def test_faults_of_a_file_have_a_line(tmp_path, content, line, key):
    (tmp_path / "r.yaml").write_bytes(content)
    (fault,) = read_document(tmp_path / "r.yaml").faults
    assert (fault.line, fault.key) == (line, key)


def test_a_fault_stands_at_the_next_known_key():
    document = Document("r.yaml", lines={"train": 4, "train.lr": 5})
    document.add_fault("train.lr", "0", "> 0")
    document.add_fault("train.rl", "0", "no such key", near="train.lr")
    document.add_fault("train.epochs", "0", "> 0")
    document.overridden.add("meta.lr")
    document.add_fault("meta.lr", "0", "> 0")
    places = [(fault.file, fault.line) for fault in document.faults]
    assert places == [("r.yaml", 5), ("r.yaml", 5), ("r.yaml", 4), ("command line", 0)]


def test_overrides_that_cannot_be_read_become_faults():
    document = Document("r.yaml")
    texts = ["a.b = [1, 2]", "c=", "d", "e=[", "f=x=y"]
    pairs = list(parse_overrides(document, texts))
    assert pairs == [("a.b", [1, 2]), ("c", None), ("f", "x=y")]
    assert [fault.key for fault in document.faults] == ["d", "e"]
