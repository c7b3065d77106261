"""What the commands of all data sets share."""

import pytest

from rsft.data.prepare.store_build import StoreBuild, check_choice
from rsft.errors import RequestError


def test_the_command_names_source_and_options_that_are_set(tmp_path):
    options = {"version": "1.0", "lists": None, "val": 0.25, "one_class": True}
    build = StoreBuild("toy", tmp_path / "out", options, [tmp_path / "my ships"])
    assert build.command == (
        f"rsft prepare toy '{tmp_path}/my ships' --root {tmp_path}/out --version 1.0"
        " --val 0.25 --one-class"
    )
    assert build.find_finished() is None


def test_an_unknown_choice_names_the_option():
    check_choice(4, "--classes", (4, 5))
    with pytest.raises(RequestError, match="unknown value 3") as error:
        check_choice(3, "--classes", (4, 5))
    assert error.value.location == "--classes" and "4, 5" in error.value.hint
