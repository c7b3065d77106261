"""Ask a web server about a file before it is read in parts.

Only the functions that ask a server import requests, because a job without remote files
should start fast.
"""

import os
import socket
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import parse_qsl, urljoin, urlsplit, urlunsplit

from rsft.errors import DataError, NetworkError

HEAD_BYTES = 1024
"""Number of first bytes of a file that `probe_url` reads."""

NO_SERVERS = "CPL_VSIL_CURL_ALLOWED_FILENAME"
"""Environment variable of GDAL. Its value "-" allows no address, here and in GDAL,
because no address is so short."""

_MAX_REDIRECTS = 5
_TIMEOUT = (10, 30)  # seconds to connect, seconds between two blocks
_AGAIN = "run the same command again to continue"
_SIGNATURES = frozenset(
    {"sig", "signature", "token", "access_token", "x-amz-signature", "x-goog-signature"}
)
_HINTS = {
    401: (
        "the server wants a login: sign the address, or set GDAL_HTTP_USERPWD or"
        " GDAL_HTTP_HEADERS"
    ),
    403: (
        "the address may need a signature, or its signature has expired: ask the"
        " provider for a new one"
    ),
    404: "check the address",
    410: "check the address",
}


class RemoteFile(NamedTuple):
    """What a web server says about a file.

    Attributes:
        size: size in bytes; None if the server does not say.
        version: its ETag or date, which changes with the content; empty if the server
            does not say.
        head: the first bytes of the file.
        sends_ranges: whether the server sends parts of the file.
    """

    size: int | None
    version: str
    head: bytes
    sends_ranges: bool


def refuse_servers() -> None:
    """Let GDAL and rsft ask no server in this process and those that it starts.

    The setting of a user stays.
    """
    os.environ.setdefault(NO_SERVERS, "-")


def allow_servers() -> None:
    """Let GDAL and rsft ask servers again."""
    if os.environ.get(NO_SERVERS) == "-":
        del os.environ[NO_SERVERS]


def probe_url(url: str) -> RemoteFile | None:
    """Read the first bytes of a file on a web server.

    Returns:
        What the server says; None if it wants a login and the environment has one for
        GDAL (GDAL_HTTP_...).

    Raises:
        NetworkError: the server cannot be reached, or does not send the file.
    """
    status, reason, remote = _ask(
        url, {"Range": f"bytes=0-{HEAD_BYTES - 1}"}, HEAD_BYTES
    )
    if status in (401, 403) and any(
        name.startswith("GDAL_HTTP_") for name in os.environ
    ):
        return None
    if status == 416:  # an empty file has no first byte
        return RemoteFile(0, remote.version, b"", True)
    if status not in (200, 206):
        raise _status_error(url, status, reason)
    return remote


def read_url(url: str, limit: int) -> bytes:
    """Read a small file from a web server.

    Returns:
        The content.

    Raises:
        NetworkError: the server cannot be reached, or does not send the file.
        DataError: the file is larger than `limit`.
    """
    status, reason, remote = _ask(url, {}, limit + 1)
    if status != 200:
        raise _status_error(url, status, reason)
    if len(remote.head) > limit:
        raise DataError(
            f"the file is larger than {limit:,} bytes",
            public_url(url),
            "check the address",
        )
    return remote.head


def check_host(url: str, named: str) -> None:
    """Raise an error if a foreign address leads into a private network.

    Args:
        url: the address.
        named: the address that the user named, "" if none; its host is accepted.

    Raises:
        NetworkError: the host is another one, and has an address that is not public
            (loopback, link-local, private).
    """
    host = urlsplit(url).hostname or ""
    if host in ("", urlsplit(named).hostname):
        return
    try:
        addresses = [
            str(entry[4][0]).partition("%")[0]
            for entry in socket.getaddrinfo(host, None)
        ]
    except (OSError, UnicodeError):  # the request reports it
        return
    if not all(ip_address(address).is_global for address in addresses):
        raise NetworkError(
            (
                f"{urlsplit(named).hostname or 'the file'} leads to {host}, which is"
                " not in the public Internet"
            ),
            public_url(url),
            "give this address itself, if you trust it",
        )


def public_url(url: str) -> str:
    """Return an address without user name, password and signed query.

    Example:
        >>> public_url("https://me:secret@example.com/a.tif?sig=secret")
        'https://example.com/a.tif'
    """
    address = urlsplit(url)
    is_signed = any(
        key.lower() in _SIGNATURES
        for key, _ in parse_qsl(address.query, keep_blank_values=True)
    )
    query = "" if is_signed else address.query
    return urlunsplit(
        address._replace(netloc=address.netloc.rpartition("@")[2], query=query)
    )


def quote_url(url: str) -> str:
    """Return an address in which reserved characters are quoted once."""
    from requests.utils import requote_uri

    return str(requote_uri(url))


def _ask(url: str, headers: dict[str, str], limit: int) -> tuple[int, str, RemoteFile]:
    """Return status, reason, and the first `limit` bytes of the answer."""
    import requests

    from rsft.utils.download import root_cause

    if os.environ.get(NO_SERVERS) == "-":
        message = "a file leads to a server, but no argument of the command names one"
        raise NetworkError(
            message,
            public_url(url),
            "name the file or the server itself, not by a pattern",
        )
    try:
        return _get(url, {"Accept-Encoding": "identity", **headers}, limit)
    except (requests.RequestException, ValueError) as error:
        raise NetworkError(
            f"{urlsplit(url).hostname or url} cannot be reached: {root_cause(error)}",
            public_url(url),
            f"check the address and the network; {_AGAIN}",
        ) from error


def _get(url: str, headers: dict[str, str], limit: int) -> tuple[int, str, RemoteFile]:
    import requests

    target = url
    for _ in range(_MAX_REDIRECTS):
        with requests.get(
            target,
            headers=headers,
            stream=True,
            timeout=_TIMEOUT,
            allow_redirects=False,
        ) as response:
            fields = response.headers
            if response.is_redirect:
                target = urljoin(target, fields["Location"])
                check_host(target, url)
                continue
            head = b""
            for block in response.iter_content(min(limit, 1 << 16)):
                head += block
                if len(head) >= limit:
                    break
            total = fields.get("Content-Range", "").rpartition("/")[2] or fields.get(
                "Content-Length", ""
            )
            size = int(total) if total.isdecimal() else None
            version = fields.get("ETag") or fields.get("Last-Modified") or ""
            remote = RemoteFile(
                size, version, head[:limit], response.status_code == 206
            )
            return response.status_code, response.reason or "", remote
    raise requests.TooManyRedirects(f"more than {_MAX_REDIRECTS} redirects")


def _status_error(url: str, status: int, reason: str) -> NetworkError:
    message = f"{urlsplit(url).hostname} answered {status} {reason}".rstrip()
    return NetworkError(
        message, public_url(url), _HINTS.get(status, f"try later; {_AGAIN}")
    )
