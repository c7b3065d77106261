"""Downloads from a local server that simulates faults."""

import hashlib
import socket

import pytest
from filelock import FileLock

from rsft.errors import DataError, RequestError
from rsft.utils import download as module
from rsft.utils.download import download
from tests.helpers.http_server import BODY, SHA, serving


@pytest.fixture
def server(monkeypatch):
    # no test waits for the pause between two requests
    monkeypatch.setattr(module, "_PAUSE", 0)
    with serving() as server:
        yield server


def test_file_is_complete_and_the_only_one(server, tmp_path):
    seen: list[tuple[int, int, str]] = []
    path = download(
        server.url,
        tmp_path / "a/lists.txt",
        SHA,
        progress=lambda *step: seen.append(step),
    )
    assert path.read_bytes() == BODY and list(path.parent.iterdir()) == [path]
    assert seen[-1] == (len(BODY), len(BODY), "lists.txt") and seen[0][0] < len(BODY)


def test_existing_file_is_not_downloaded_again(server, tmp_path):
    (tmp_path / "x").write_bytes(BODY)
    download(server.url, tmp_path / "x", SHA)
    assert server.requested_ranges == []


def test_existing_other_file_is_refused_and_kept(server, tmp_path):
    (tmp_path / "x").write_bytes(b"mine")
    with pytest.raises(DataError, match="not the published file"):
        download(server.url, tmp_path / "x", SHA)
    assert (tmp_path / "x").read_bytes() == b"mine"


@pytest.mark.parametrize("ranges", [True, False])
def test_interrupted_transfer_is_resumed(server, tmp_path, ranges):
    server.ranges = ranges
    server.breaks = [1_000_000, 2_000_000]
    assert download(server.url, tmp_path / "x", SHA).read_bytes() == BODY
    # whole blocks are kept
    assert server.requested_ranges[:2] == [
        None,
        "bytes=983040-",
    ]
    assert len(server.requested_ranges) == 3


@pytest.mark.slow
def test_second_process_is_refused(server, tmp_path):
    """Both would append to the same file."""
    with (
        FileLock(tmp_path / "x.lock"),
        pytest.raises(RequestError, match="another process is downloading"),
    ):
        download(server.url, tmp_path / "x", SHA)
    assert server.requested_ranges == []


def test_existing_file_in_a_folder_without_write_permission(tmp_path, monkeypatch):
    (tmp_path / "x").write_bytes(BODY)
    monkeypatch.setattr(
        module, "process_lock", lambda *_: pytest.fail("a lock was taken")
    )
    assert download("http://127.0.0.1/x", tmp_path / "x", SHA) == tmp_path / "x"


def test_complete_part_file_is_used(server, tmp_path):
    (tmp_path / "x.part").write_bytes(BODY)
    assert download(server.url, tmp_path / "x", SHA).read_bytes() == BODY


def test_wrong_range_restarts_the_transfer(server, tmp_path):
    (tmp_path / "x.part").write_bytes(BODY[:5])
    server.shift = 1
    assert download(server.url, tmp_path / "x", SHA).read_bytes() == BODY
    assert server.requested_ranges == ["bytes=5-", None]


def test_busy_server_is_retried(server, tmp_path):
    server.statuses = [503, 429]
    assert download(server.url, tmp_path / "x", SHA).read_bytes() == BODY


def test_wrong_checksum_leaves_no_file(server, tmp_path):
    with pytest.raises(DataError, match="not the published file"):
        download(server.url, tmp_path / "x", "0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_missing_file_fails_without_retry(server, tmp_path):
    server.statuses = [404]
    with pytest.raises(DataError, match="404") as caught:
        download(server.url, tmp_path / "x", SHA)
    assert len(server.requested_ranges) == 1
    assert (
        server.url in caught.value.hint
        and str(tmp_path / "x") in caught.value.hint
        and SHA in caught.value.hint
    )


def test_error_without_network_tells_what_to_download(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_PAUSE", 0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/x"
    with pytest.raises(DataError, match="refused") as caught:
        download(url, tmp_path / "x", SHA)
    assert (
        caught.value.location == url
        and f"put it at {tmp_path / 'x'}" in caught.value.hint
    )


@pytest.mark.parametrize(
    "checksum", [None, SHA[:8], f"md5:{hashlib.md5(BODY).hexdigest()}"]
)
def test_partial_checksum_is_accepted(server, tmp_path, checksum):
    assert download(server.url, tmp_path / "x", checksum).read_bytes() == BODY
