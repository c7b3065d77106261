"""Flags stand anywhere on the command line."""

import pytest

from rsft.cli.flags import FLAGS, Flags, take_flags


def test_flags_are_taken_from_any_place():
    words, flags = take_flags(["--json", "predict", "a", "-q", "b", "--overwrite"])
    assert words == ["predict", "a", "b"]
    assert flags == Flags(as_json=True, quiet=True, overwrite=True)


def test_words_behind_two_hyphens_are_arguments():
    words, flags = take_flags(["predict", "--", "--json", "-q"])
    assert words == ["predict", "--", "--json", "-q"] and flags == Flags()


def test_only_the_caller_says_that_a_process_is_fenced():
    assert take_flags(["--uses_cell"]) == (["--uses_cell"], Flags())
    assert take_flags([], uses_cell=True)[1] == Flags(uses_cell=True)


@pytest.mark.parametrize(("word", "name"), FLAGS.items())
def test_every_flag_sets_its_field(word, name):
    assert take_flags([word]) == ([], Flags(**{name: True}))
