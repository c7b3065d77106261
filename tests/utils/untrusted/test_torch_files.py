"""Checkpoints are checked before torch reads them: memory, and what zipfile refuses."""

import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import pytest
import torch

from rsft.utils.untrusted.torch_files import (
    DamagedTorchFileError,
    UnsafeTorchFileError,
    check_torch_file,
)
from tests.helpers.messages import mentions

Change = Callable[[bytes], bytes]


def save(path, content=None, **options):
    torch.save(
        {"model": {"w": torch.ones(300)}} if content is None else content,
        path,
        **options,
    )
    return path


def rewrite(path, change, name="", method=zipfile.ZIP_STORED):
    """Change the pickle in a checkpoint, its name and its compression."""
    with zipfile.ZipFile(path) as archive:
        members = [
            (member.filename, archive.read(member)) for member in archive.infolist()
        ]
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in members:
            is_pickle = member.lower().endswith("data.pkl")
            archive.writestr(
                name or member if is_pickle else member,
                change(data) if is_pickle else data,
                method,
            )


def global_of(name):
    module, _, attribute = name.rpartition(".")
    return lambda data: (
        b"\x80\x02c%s\n%s\nJ\xff\xff\xff\x7f\x85R."
        % (module.encode(), attribute.encode())
    )


def refused(path, message, error=UnsafeTorchFileError):
    """Assert that a checkpoint is not read."""
    with pytest.raises(error, match=message):
        check_torch_file(path)


@pytest.mark.parametrize(
    "content",
    [
        {
            "a": torch.ones(3),
            "b": torch.zeros(2, dtype=torch.bfloat16),
            "c": [1, 2.5, "Tensor", None, {3}],
        },
        OrderedDict(
            a=torch.nn.Parameter(torch.ones(2, 2)), b=torch.ones(3).to_sparse()
        ),
        torch.nn.BatchNorm2d(4).state_dict(),
    ],
    ids=["mapping", "parameters", "module"],
)
def test_files_of_torch_save_pass(content, tmp_path):
    check_torch_file(save(tmp_path / "a.pth", content))


def test_a_file_from_before_torch_1_6_is_refused(tmp_path):
    path = save(tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    refused(path, mentions("zip format", "torch 1.6"))


@pytest.mark.parametrize(
    "name",
    [
        "builtins.bytearray",
        "__builtin__.bytearray",
        "torch.Tensor",
        "torch.FloatTensor",
        "torch.cuda.HalfTensor",
        "torch.storage.UntypedStorage",
        "torch.storage.TypedStorage",
        "torch._utils._rebuild_qtensor",
    ],
)
def test_a_pickle_that_asks_for_memory_is_refused(name, tmp_path):
    path = save(tmp_path / "a.pth")
    rewrite(path, global_of(name))
    refused(path, mentions(name.rpartition(".")[2], "any size"))


@pytest.mark.parametrize("name", ["torch.QInt8Storage", "torch.QUInt4x2Storage"])
def test_quantized_weights_are_refused_by_name(name, tmp_path):
    path = save(tmp_path / "a.pth")
    rewrite(path, global_of(name))
    refused(path, mentions("quantized", name.rpartition(".")[2], "dequantize"))


@pytest.mark.parametrize("encoding", ["punycode", "PunyCode", "idna", " idna"])
def test_a_slow_encoding_is_refused(encoding, tmp_path):
    text = b"X%s%s" % (struct.pack("<I", len(encoding)), encoding.encode())
    path = save(tmp_path / "a.pth")
    rewrite(
        path,
        lambda _: b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00a" + text + b"\x86R.",
    )
    refused(path, mentions("encoding", "square"))


def test_a_parameter_may_have_the_name_of_an_encoding(tmp_path):
    check_torch_file(save(tmp_path / "a.pth", {"idna": torch.ones(2)}))
    check_torch_file(save(tmp_path / "b.pth", {"mean": np.float64(1)}))


@pytest.mark.slow
@pytest.mark.parametrize(
    "opcodes",
    [b"(", b"N0", b"}0", b"N\x85"],
    ids=["marks", "none", "mappings", "tuples"],
)
def test_a_pickle_of_many_instructions_is_refused(opcodes, tmp_path):
    path = save(tmp_path / "a.pth")
    rewrite(path, lambda data: b"\x80\x02" + opcodes * 2**20 + b"}.")
    refused(path, mentions("pickle", "1,048,576 instructions"))


def test_torch_finds_the_pickle_in_any_case(tmp_path):
    path = save(tmp_path / "a.pth")
    rewrite(path, lambda data: data, "a/DATA.PKL")
    assert torch.load(path, weights_only=True)["model"]["w"].sum() == 300
    rewrite(path, global_of("builtins.bytearray"), "a/DATA.PKL")
    refused(path, "bytearray")


def test_a_compressed_member_is_refused(tmp_path):
    path = save(tmp_path / "a.pth")
    rewrite(path, lambda data: data, method=zipfile.ZIP_DEFLATED)
    refused(path, r"'a/data\.pkl' is compressed")


def with_sizes(data, name, packed, size):
    """State other sizes of a member in the list of members."""
    start = data.index(b"PK\x01\x02", data.rindex(name) - 46)
    return data[: start + 20] + struct.pack("<2L", packed, size) + data[start + 28 :]


@pytest.mark.parametrize(
    ("packed", "fault"),
    [(1200, "'a/data/0' is compressed"), (2**30, "state more bytes than it has")],
)
def test_a_member_that_states_more_bytes_than_the_file_is_refused(
    packed, fault, tmp_path
):
    path = save(tmp_path / "a.pth")
    path.write_bytes(with_sizes(path.read_bytes(), b"a/data/0", packed, 2**30))
    refused(path, fault)


def encrypt(data):
    data = bytearray(data)
    for magic, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        data[data.index(magic) + offset] |= 1
    return bytes(data)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (encrypt, "encrypted"),
        (lambda data: data.replace(b"a/data.pkl", b"a/data.pkx", 1), "differ"),
        (
            lambda data: data.replace(b"PK\x01\x02", b"PK\x01\x03", 1),
            "Bad magic number",
        ),
        (lambda data: data[:-30], "not at its end"),
        (lambda data: data[:-2] + b"\x05\0" + b"extra", "not at its end"),
        (lambda data: data[:4] + b"x" * 100 + data[4:], "not at its end"),
        (lambda data: data[:40], "."),
        (lambda data: data[:4], "."),
    ],
)
def test_what_zipfile_refuses_is_refused(change, fault, tmp_path):
    path = save(tmp_path / "a.pth")
    path.write_bytes(change(path.read_bytes()))
    refused(path, fault, DamagedTorchFileError)


@pytest.mark.parametrize(
    "pickle",
    [b"", b"\xff", b"\x80\x02", b"\x80\x02X\xff\xff\xff\x7fa.", b"\x80\x02c\xff\n."],
)
def test_a_pickle_that_cannot_be_parsed_is_refused(pickle, tmp_path):
    path = save(tmp_path / "a.pth")
    rewrite(path, lambda data: pickle)
    with pytest.raises(DamagedTorchFileError):
        check_torch_file(path)


def test_a_file_that_does_not_exist(tmp_path):
    refused(tmp_path / "a.pth", "No such file", DamagedTorchFileError)
