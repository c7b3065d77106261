"""A local web server of a folder that sends parts of files, as servers of
cloud-optimized GeoTIFF do."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tests.helpers.http_server import running


class Handler(BaseHTTPRequestHandler):
    """Serve the files of the server's folder with the faults that its attributes
    request."""

    server: FileServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, with_body: bool) -> None:
        address = urlsplit(self.path)
        name = unquote(address.path).lstrip("/")
        self.server.requests.append(f"{self.command} {name}")
        if target := self.server.redirects.get(name):
            self._send(302, b"", {"Location": target}, with_body)
            return
        path = self.server.folder / name
        status = self.server.statuses.get(name) or (200 if path.is_file() else 404)
        if status != 200 or (
            self.server.query is not None and address.query != self.server.query
        ):
            self._send(status if status != 200 else 403, b"no", {}, with_body)
            return
        data = path.read_bytes()
        headers = {"ETag": f'"{hash(data) & 0xFFFFFF:x}"', "Accept-Ranges": "bytes"}
        match = (
            re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            if self.server.ranges
            else None
        )
        if match is None:
            self._send(200, data, headers, with_body)
            return
        start = int(match[1])
        stop = min(int(match[2] or len(data) - 1) + 1, len(data))
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
        self._send(
            206 if start < len(data) else 416, data[start:stop], headers, with_body
        )

    def _send(
        self, status: int, data: bytes, headers: dict[str, str], with_body: bool
    ) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(key, value)
        self.end_headers()
        if with_body:
            self.wfile.write(data)
            self.server.sent += len(data)

    def log_message(self, *_: object) -> None:
        pass


class FileServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.ranges = True
        self.query: str | None = None  # every address needs this query, as a signature
        self.statuses: dict[str, int] = {}  # of files that are not sent
        self.redirects: dict[str, str] = {}  # of files that are elsewhere
        self.requests: list[str] = []
        self.sent = 0  # bytes of all answers

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


def serving_folder(folder: Path) -> AbstractContextManager[FileServer]:
    """Run a server of a folder.

    Args:
        folder: the folder.
    """
    return running(FileServer(folder))
