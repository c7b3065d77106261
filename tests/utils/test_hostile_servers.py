"""A server that sends nonsense, too much or too slowly is an error with a sentence."""

from __future__ import annotations

import gzip
import hashlib
import socket
import socketserver
import threading
import time
from contextlib import contextmanager, suppress

import pytest

from rsft.errors import DataError
from rsft.utils import download as module
from rsft.utils.download import download

BODY = bytes(range(256)) * 1000
SHA = hashlib.sha256(BODY).hexdigest()
ROUND = 0.4  # seconds for a block, here


def head(*lines, status="200 OK"):
    return "\r\n".join(
        [f"HTTP/1.1 {status}", "Connection: close", *lines, "", ""]
    ).encode()


def length(number):
    return f"Content-Length: {number}"


def for_ever(data):
    while True:
        yield data


def slowly(data):
    for byte in data:
        time.sleep(ROUND / 4)
        yield bytes([byte])


PACKED = gzip.compress(bytes(2**26))
ANSWERS = {
    "endless": (lambda: [head(), *[BODY] * 2000], "sends more than 256,000 bytes"),
    "endless with a length": (
        lambda: [head(length(10**15)), *[BODY] * 50],
        "published size is 256,000",
    ),
    "one byte at a time": (
        lambda: [head(length(len(BODY))), *slowly(BODY[:100])],
        "less than 64 KiB in",
    ),
    "chunks of one byte": (
        lambda: [
            head("Transfer-Encoding: chunked"),
            *slowly(b"1\r\nx\r\n" * 100),
        ],
        "less than 64 KiB in",
    ),
    "one byte of the header": (lambda: slowly(head(length(5))), "less than 64 KiB in"),
    "nothing": (lambda: (time.sleep(10 * ROUND), [])[1], "less than 64 KiB in"),
    "a file": (
        lambda: [head("Location: file:///etc/passwd", length(0), status="302 Found")],
        "No connection adapters",
    ),
    "no address": (
        lambda: [head("Location: http://[x", length(0), status="302 Found")],
        "cannot be downloaded",
    ),
    "a circle": (
        lambda: [head("Location: /w.pth", length(0), status="302 Found")],
        "redirects",
    ),
    "a length of letters": (lambda: [head(length("abc")), BODY], "length 'abc'"),
    "a negative length": (lambda: [head(length(-5)), BODY], "length '-5'"),
    "another length": (
        lambda: [head(length(5)), b"wrong"],
        "sends 5 bytes; the published size is 256,000",
    ),
    "no HTTP": (lambda: [b"220 ftp\r\n" * 10], "cannot be downloaded"),
    "a long status": (lambda: [b"HTTP/1.1 " + b"2" * 10**6], "cannot be downloaded"),
    "many headers": (
        lambda: [head(*(f"X-{number}: y" for number in range(999)))],
        "cannot be downloaded",
    ),
    "a packed bomb": (
        lambda: [head("Content-Encoding: gzip", length(len(PACKED))), PACKED],
        "published size is 256,000",
    ),
    "a packed bomb of unknown size": (
        lambda: [head("Content-Encoding: gzip"), PACKED],
        "sends more than 256,000 bytes",
    ),
    "other bytes": (
        lambda: [head(length(len(BODY))), BODY[::-1]],
        "not the published file",
    ),
    "an end": (lambda: [head(length(len(BODY))), BODY[:5000]], "cannot be downloaded"),
    "a login": (lambda: [head(length(0), status="403 No")], "answered 403"),
    "bad packing": (
        lambda: [head("Content-Encoding: gzip", length(len(BODY))), BODY],
        "cannot be downloaded",
    ),
}
"""What the server sends, and what the error says."""


@contextmanager
def answering(answer):
    """Run a server that sends the parts of an answer to every request."""
    stopped = threading.Event()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline().strip():
                pass
            with suppress(OSError):
                for part in answer():
                    if stopped.is_set():
                        break
                    self.wfile.write(part)
                self.connection.shutdown(socket.SHUT_WR)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/w.pth"
        finally:
            stopped.set()
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def short_times(monkeypatch):
    # the real times are minutes
    monkeypatch.setattr(module, "_PAUSE", 0)
    monkeypatch.setattr(module, "_ATTEMPTS", 2)
    monkeypatch.setattr(module, "_BLOCK_SECONDS", ROUND)  # of a minute


@pytest.mark.parametrize("name", ANSWERS)
def test_a_fault_of_the_transport_is_a_sentence(name, tmp_path):
    answer, fault = ANSWERS[name]
    start = time.monotonic()
    with answering(answer) as url, pytest.raises(DataError) as caught:
        download(url, tmp_path / "w.pth", SHA, size=len(BODY))
    assert fault in caught.value.message and "w.pth" in str(caught.value)
    assert SHA in caught.value.hint and str(tmp_path / "w.pth") in caught.value.hint
    assert not (tmp_path / "w.pth").exists()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= len(BODY)
    assert time.monotonic() - start < 20 * ROUND + 10


@pytest.mark.parametrize(
    "answer", [[head(length(len(BODY))), BODY], [head(), BODY]], ids=["length", "none"]
)
def test_the_published_file_is_accepted(answer, tmp_path):
    with answering(lambda: answer) as url:
        path = download(url, tmp_path / "w.pth", SHA, size=len(BODY))
        assert path.read_bytes() == BODY
        path = download(url, tmp_path / "v.pth", None)
        assert path.read_bytes() == BODY


def test_a_file_without_published_size_has_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_DOWNLOAD_BYTES", 100_000)
    with answering(lambda: [head(), BODY]) as url, pytest.raises(DataError) as caught:
        download(url, tmp_path / "w.pth", None)
    assert "more than 100,000 bytes" in caught.value.message
