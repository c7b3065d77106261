"""The fence of the kernel: what it hides, and what is said about it."""

import errno
import multiprocessing
import socket

import pytest

from rsft.errors import RequestError
from rsft.utils import fence
from rsft.utils.fence import (
    enter_fence,
    explain_fence,
    fence_version,
    hidden_error,
    is_hidden,
    outside_hint,
)
from tests.helpers.messages import mentions

NEEDS_FENCE = pytest.mark.skipif(
    not fence_version(), reason="the kernel has no Landlock"
)


def attempt(action):
    try:
        return action()
    except OSError as error:
        return type(error).__name__


def inside(queue, readable, writable, port):
    entered = enter_fence([readable, readable / "missing"], [writable], connects=False)
    actions = {
        "read": (readable / "a").read_text,
        "read written": (writable / "a").read_text,
        "write": lambda: (writable / "b").write_text("12"),
        "rename": lambda: (writable / "b").rename(writable / "c").name,
        "write to readable": lambda: (readable / "a").write_text("x"),
        "read outside": (readable.parent / "secret").read_text,
        "list outside": lambda: list(readable.parent.iterdir()),
        "connect": lambda: socket.create_connection(("127.0.0.1", port)),
    }
    results = {name: attempt(action) for name, action in actions.items()}
    queue.put((entered, results))


@NEEDS_FENCE
def test_only_the_named_folders_can_be_reached(tmp_path):
    for name in ("in", "out"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_text(name)
    (tmp_path / "secret").write_text("secret")
    with socket.create_server(("127.0.0.1", 0)) as server:
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        arguments = (
            queue,
            tmp_path / "in",
            tmp_path / "out",
            server.getsockname()[1],
        )
        process = context.Process(target=inside, args=arguments)
        process.start()
        entered, results = queue.get(timeout=60)
        process.join()
    assert entered
    expected = {
        "read": "in",
        "read written": "out",
        "write": 2,
        "rename": "c",
        "write to readable": "PermissionError",
        "read outside": "PermissionError",
        "list outside": "PermissionError",
    }
    connected = results.pop("connect")
    assert results == expected
    if fence_version() >= 4:
        assert connected == "PermissionError"


def test_without_landlock_nothing_is_limited(monkeypatch):
    monkeypatch.setattr(fence.sys, "platform", "darwin")
    assert fence_version() == 0 and fence.describe_fence() == ""
    assert enter_fence([], [], connects=False) is False


def test_a_hint_names_the_folder(tmp_path):
    (tmp_path / "a.tif").write_text("")
    for path in (tmp_path, tmp_path / "a.tif", tmp_path / "missing"):
        assert f"RSFT_FENCE={tmp_path}" in outside_hint(path)
    with pytest.raises(RequestError, match=mentions("fence", "a.tif")):
        raise hidden_error(tmp_path / "a.tif")


def test_only_files_that_the_user_may_read_are_hidden(tmp_path, monkeypatch):
    monkeypatch.setattr(fence, "describe_fence", lambda: "Landlock, version 4")
    path = tmp_path / "a"
    path.write_text("")
    denied = PermissionError(errno.EACCES, "denied", str(path))
    assert is_hidden(path) and explain_fence(denied).location == str(path)
    missing = PermissionError(errno.EACCES, "denied", str(tmp_path / "missing"))
    assert explain_fence(missing) is None
    assert explain_fence(FileNotFoundError(errno.ENOENT, "no", str(path))) is None
    assert explain_fence(PermissionError(errno.EACCES, "denied")) is None
    monkeypatch.setattr(fence, "describe_fence", lambda: "")
    assert explain_fence(denied) is None
