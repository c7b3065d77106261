"""Checkpoints of other projects in every supported layout, and damaged or hostile
files."""

import argparse
import os
import shlex
import subprocess
import sys
import zipfile

import pytest
import safetensors.torch
import torch
from torch import serialization

from rsft.backbones.checkpoint_files import read_checkpoint
from rsft.errors import WeightsError
from tests.helpers.messages import mentions

STATE = {
    "a.weight": torch.arange(6.0).reshape(2, 3),
    "b": torch.ones(4, dtype=torch.float16),
}


def saved(folder, content, **options):
    """Write a checkpoint and return its path."""
    torch.save(content, folder / "net.pth", **options)
    return folder / "net.pth"


def refusal(path, message):
    """Assert that a checkpoint is refused, and return the error."""
    with pytest.raises(WeightsError, match=message) as caught:
        read_checkpoint(path)
    return caught.value


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        {
            "model": STATE,
            "optimizer": {"state": {0: torch.ones(2)}},
            "args": argparse.Namespace(lr=1e-3),
            "epoch": 3,
        },
        {"state_dict": STATE, "epoch": 3},
        {"student": {"other": torch.ones(1)}, "teacher": STATE},
        {"model": {"state_dict": STATE}},
        {name: torch.nn.Parameter(value) for name, value in STATE.items()},
    ],
    ids=["bare", "mae", "state_dict", "dino", "nested", "parameters"],
)
def test_supported_layouts(content, tmp_path):
    state = read_checkpoint(saved(tmp_path, content))
    assert state.keys() == STATE.keys()
    assert all(
        torch.equal(state[name], STATE[name]) and state[name].dtype == STATE[name].dtype
        for name in STATE
    )


def test_safetensors(tmp_path):
    safetensors.torch.save_file(STATE, tmp_path / "net.safetensors")
    state = read_checkpoint(tmp_path / "net.safetensors")
    assert state.keys() == STATE.keys() and torch.equal(
        state["a.weight"], STATE["a.weight"]
    )


def test_parts_in_mappings_of_their_own(tmp_path):
    parts = {"first": STATE, "second": {"a.weight": torch.ones(2)}}
    state = read_checkpoint(saved(tmp_path, {"model": parts}))
    assert list(state) == ["first.a.weight", "first.b", "second.a.weight"]
    assert torch.equal(state["first.b"], STATE["b"])
    refusal(
        saved(tmp_path, {"first": {"a": 3}, "second": STATE}),
        "'first.a' is not a plain tensor but int",
    )
    refusal(
        saved(tmp_path, {"first": STATE, "epoch": 3}),
        "'first' is not a plain tensor but dict",
    )


class Hostile:
    """An object that creates a folder when it is unpickled."""

    def __init__(self, proof):
        self.proof = proof

    def __reduce__(self):
        return os.mkdir, (str(self.proof),)


def test_code_in_a_pickle_is_not_run(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    proof = tmp_path / "proof"
    file = saved(tmp_path, {"model": STATE, "args": Hostile(proof)})
    error = refusal(file, mentions(".mkdir", "not allowed"))
    assert error.location == str(file) and "publisher" in error.hint
    assert not proof.exists()
    torch.load(file, weights_only=False)
    assert proof.exists()  # torch runs the code without the restriction


class Trusted:
    """A class that another library allows torch to unpickle."""


def test_only_argparse_namespaces_are_allowed(tmp_path):
    path = saved(tmp_path, {"model": STATE, "args": Trusted()})
    with serialization.safe_globals([Trusted]):
        before = serialization.get_safe_globals()
        refusal(path, mentions("Trusted", "not allowed"))
        assert sorted(map(str, serialization.get_safe_globals())) == sorted(
            map(str, before)
        )
    assert argparse.Namespace not in serialization.get_safe_globals()


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.999])
def test_truncated_file(suffix, share, tmp_path):
    file = tmp_path / f"net.{suffix}"
    state = {"a": torch.ones(10_000)}
    if suffix == "pth":
        torch.save({"model": state}, file)
    else:
        safetensors.torch.save_file(state, file)
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    error = refusal(file, r"truncated|damaged")
    assert error.location == str(file) and error.hint == "download it again"


def test_damaged_pickle(tmp_path):
    file = saved(tmp_path, {"model": STATE})
    data = bytearray(file.read_bytes())
    start = data.index(b"a.weight")
    data[start - 10 : start + 20] = bytes(30)
    file.write_bytes(data)
    refusal(file, "damaged")


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html><html>"])
def test_files_without_weights(content, tmp_path):
    (tmp_path / "net.pth").write_bytes(content)
    refusal(tmp_path / "net.pth", "neither a safetensors file nor")


def test_legacy_pickle(tmp_path):
    path = saved(tmp_path, STATE, _use_new_zipfile_serialization=False)
    assert "python -c" in refusal(path, r"since torch 1\.6").hint


@pytest.mark.exhaustive
def test_the_hint_for_a_legacy_pickle_is_a_command_that_works(tmp_path):
    torch.save(STATE, tmp_path / "OLD", _use_new_zipfile_serialization=False)
    command = shlex.split(
        refusal(tmp_path / "OLD", "").hint.partition("rewrite it: ")[2]
    )
    subprocess.run([sys.executable, *command[1:]], cwd=tmp_path, check=True)
    assert torch.equal(read_checkpoint(tmp_path / "NEW")["a.weight"], STATE["a.weight"])


def test_a_view_that_repeats_a_number(tmp_path):
    refusal(
        saved(tmp_path, {"a": torch.ones(1).expand(10**9)}),
        mentions("'a'", "larger than the file"),
    )


@pytest.mark.parametrize("path", ["absent.pth", "."])
def test_missing_file(path, tmp_path):
    refusal(tmp_path / path, "cannot be read")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ({"model": {"a": torch.ones(1), "b": 3}}, "'b' is not a plain tensor but int"),
        ({"epoch": 3}, "'epoch' is not a plain tensor"),
        ({1: torch.ones(1)}, "1 is not a plain tensor"),
        ({"a": torch.ones(2).to_sparse()}, "'a' is not a plain tensor"),
        ({}, "holds dict, not a network"),
        ({"first": {}}, "holds dict, not a network"),
        (torch.ones(3), "holds Tensor, not a network"),
    ],
)
def test_content_that_is_not_only_tensors(content, fault, tmp_path):
    refusal(saved(tmp_path, content), fault)


def test_mapping_that_contains_itself(tmp_path):
    content = {}
    content["model"] = content
    refusal(saved(tmp_path, content), mentions("'model.model'", "plain tensor"))


class Allocation:
    """An object that allocates memory when it is unpickled."""

    def __reduce__(self):
        return bytearray, (3 << 30,)


def test_memory_that_the_file_does_not_fill(tmp_path):
    path = saved(tmp_path, {"model": STATE, "x": Allocation()})
    assert path.stat().st_size < 10_000
    refusal(path, "asks for a bytearray")


def test_compressed_members(tmp_path):
    with (
        zipfile.ZipFile(saved(tmp_path, STATE)) as source,
        zipfile.ZipFile(tmp_path / "packed.pth", "w", 8) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
    refusal(tmp_path / "packed.pth", "is compressed")


@pytest.mark.skipif(
    not hasattr(os, "mkfifo"), reason="this system has no pipes in folders"
)
def test_pipes_are_refused(tmp_path):
    os.mkfifo(tmp_path / "net.pth")
    refusal(tmp_path / "net.pth", mentions("pipe", "device"))
