"""Silence Lightning while rsft trains."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_LOGGERS = ("lightning.pytorch", "lightning.fabric")

_EXPECTED_WARNINGS = (
    ".*num_workers.*",  # `data.workers` is the user's choice
    ".*eval mode.*",  # the frozen backbone stays in evaluation mode
    ".*LeafSpec.*",
    ".*yielded None.*",  # the loader of a resumed epoch yields None for finished batches
)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Hide Lightning's banners, and its warnings about intended behavior of rsft, until the block ends.

    Yields:
        Nothing; log levels and warning filters are restored at the end.
    """
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for message in _EXPECTED_WARNINGS:
                warnings.filterwarnings("ignore", message=message, module="lightning")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
