"""Name folders that libraries can write, before they are imported.

Otherwise Matplotlib, Fontconfig and others print lines of their own, or fail: if the
home is read-only, or if a container has a user without a name and a home.
"""

import logging
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from platformdirs import user_cache_path, user_config_path

_log = logging.getLogger(__name__)

_WRITE = os.W_OK | os.X_OK


def set_user_folders() -> None:
    """Set the variables of the home, the caches and Matplotlib, where necessary.

    A folder for temporary files takes the place of a home that is unknown, and of
    caches that cannot be written, with a warning. Matplotlib gets a folder in rsft's
    cache, unless the user has one. No folder is made but the temporary one.

    Raises:
        OSError: no folder for temporary files can be written.
    """
    try:
        Path.home()
    except RuntimeError:  # the system does not know the user
        home = str(_temporary_folder())
        os.environ.update(HOME=home, USERPROFILE=home)  # Windows reads the second one
        _log.warning(
            "HOME is not set, and this user has no home: %s takes its place", home
        )
    cache = user_cache_path("rsft")
    if not _is_writable(cache):
        os.environ["XDG_CACHE_HOME"] = str(_temporary_folder() / "cache")
        _log.warning(
            "%s cannot be written: caches are in %s",
            cache,
            os.environ["XDG_CACHE_HOME"],
        )
    if not os.access(user_config_path("matplotlib"), _WRITE):
        os.environ.setdefault(
            "MPLCONFIGDIR", str(user_cache_path("rsft") / "matplotlib")
        )
    # it reports that it lists the fonts
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)


def weights_dir() -> Path:
    """Return the folder of downloaded weights: $RSFT_WEIGHTS, or in the cache."""
    return Path(os.environ.get("RSFT_WEIGHTS") or user_cache_path("rsft") / "weights")


def _is_writable(folder: Path) -> bool:
    """Return whether this user can write in a folder, or make it."""
    existing = next(
        parent for parent in (folder, *folder.parents) if os.access(parent, os.F_OK)
    )
    return os.access(existing, _WRITE) and existing.is_dir()


def _temporary_folder() -> Path:
    """Return the folder for temporary files that this user's commands share.

    Raises:
        OSError: no folder for temporary files can be written.
    """
    user = getattr(os, "getuid", int)()  # 0 on Windows, where users have a folder each
    folder = Path(tempfile.gettempdir(), f"rsft-{user}")
    with suppress(FileExistsError):
        folder.mkdir(0o700)
    status = folder.lstat()
    is_private = (
        stat.S_ISDIR(status.st_mode)
        and status.st_uid == user
        and not status.st_mode & 0o077
    )
    if is_private:
        return folder
    return Path(tempfile.mkdtemp(prefix="rsft-"))
