"""Questions to web servers about files, and their faults in words."""

import os

import pytest

from rsft import cli
from rsft.errors import DataError, NetworkError
from rsft.utils.remote_files import (
    HEAD_BYTES,
    NO_SERVERS,
    allow_servers,
    check_host,
    probe_url,
    public_url,
    read_url,
)
from rsft.utils.untrusted.gdal_drivers import LIMIT
from tests.helpers.file_server import serving_folder


@pytest.fixture
def server(tmp_path):
    (tmp_path / "a").write_bytes(bytes(range(250)) * 40)
    with serving_folder(tmp_path) as server:
        yield server


def test_first_bytes_of_a_file(server):
    remote = probe_url(server.url("a"))
    assert (
        remote.size == 10_000 and remote.sends_ranges and remote.version.startswith('"')
    )
    assert remote.head == (bytes(range(250)) * 40)[:HEAD_BYTES]
    server.ranges = False
    without = probe_url(server.url("a"))
    assert without == remote._replace(sends_ranges=False)


def test_small_files(server):
    assert read_url(server.url("a"), 10_000) == bytes(range(250)) * 40
    with pytest.raises(DataError, match="larger than 9,999 bytes"):
        read_url(server.url("a"), 9_999)
    with pytest.raises(NetworkError, match="answered 404 Not Found"):
        read_url(server.url("b"), 9)


def test_a_busy_server(server):
    server.statuses["a"] = 503
    with pytest.raises(
        NetworkError, match="answered 503 Service Unavailable"
    ) as caught:
        probe_url(server.url("a"))
    assert "same command again" in caught.value.hint


def test_a_login_in_the_environment_of_gdal(server, monkeypatch):
    server.statuses["a"] = 401
    with pytest.raises(
        NetworkError, match=r"answered 401 Unauthorized.*GDAL_HTTP_USERPWD"
    ):
        probe_url(server.url("a"))
    monkeypatch.setenv("GDAL_HTTP_USERPWD", "me:secret")
    assert probe_url(server.url("a")) is None


def test_redirects(server):
    """They stay on the host that the user named, or lead to a public one."""
    server.redirects |= {"b": server.url("a"), "c": "a", "loop": server.url("loop")}
    server.redirects |= {
        "local": f"http://localhost:{server.server_port}/a",
        "cloud": "http://169.254.169.254/a",
    }
    assert (
        read_url(server.url("b"), 10_000)
        == read_url(server.url("c"), 10_000)
        == bytes(range(250)) * 40
    )
    with pytest.raises(NetworkError, match="more than 5 redirects"):
        probe_url(server.url("loop"))
    server.requests.clear()
    for name, host in (("local", "localhost"), ("cloud", "169.254.169.254")):
        with pytest.raises(
            NetworkError,
            match=f"127.0.0.1 leads to {host}, which is not in the public Internet",
        ):
            probe_url(server.url(name))
    assert server.requests == ["GET local", "GET cloud"]
    check_host("http://8.8.8.8/a", server.url("a"))
    check_host("https://this-name-does-not-exist.invalid/a", "")


def test_no_argument_names_a_server(server, monkeypatch):
    monkeypatch.setenv(NO_SERVERS, "-")
    with pytest.raises(NetworkError, match="no argument of the command names one"):
        probe_url(server.url("a"))
    assert server.requests == []


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "http://127.0.0.1:9/a?sig=1",
            "127.0.0.1 cannot be reached: Connection refused",
        ),
        ("https:///a", "No host supplied"),
    ],
)
def test_no_server(url, message):
    with pytest.raises(NetworkError, match=message) as caught:
        probe_url(url)
    assert "sig" not in caught.value.location


@pytest.mark.parametrize(
    ("url", "public"),
    [
        ("https://h.org/a.tif", "https://h.org/a.tif"),
        ("https://me:pw@h.org:8/a.tif?x=1", "https://h.org:8/a.tif?x=1"),
        ("https://h.org/a.tif?X-Amz-Date=1&X-Amz-Signature=2", "https://h.org/a.tif"),
        ("https://h.org/a.tif?st=1&sig=2", "https://h.org/a.tif"),
    ],
)
def test_addresses_without_secrets(url, public):
    assert public_url(url) == public


def test_no_command_asks_a_server_by_default(monkeypatch):
    """Not only those that take scenes: evaluate, export, report, finetune and data read
    foreign files as well."""
    settings = []
    monkeypatch.setenv(LIMIT, "limited")
    monkeypatch.delenv(NO_SERVERS, raising=False)
    monkeypatch.setattr(
        cli, "main", lambda uses_cell: settings.append(os.environ[NO_SERVERS])
    )
    cli.run()
    monkeypatch.setenv(NO_SERVERS, "/vsicurl/https://example.com/")
    cli.run()
    allow_servers()
    assert [*settings, os.environ[NO_SERVERS]] == [
        "-",
        *["/vsicurl/https://example.com/"] * 2,
    ]
    monkeypatch.setenv(NO_SERVERS, "-")
    allow_servers()
    assert NO_SERVERS not in os.environ
