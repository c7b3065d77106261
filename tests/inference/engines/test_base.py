"""Engines and formats by name: precisions, devices, packages and threads."""

import sys
from typing import ClassVar

import pytest

from rsft.errors import RequestError
from rsft.inference.engines.base import (
    EXACT,
    ROUNDED,
    Engine,
    engine_threads,
    find_engine,
    find_format,
    first_line,
    installed_versions,
)
from tests.helpers.messages import mentions


@pytest.mark.parametrize(
    ("variable", "siblings", "threads"), [("3", "0", 3), ("", "0", 1), ("x", None, 2)]
)
def test_threads_without_pytorch(monkeypatch, tmp_path, variable, siblings, threads):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", variable)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    # the processor of another machine
    monkeypatch.setattr(
        "rsft.inference.engines.base._TOPOLOGY", str(tmp_path / "cpu{}")
    )
    for number in (0, 1) if siblings else ():
        (tmp_path / f"cpu{number}").write_text(siblings)
    assert engine_threads() == threads


class Toy(Engine):
    """An engine of two precisions, whose package is missing if a test says so."""

    name, title, extra = "toy", "Toy", "toys"
    precisions: ClassVar = {"fp32": EXACT, "bf16": ROUNDED}


def test_an_unsupported_precision_is_refused():
    with pytest.raises(RequestError, match=mentions("no int8 for toy", "fp32 or bf16")):
        Toy().check_precision("int8")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_supported_precisions_pass(precision):
    Toy().check(precision, "auto")
    with pytest.raises(RequestError, match=mentions("CPU only", "--device")):
        Toy().check(precision, "cuda")


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(Toy, "packages", ("no_such_thing",))
    with pytest.raises(RequestError, match=mentions("no_such_thing", "rsft[toys]")):
        Toy().check("fp32", "cpu")


def test_names_that_are_none():
    assert find_engine("torch").name == "torch" and find_format("onnx").name == "onnx"
    with pytest.raises(RequestError, match=mentions("abc", "--engine", "torch")):
        find_engine("abc")
    with pytest.raises(RequestError, match=mentions("abc", "--format", "onnx")):
        find_format("abc")


def test_the_first_line_of_an_error():
    assert first_line(ValueError("\n one\ntwo")) == "one"
    assert first_line(KeyError()) == "KeyError"
    assert len(first_line(ValueError("x" * 999))) == 200


def test_versions_of_what_is_installed():
    versions = installed_versions(("torch", "no-such-package"))
    assert list(versions) == ["torch"] and versions["torch"][0].isdigit()
