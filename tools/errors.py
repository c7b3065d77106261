"""Print the errors of a tool as the command line of rsft does."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rsft.cli.display.failures import explain, show_error
from rsft.errors import RsftError


@contextmanager
def explained_errors() -> Iterator[None]:
    """End the process with the message, the location and the hint of an error that rsft or the system raises.

    Other exceptions are faults of the tool, and keep their traceback.
    """
    try:
        yield
    except (RsftError, OSError) as error:
        explained = explain(error)
        if explained is None:
            raise
        show_error(explained)
        sys.exit(explained.exit_code)
