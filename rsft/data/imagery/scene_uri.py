"""Name a scene: a path, a URL, a member of an archive, or a subdataset.

Tell whether a file has changed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from rsft.errors import DataError, RequestError
from rsft.utils.input_paths import exists
from rsft.utils.operating_system import is_windows
from rsft.utils.remote_files import probe_url, public_url, quote_url
from rsft.utils.untrusted.documents import load_json

if TYPE_CHECKING:
    from rsft.types import Pixels

FileState = tuple[int, int] | None
"""Size in bytes and modification time in ns; None if the file does not exist."""


def file_state(path: str | Path) -> FileState:
    """Return size and modification time, which usually change with the content."""
    try:
        status = os.stat(path)  # noqa: PTH116 a `Path` per scene takes longer
    except OSError:  # the error is reported when the file is read
        return None
    return status.st_size, status.st_mtime_ns


class LastImageCache:
    """Reads images and caches the last one.

    Consecutive chips are often cut from the same image. An image whose file has changed
    is read again.

    Args:
        read: reads an image file.
    """

    def __init__(self, read: Callable[[Path], Pixels]) -> None:
        self.read = read
        self._key: object = None
        self._image: Pixels | None = None

    def __call__(self, path: Path) -> Pixels:
        """Return the image at `path`.

        Returns:
            Pixels (H, W, B); callers must not change them.

        Raises:
            DataError: `read` raised it.
        """
        key = path, file_state(path)
        if self._image is None or self._key != key:
            self._image = None  # frees the memory before the next image is decoded
            self._image = self.read(path)
            self._key = key
        return self._image


_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_HTTP = re.compile(r"https?://", re.IGNORECASE)
# at least two letters: C:\ is a drive
_SUBDATASET = re.compile(r"([A-Za-z][A-Za-z0-9_]+):(?!//)(.+)", re.DOTALL)
_NETWORK_PREFIX = re.compile(
    r"/vsi(curl|s3|gs|az|adls|oss|swift|hdfs|webhdfs)(_streaming)?[/?]"
)
_BUCKETS = {"s3": "/vsis3/", "gs": "/vsigs/", "az": "/vsiaz/"}
_UNSAFE = re.compile(r"[^\w.+-]+")  # in names of files


@dataclass(frozen=True, order=True, slots=True)
class SceneUri:
    """The name of a scene: a path, or a name that GDAL resolves.

    Its text is what the user gave: a path, `https://...`, `s3://bucket/key`,
    `/vsizip/a.zip/b.tif`, or a subdataset such as `NETCDF:"a.nc":VV`. An existing file
    is always a path. `str` leaves out user names, passwords and signed queries, so that
    they do not get into tables and messages.

    Attributes:
        text: the name.

    Example:
        >>> SceneUri("https://example.com/s1/a%20b.tif?sig=secret").name
        'a b.tif'
    """

    text: str

    @classmethod
    def parse(cls, value: str | Path | SceneUri) -> SceneUri:
        """Return the scene that a text or a path names.

        Raises:
            RequestError: the text begins like an address, but is none, or contains a
                zero byte.
        """
        if isinstance(value, SceneUri):
            return value
        text = str(value)
        if "\0" in text:
            raise RequestError(
                "the name of a scene contains a zero byte", text, "correct the name"
            )
        address = _HTTP.search(text)
        try:
            urlsplit(text[address.start() :] if address else "")
        except ValueError as error:
            raise RequestError(
                f"this is not an address: {error}", text, "correct the address"
            ) from error
        if text.lower().startswith("file://"):
            text = unquote(urlsplit(text).path)
            if is_windows():  # /C:/scene.tif
                text = text.removeprefix("/")
        if cls(text).is_path:
            return cls(str(Path(text)))
        return cls(text)

    @property
    def is_path(self) -> bool:
        """Whether the name is a path, which may or may not exist."""
        text = self.text
        if text.startswith("/"):
            return not text.startswith("/vsi") or exists(text)
        is_name = _URL.match(text) or _SUBDATASET.match(text)
        return not is_name or exists(text)

    @property
    def path(self) -> Path | None:
        """The local file or folder that contains the scene.

        It is None if the scene is on a server, or in a missing archive.
        """
        if self.is_path:
            return Path(self.text)
        if self.is_remote or _URL.match(self.text):
            return None
        if self.text.startswith("/vsi"):
            return _containing_file(self.text)
        container = _split_subdataset(self.text)[0]
        return SceneUri(container).path if container else None

    @property
    def is_remote(self) -> bool:
        """Whether the scene is read over a network."""
        if self.is_path:
            return False
        is_bucket = self.text.partition("://")[0].lower() in _BUCKETS
        return bool(
            is_bucket or _HTTP.search(self.text) or _NETWORK_PREFIX.search(self.text)
        )

    @property
    def url(self) -> str | None:
        """The http address of the file that contains the scene; None without one."""
        address = self._address
        if not address or self.text.startswith("/vsicurl?"):
            return None
        if not self.text.startswith(address):
            # behind a prefix, the path of a member may follow
            address = re.sub(
                r"(\.zip|\.tar|\.tgz|\.tar\.gz)/.*", r"\1", address, flags=re.IGNORECASE
            )
        scheme, separator, name = address.partition("://")
        return quote_url(scheme.lower() + separator + name)

    @property
    def _address(self) -> str:
        """The http address in the text, with all that follows it; "" without one."""
        match = None if self.is_path else _HTTP.search(self.text)
        return re.split(r'["}]', self.text[match.start() :])[0] if match else ""

    @property
    def gdal_name(self) -> str:
        """The name under which GDAL opens the scene."""
        if self.is_path:
            return self.text
        if _HTTP.match(self.text):
            name = f"/vsicurl/{self.url}"
            is_archive = urlsplit(self.text).path.lower().endswith(".zip")
            return f"/vsizip/{{{name}}}" if is_archive else name
        scheme, _, key = self.text.partition("://")
        if scheme.lower() in _BUCKETS:
            return _BUCKETS[scheme.lower()] + key
        return self.text

    @property
    def name(self) -> str:
        """Short name for tables: the file name, with the variable of a subdataset."""
        if self.is_path:
            return Path(self.text).name
        if _URL.match(self.text):
            address = urlsplit(self.text)
            file_name = PurePosixPath(unquote(address.path)).name
            return file_name or address.netloc.rpartition("@")[2]
        if self.text.startswith("/vsi"):
            return PurePosixPath(str(self).rstrip("/}")).name
        container, variable = _split_subdataset(self.text)
        if container:
            return f"{SceneUri(container).name}:{variable}"
        return self.text

    @property
    def stem(self) -> str:
        """Name without suffix for chips and output files.

        The last part of the variable of a subdataset follows after an underscore.
        """
        if self.is_path:
            return Path(self.text).stem
        container, variable = _split_subdataset(self.text)
        if _URL.match(self.text) or self.text.startswith("/vsi") or not container:
            return _UNSAFE.sub("_", PurePosixPath(self.name).stem)
        stem = f"{SceneUri(container).stem}_{PurePosixPath(variable).name}"
        return _UNSAFE.sub("_", stem)

    def __str__(self) -> str:
        address = self._address
        return self.text.replace(address, public_url(address)) if address else self.text

    def absolute(self) -> SceneUri:
        """Return the same name with an absolute path. Only paths change."""
        if not self.is_path:
            return self
        return SceneUri(str(Path(self.text).absolute()))

    def state(self) -> tuple[object, ...] | None:
        """Return values that change with the content of the scene.

        Returns:
            Size and modification time of a local file; size and version (ETag or date)
            of a file on a web server; None for other servers.

        Raises:
            NetworkError: a web server does not send the file.
        """
        if self.is_path:
            return file_state(self.text)
        if self.url:
            remote = probe_url(self.url)
            return (remote.size, remote.version) if remote else None
        path = self.path
        return file_state(path) if path else None


def names_servers(path: Path) -> bool:
    """Return whether a local file is a STAC item with an asset on a server."""
    try:
        if path.suffix.lower() not in (".json", ".geojson") or not path.is_file():
            return False
        item = load_json(path)
        if "stac_version" not in item:
            return False
        addresses = [str(asset["href"]) for asset in item["assets"].values()]
        return any(SceneUri(address).is_remote for address in addresses)
    # the reader of items reports it
    except (DataError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _containing_file(text: str) -> Path | None:
    """Return the archive in a name such as /vsizip/a.zip/b.tif; None without a file."""
    name = re.sub(r"^(/vsi\w+/)+", "", text)
    # the second slash of /vsizip//a/b.zip begins the path
    if name.startswith("{"):
        name = name[1:].partition("}")[0]
    path = Path(name)
    return next(filter(Path.is_file, (path, *path.parents)), None)


def _split_subdataset(text: str) -> tuple[str, str]:
    """Split a name such as NETCDF:"a.nc":VV into the file and the variable.

    Both are empty if it is something else.
    """
    match = _SUBDATASET.fullmatch(text)
    if not match:
        return "", ""
    body = match[2]
    if body.startswith('"') and '"' in body[1:]:
        container, _, variable = body[1:].partition('"')
        return container, variable.strip(":/")
    parts = body.split(":")
    count = len(parts)
    while count > 1 and not exists(":".join(parts[:count])):  # a name may have colons
        count -= 1
    return ":".join(parts[:count]), ":".join(parts[count:]).strip(":/")
