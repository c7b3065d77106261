"""Errors in Python name arguments, not options."""

import pytest

from rsft.errors import DataError
from rsft.inference.predict.python_words import name_arguments, python_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("with --unit: db", "with `unit`: db"),
        ("--resample-to 10, --at or --grid 8", "`resample_to` 10, `at` or `grid` 8"),
        ("the file a--b.tif", "the file a--b.tif"),
        (
            "rsft export RUN --format onnx; --unit",
            "rsft export RUN --format onnx; `unit`",
        ),
        ("nothing", "nothing"),
        ("(--unit)", "(`unit`)"),
    ],
)
def test_options_become_arguments(text, words):
    assert name_arguments(text) == words


def test_errors_keep_their_class():
    with pytest.raises(DataError) as error, python_words():
        raise DataError("--bands differ", "a.tif", "leave out --bands")
    assert str(error.value) == "`bands` differ | a.tif | leave out `bands`"
