"""What the process of a reader cell says about errors and iterators."""

import pytest

from rsft.errors import DataError
from rsft.utils.cell.server import describe_error, take


class UnknownError(FileNotFoundError):
    """An error of a library."""


@pytest.mark.parametrize(
    ("error", "described"),
    [
        (DataError("a fault", "a.tif"), ("rsft.errors", "DataError")),
        (UnknownError(2, "No such file", "a"), ("builtins", "FileNotFoundError")),
        (OSError(5, "no answer"), ("builtins", "OSError")),
        (KeyError(object), ("builtins", "KeyError")),
    ],
)
def test_an_error_has_a_class_that_the_command_knows(error, described):
    module, name, args, values, note = describe_error(error)
    assert (module, name) == described
    assert all(isinstance(argument, str | int) for argument in args)
    assert type(error).__name__ in note
    assert ("location" in values) == (module == "rsft.errors")
    if isinstance(error, OSError):
        assert args == tuple(filter(None, (*error.args[:2], error.filename)))


def test_items_are_taken_one_at_a_time():
    items = iter("a")
    assert [take(items), take(items)] == [(True, "a"), (False, None)]
