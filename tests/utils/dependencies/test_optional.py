"""Packages that are missing are named with the command that installs them."""

import json

import pytest

from rsft.errors import RequestError
from rsft.utils.dependencies import check_installed, require


def test_installed_packages_pass():
    check_installed("ray", "json")
    assert require("json", "ray") is json


def test_a_missing_package_is_named_with_its_extra():
    with pytest.raises(
        RequestError, match=r"not installed: no_such_thing .*rsft\[ray\]"
    ):
        check_installed("ray", "json", "no_such_thing")
    with pytest.raises(
        RequestError,
        match=r"no_such_thing cannot be imported.*pip install 'rsft\[ray\]'",
    ):
        require("no_such_thing.module", "ray")
    with pytest.raises(RequestError, match="pip install no_such_thing"):
        require("no_such_thing", "")
