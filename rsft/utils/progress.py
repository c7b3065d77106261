"""Report the progress of a task."""

from rsft.types import Progress


def announce(progress: Progress | None, task: str) -> None:
    """Report that a task of unknown length begins."""
    if progress is not None:
        progress(0, 0, task)
