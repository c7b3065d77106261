"""Check a file of torch.save before torch reads it."""

import pickletools
import re
import struct
import zipfile
from pathlib import Path
from typing import BinaryIO

from rsft.utils.untrusted.documents import open_regular

MAX_PICKLE_BYTES = 2**26
"""Largest pickle in a checkpoint: 64 MiB. It contains names and shapes; the numbers lie
beside it."""

MAX_PICKLE_OPCODES = 2**20
"""Largest number of instructions in this pickle. torch runs about a million in a
second; a tensor needs 20 of them."""

REWRITE_HINT = (
    'if you trust its source, rewrite it: python -c "import torch;'
    " torch.save(torch.load('OLD', 'cpu', weights_only=True), 'NEW')\""
)
"""How to convert a file from before torch 1.6. Its pickle states sizes that torch
allocates before it reads."""

# what torch allows with `weights_only`, and what allocates any number of bytes
_ALLOCATING = re.compile(
    r"(^|[. ])(bytearray|\w*Tensor|(Untyped|Typed)Storage|_rebuild_qtensor"
    r"|_rebuild_device_tensor_from_cpu_tensor)$"
)
_QUANTIZED = re.compile(r"(^|[. ])(QU?Int\w*Storage)$")
_SLOW_ENCODING = re.compile(r"\W*(punycode|idna)\W*", re.IGNORECASE)
_READ_ERRORS = (
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,
    OSError,
    EOFError,
    ValueError,
    IndexError,
    KeyError,
    OverflowError,
    struct.error,
)
_END = struct.Struct("<4s8x2LH")
_END64 = struct.Struct("<4s36x2Q")
_LOCATOR64 = struct.Struct("<4s4xQ4x")


class UnsafeTorchFileError(ValueError):
    """Reading a checkpoint could take too much memory or time, or it is quantized."""


class DamagedTorchFileError(ValueError):
    """The archive or the pickle of a checkpoint cannot be read."""


def check_torch_file(path: Path) -> None:
    """Check that reading a checkpoint takes no more memory than its size.

    Raises:
        UnsafeTorchFileError: the file is older than torch 1.6, a member is compressed
            or larger than the file, the pickle is too large or too long, or it asks for
            memory that the file does not fill, for quantized weights, or for an
            encoding that is slow.
        DamagedTorchFileError: the archive or the pickle cannot be read.
    """
    try:
        with open_regular(path) as file:
            if file.read(4) != b"PK\x03\x04":
                raise UnsafeTorchFileError(
                    "it is not in the zip format that torch.save writes since torch 1.6"
                )
            size = file.seek(0, 2)
            _check_end(file, size)
            with zipfile.ZipFile(file) as archive:
                _check_members(archive, size)
    except UnsafeTorchFileError:
        raise
    except _READ_ERRORS as error:
        raise DamagedTorchFileError(str(error) or type(error).__name__) from error


def _check_end(file: BinaryIO, size: int) -> None:
    """Check that the list of members is where the end of the file says."""
    file.seek(max(0, size - _END.size - _LOCATOR64.size - _END64.size))
    tail = file.read()
    end = size - _END.size
    locator = tail[-_END.size - _LOCATOR64.size : -_END.size]
    magic, length, offset, comment = _END.unpack(tail[-_END.size :])
    is_valid = magic == b"PK\x05\x06"
    if locator.startswith(b"PK\x06\x07"):
        end -= _LOCATOR64.size + _END64.size
        magic, length, offset = _END64.unpack(tail[: _END64.size])
        is_valid &= magic == b"PK\x06\x06" and _LOCATOR64.unpack(locator)[1] == end
    if comment or offset + length != end or not is_valid:
        raise DamagedTorchFileError("the list of its members is not at its end")


def _check_members(archive: zipfile.ZipFile, size: int) -> None:
    total = 0
    for member in archive.infolist():
        if (
            member.compress_type != zipfile.ZIP_STORED
            or member.file_size != member.compress_size
        ):
            raise UnsafeTorchFileError(
                f"its member {member.filename[:80]!r} is compressed"
            )
        total += member.file_size
        if total > size:
            raise UnsafeTorchFileError("its members state more bytes than it has")
        if not member.filename.lower().endswith("data.pkl"):  # torch ignores case
            continue
        if member.file_size > MAX_PICKLE_BYTES:
            raise UnsafeTorchFileError(
                f"its pickle is larger than {MAX_PICKLE_BYTES:,} bytes"
            )
        _check_pickle(archive.read(member))


def _check_pickle(pickle: bytes) -> None:
    """Check the instructions of a pickle: their number, and what they ask for."""
    encodes = has_slow_encoding = False
    for count, (opcode, argument, _) in enumerate(pickletools.genops(pickle), 1):
        if count > MAX_PICKLE_OPCODES:
            raise UnsafeTorchFileError(
                f"its pickle has more than {MAX_PICKLE_OPCODES:,} instructions"
            )
        text = str(argument)
        has_slow_encoding |= bool(_SLOW_ENCODING.fullmatch(text))
        if opcode.name != "GLOBAL":
            continue
        encodes |= text == "_codecs encode"
        if match := _ALLOCATING.search(text):
            raise UnsafeTorchFileError(
                f"it asks for a {match[2]}, which may have any size"
            )
        if match := _QUANTIZED.search(text):
            raise UnsafeTorchFileError(
                f"its weights are quantized ({match[2]}): save them with dequantize()"
            )
    if encodes and has_slow_encoding:
        raise UnsafeTorchFileError(
            "it asks for an encoding whose time grows with the square of the text"
        )
