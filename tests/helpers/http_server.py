"""A local HTTP server that simulates faults."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TypeVar

import numpy as np

AnyServer = TypeVar("AnyServer", bound=HTTPServer)

BODY = np.random.default_rng(0).bytes(3_000_000)
SHA = hashlib.sha256(BODY).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serve BODY with the faults that the attributes of the server request."""

    server: Server

    def do_GET(self) -> None:
        requested_range = self.headers.get("Range")
        self.server.requested_ranges.append(requested_range)
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        if status != 200:
            self.send_error(status)
            return
        match = (
            re.fullmatch(r"bytes=(\d+)-", requested_range or "")
            if self.server.ranges
            else None
        )
        start = int(match[1]) if match else 0
        if start >= len(BODY):
            self.send_error(416)
            return
        self.send_response(206 if match else 200)
        if match:
            self.send_header(
                "Content-Range",
                f"bytes {start + self.server.shift}-{len(BODY) - 1}/{len(BODY)}",
            )
        self.send_header("Content-Length", str(len(BODY) - start))
        self.end_headers()
        stop = self.server.breaks.pop(0) if self.server.breaks else len(BODY)
        self.wfile.write(BODY[start:stop])

    def log_message(self, *_: object) -> None:
        pass


class Server(HTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.ranges = True
        self.shift = 0
        self.breaks: list[int] = []  # byte at which each response stops, in order
        self.statuses: list[int] = []
        self.requested_ranges: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/lists.txt"


@contextmanager
def running(server: AnyServer) -> Iterator[AnyServer]:
    """Run a server in a thread, and stop it at the end.

    Args:
        server: the server.
    """
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.01}
    )
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def serving() -> AbstractContextManager[Server]:
    """Run a server; set NO_PROXY if a proxy is configured."""
    return running(Server())
