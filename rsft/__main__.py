"""`rsft`, and `python -m rsft`."""

import gc

# the modules of a start leave no garbage: a search for it takes 5 % of the start
gc.disable()
from rsft.cli import run  # noqa: E402

gc.freeze()
gc.enable()

if __name__ == "__main__":
    run()
