"""Headers of .tar archives cannot take the time, the memory or the stack of tarfile."""

import gzip
import tarfile
import time
import tracemalloc

import pytest

from rsft.errors import DataError
from rsft.utils.archives import extract_archive
from tests.helpers.messages import mentions

PAX = tarfile.XHDTYPE
GLOBAL = tarfile.XGLTYPE
LONG_NAME = tarfile.GNUTYPE_LONGNAME


def block(name, kind=tarfile.REGTYPE, content=b""):
    info = tarfile.TarInfo(name)
    info.type = kind
    info.size = len(content)
    return info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)


def record(key, value):
    rest = f" {key}={value}\n".encode()
    length = next(
        n for n in range(len(rest), len(rest) + 9) if len(f"{n}") + len(rest) == n
    )
    return f"{length}".encode() + rest


def archive(folder, blocks):
    path = folder / "a.tgz"
    path.write_bytes(gzip.compress(b"".join(blocks) + bytes(1024)))
    return path


HOSTILE = {
    "many headers of one member": [
        *[block("h", PAX, record("comment", "x"))] * 5000,
        block("a.txt"),
    ],
    "many long names of one member": [
        *[block("h", LONG_NAME, b"name\0")] * 5000,
        block("a.txt"),
    ],
    "a long number": [
        block("h", PAX, record("comment", "0" * 500_000)),
        block("a.txt"),
    ],
    "many headers for all members": [
        block("h", GLOBAL, record(f"k{n}", "x" * 50_000)) + block(f"{n}.txt")
        for n in range(3)
    ],
}


@pytest.mark.parametrize("blocks", HOSTILE.values(), ids=HOSTILE)
def test_headers_are_limited(blocks, tmp_path):
    started = time.process_time()
    with pytest.raises(DataError, match=mentions("65,536 bytes", "8 headers")):
        extract_archive(archive(tmp_path, blocks), tmp_path / "out")
    assert time.process_time() - started < 5


def test_usual_headers_are_read(tmp_path):
    blocks = [
        block("h", GLOBAL, record("comment", "x")),
        block(
            "h", PAX, record("path", "é" * 90) + record("mtime", "1700000000.123456789")
        ),
        block("short", content=b"1"),
        block("h", LONG_NAME, b"b" * 150 + b"\0"),
        block("short", content=b"2"),
    ]
    extract_archive(archive(tmp_path, blocks), tmp_path / "out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == {
        "é" * 90: b"1",
        "b" * 150: b"2",
    }


@pytest.mark.parametrize(
    "kind",
    [
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
        tarfile.GNUTYPE_LONGNAME,
        tarfile.GNUTYPE_LONGLINK,
    ],
)
@pytest.mark.parametrize("position", [0, 1])
def test_long_headers_are_not_read(tmp_path, kind, position):
    header = tarfile.TarInfo("a")
    header.type = kind
    header.size = 2**26
    with gzip.open(tmp_path / "a.tar.gz", "wb", compresslevel=1) as file:
        for _ in range(position):
            file.write(tarfile.TarInfo("b").tobuf())
        file.write(header.tobuf(tarfile.USTAR_FORMAT))
        file.write(bytes(2**26))
    tracemalloc.start()
    with pytest.raises(DataError, match="header of the archive has more than 65,536"):
        extract_archive(tmp_path / "a.tar.gz", tmp_path / "out")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**25
