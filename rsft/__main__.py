"""`python -m rsft` is `rsft`."""

from rsft.cli import main

main()
