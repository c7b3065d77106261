"""`python -m rsft` is `rsft`."""

from rsft.cli import run

run()
