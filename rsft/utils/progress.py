"""Report the progress of a task."""

from rsft.types import Progress


def announce(progress: Progress | None, task: str) -> None:
    """Report that a task of unknown length begins, so that a display can say what a command waits for."""
    if progress is not None:
        progress(0, 0, task)
