"""A session of Ray starts quietly, or raises a clear error."""

import os

import pytest

from rsft.errors import RequestError
from rsft.utils.ray_cluster import session
from tests.helpers.messages import mentions


def test_a_machine_that_is_too_busy(monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(os, "environ", dict(os.environ))

    def time_out(*_, **__):
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "init", time_out)
    with (
        pytest.raises(RequestError, match="timed out during startup") as caught,
        session.ray_session(None),
    ):
        pytest.fail("the session started")
    assert caught.value.hint == "wait until the machine is less busy"


def test_no_cluster_at_the_address(monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(os, "environ", dict(os.environ))
    calls = []

    def refuse(address, **options):
        calls.append(
            (address, options["log_to_driver"], os.environ["RAY_USAGE_STATS_ENABLED"])
        )
        raise ConnectionError("nobody answers")

    monkeypatch.setattr(ray, "init", refuse)
    refused = pytest.raises(RequestError, match=mentions("Ray", "nobody answers"))
    with refused, session.ray_session("far:6379"):
        pytest.fail("the session started")
    assert calls == [("far:6379", False, "0")]
    assert (
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "1"
    )  # listens where the cluster can reach it


def test_a_session_without_address_stays_on_the_loopback_interface(monkeypatch):
    ray = pytest.importorskip("ray")
    from ray._private import services

    monkeypatch.setattr(os, "environ", dict(os.environ) | {"RAY_ADDRESS": "far:6379"})
    calls = []
    monkeypatch.setattr(
        ray,
        "init",
        lambda address, **_: calls.append((address, services.get_node_ip_address())),
    )
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with session.ray_session(None):
        assert os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"
    assert calls == [("local", "127.0.0.1")]
