"""Ray is started without a word, or refused with one."""

import os

import pytest

from rsft.errors import RequestError
from rsft.utils import ray_cluster


def test_what_is_not_installed(monkeypatch):
    ray_cluster.require("ray", "json")
    with pytest.raises(RequestError, match=r"needs no_such_thing .*rsft\[ray\]"):
        ray_cluster.require("ray", "json", "no_such_thing")


def test_no_cluster_at_the_address(monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(os, "environ", dict(os.environ))
    told = []

    def refuse(address, **options):
        told.append((address, options["log_to_driver"], os.environ["RAY_USAGE_STATS_ENABLED"]))
        raise ConnectionError("nobody answers")

    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(RequestError, match="Ray does not start: nobody answers"), ray_cluster.started("far:6379"):
        pytest.fail("it began")
    assert told == [("far:6379", False, "0")]
