"""Run programs as a user without a name and a home, as containers with `--user NUMBER`
do."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

NUMBER = 54321

_AS_ROOT = (
    "setpriv",
    f"--reuid={NUMBER}",
    f"--regid={NUMBER}",
    "--clear-groups",
    # root's interpreter stays readable, but only files of the user can be written
    "--inh-caps=-all,+dac_read_search",
    "--ambient-caps=-all,+dac_read_search",
    "--bounding-set=-all,+dac_read_search",
)
_AS_USER = ("unshare", "--user", f"--map-user={NUMBER}", f"--map-group={NUMBER}")


def find_prefix() -> Sequence[str]:
    """Return the words before a command that run it as such a user; none if this system
    does not allow it."""
    prefix = _AS_USER if os.geteuid() else _AS_ROOT
    if shutil.which(prefix[0]) is None:
        return ()
    done = subprocess.run(
        [*prefix, sys.executable, "-c", "pass"], capture_output=True, check=False
    )
    return () if done.returncode else prefix


def give_folders(*folders: Path) -> None:
    """Let the user write folders of root."""
    for folder in folders if os.geteuid() == 0 else ():
        os.chown(folder, NUMBER, NUMBER)
