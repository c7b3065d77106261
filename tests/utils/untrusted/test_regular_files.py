"""Only regular files are read."""

import os
import socket
from pathlib import Path

import pytest

from rsft.errors import DataError
from rsft.utils.untrusted.documents import (
    check_regular,
    load_json,
    open_regular,
    read_regular,
    read_regular_text,
)
from tests.helpers.messages import mentions


def test_files_and_links_are_read(tmp_path):
    (tmp_path / "a").write_bytes(b"text")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert read_regular(tmp_path / "b") == b"text"
    check_regular(tmp_path / "b")
    check_regular(tmp_path)
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "absent")
    with pytest.raises(IsADirectoryError):
        read_regular(tmp_path)


def test_a_file_larger_than_the_limit_is_not_read(tmp_path):
    path = tmp_path / "run.json"
    path.write_bytes(b'\xef\xbb\xbf{"a":\r\n1}')
    assert load_json(path) == {"a": 1} and read_regular_text(path) == '{"a":\n1}'
    os.truncate(path, 24 * 2**30)
    for read, limit in [
        (load_json, "67,108,864"),
        *((x, "1,073,741,824") for x in (read_regular, read_regular_text)),
    ]:
        with pytest.raises(
            DataError,
            match=mentions("25,769,803,776 bytes", f"limit is {limit}", "run.json"),
        ):
            read(path)


@pytest.mark.skipif(
    not hasattr(os, "mkfifo"), reason="this system has no pipes in folders"
)
def test_pipes_sockets_and_devices_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
    for path in (tmp_path / "pipe", tmp_path / "socket", Path("/dev/zero")):
        with pytest.raises(OSError):
            read_regular(path)
        with pytest.raises(OSError, match=mentions("pipe", "device")):
            check_regular(path)
