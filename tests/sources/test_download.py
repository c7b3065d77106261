"""Downloads against a server on this machine that answers as servers do on bad days."""

from __future__ import annotations

import hashlib
import re
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest

from rsft.errors import DataError
from rsft.sources.download import download

BODY = np.random.default_rng(0).bytes(3_000_000)
SHA = hashlib.sha256(BODY).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves BODY; the server's attributes say how badly."""

    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        if status != 200:
            self.send_error(status)
            return
        match = re.fullmatch(r"bytes=(\d+)-", asked or "") if self.server.ranges else None
        start = int(match[1]) if match else 0
        if start >= len(BODY):
            self.send_error(416)
            return
        self.send_response(206 if match else 200)
        if match:
            self.send_header("Content-Range", f"bytes {start + self.server.shift}-{len(BODY) - 1}/{len(BODY)}")
        self.send_header("Content-Length", str(len(BODY) - start))
        self.end_headers()
        stop = self.server.breaks.pop(0) if self.server.breaks else len(BODY)
        self.wfile.write(BODY[start:stop])

    def log_message(self, *_: object) -> None:
        pass


class Server(HTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.ranges, self.shift = True, 0
        self.breaks: list[int] = []  # where each answer in turn stops
        self.statuses: list[int] = []
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/lists.txt"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_whole_and_nothing_beside_it(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    path = download(server.url, tmp_path / "a/lists.txt", SHA, progress=lambda *step: seen.append(step))
    assert path.read_bytes() == BODY and list(path.parent.iterdir()) == [path]
    assert seen[-1] == (len(BODY), len(BODY), "lists.txt") and seen[0][0] < len(BODY)


def test_a_file_that_is_there_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(BODY)
    download(server.url, tmp_path / "x", SHA)
    assert server.asked == []


def test_another_file_that_is_there_is_left_alone(server: Server, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"mine")
    with pytest.raises(DataError, match="not the published file"):
        download(server.url, tmp_path / "x", SHA)
    assert (tmp_path / "x").read_bytes() == b"mine"


@pytest.mark.parametrize("ranges", [True, False])
def test_goes_on_where_it_broke_off(server: Server, tmp_path: Path, ranges: bool) -> None:
    server.ranges, server.breaks = ranges, [1_000_000, 2_000_000]
    assert download(server.url, tmp_path / "x", SHA, pause=0).read_bytes() == BODY
    assert server.asked[:2] == [None, "bytes=983040-"] and len(server.asked) == 3  # whole blocks are kept


def test_a_later_call_goes_on_too(server: Server, tmp_path: Path) -> None:
    (tmp_path / "x.part").write_bytes(BODY[:5])
    assert download(server.url, tmp_path / "x", SHA).read_bytes() == BODY
    assert server.asked == ["bytes=5-"]


def test_a_part_that_is_whole_is_taken(server: Server, tmp_path: Path) -> None:
    (tmp_path / "x.part").write_bytes(BODY)
    assert download(server.url, tmp_path / "x", SHA).read_bytes() == BODY


def test_another_range_than_asked_for_starts_over(server: Server, tmp_path: Path) -> None:
    (tmp_path / "x.part").write_bytes(BODY[:5])
    server.shift = 1
    assert download(server.url, tmp_path / "x", SHA, pause=0).read_bytes() == BODY
    assert server.asked == ["bytes=5-", None]


def test_a_busy_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.statuses = [503, 429]
    assert download(server.url, tmp_path / "x", SHA, pause=0).read_bytes() == BODY


def test_a_wrong_checksum_leaves_nothing(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not the published file"):
        download(server.url, tmp_path / "x", "0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_not_found_is_said_at_once(server: Server, tmp_path: Path) -> None:
    server.statuses = [404]
    with pytest.raises(DataError, match="404") as caught:
        download(server.url, tmp_path / "x", SHA)
    assert len(server.asked) == 1
    assert server.url in caught.value.fix and str(tmp_path / "x") in caught.value.fix and SHA in caught.value.fix


def test_without_a_network_it_says_what_to_fetch_by_hand(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/x"
    with pytest.raises(DataError, match="refused") as caught:
        download(url, tmp_path / "x", SHA, pause=0)
    assert caught.value.where == url and f"put it at {tmp_path / 'x'}" in caught.value.fix
