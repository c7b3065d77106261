"""Only regular files are read."""

import os
import socket
from pathlib import Path

import pytest

from rsft.utils.untrusted.documents import check_regular, open_regular, read_regular
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


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
def test_pipes_sockets_and_devices_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
    for path in (tmp_path / "pipe", tmp_path / "socket", Path("/dev/zero")):
        with pytest.raises(OSError):
            read_regular(path)
        with pytest.raises(OSError, match=mentions("pipe", "device")):
            check_regular(path)
