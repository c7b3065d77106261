"""Find the command `rsft`, and make the environment in which it runs.

This module does not import QGIS.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

PROVIDER_NAME = "rsft"
"""Name of the provider and of the group of its setting."""

SETTING = "RSFT_EXECUTABLE"
"""Name of the setting: path of the executable, or of the environment that contains
it."""

_ENVIRONMENTS = (
    ".local/share/pipx/venvs/rsft",
    ".local/pipx/venvs/rsft",
    "pipx/venvs/rsft",
    ".local/share/uv/tools/rsft",
    "AppData/Roaming/uv/tools/rsft",
    "rsft/.venv",
    "rsft/venv",
    "rsft",
    ".virtualenvs/rsft",
    ".venvs/rsft",
    "venvs/rsft",
    ".venv",
    "venv",
    *(
        f"{folder}/envs/rsft"
        for folder in (
            "miniconda3",
            "anaconda3",
            "miniforge3",
            "mambaforge",
            "micromamba",
            ".conda",
        )
    ),
    *(
        f"AppData/Local/{folder}/envs/rsft"
        for folder in ("miniconda3", "anaconda3", "miniforge3")
    ),
)
"""Places of virtual environments below the home folder."""

_NAMES = ("rsft", "rsft.exe")

_OF_QGIS = (
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONEXECUTABLE",
    "PYTHONSTARTUP",
    "PYTHONNOUSERSITE",
    "GDAL_DATA",
    "GDAL_DRIVER_PATH",
    "PROJ_LIB",
    "PROJ_DATA",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "LD_LIBRARY_PATH",
)
"""Variables that QGIS sets for its own Python and libraries, which rsft must not
load."""


class ExecutableNotFoundError(Exception):
    """The command `rsft` is missing.

    The text says where it was searched and what to do.
    """


def find_executable(
    setting: str = "",
    home: Path | None = None,
    path: str | None = None,
    own: str = "",
    project: str = "",
) -> str:
    """Return the path of the command `rsft`.

    Args:
        setting: value of the setting: the executable, the Python beside it, a virtual
            environment, or empty to search.
        home: home folder; by default that of the user.
        path: folders to search, as in the variable PATH; by default those of PATH.
        own: the environment of the plug-in.
        project: folder of the project. An environment in it comes last, since a project
            may be a stranger's.

    Raises:
        ExecutableNotFoundError: the setting names no executable, or the search found
            none.
    """
    if setting.strip():
        named = Path(setting.strip()).expanduser()
        # if it names the Python of the environment
        beside = (named.parent / name for name in _NAMES)
        for candidate in (
            named,
            *_executables_in(named),
            *(beside if named.is_file() else ()),
        ):
            if candidate.name in _NAMES and _is_executable(candidate):
                return str(candidate)
        raise ExecutableNotFoundError(
            f"{named} is neither the rsft executable nor an environment that contains"
            " it. Correct the setting: Settings > Options > Processing > Providers >"
            " rsft."
        )
    on_path = shutil.which("rsft", path=path)
    if on_path:
        return on_path
    beside_project = (Path(project, ".venv"), Path(project, "venv")) if project else ()
    for folder in (
        *((Path(own),) if own else ()),
        *_environments(home or Path.home()),
        *beside_project,
    ):
        for candidate in _executables_in(folder):
            if _is_executable(candidate):
                return str(candidate)
    raise ExecutableNotFoundError(
        "The rsft executable was not found on PATH, in the usual environments and"
        " beside the project. Run the algorithm 'Install rsft into its own"
        " environment', or set its path: Settings > Options > Processing > Providers >"
        " rsft. The command `which rsft` (Windows: `where rsft`) prints it, if the"
        " environment of rsft is active."
    )


def rsft_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return environment variables for rsft: those of QGIS, without the ones that point to the libraries of QGIS.

    Args:
        variables: the variables of QGIS.
    """
    return {key: value for key, value in variables.items() if key not in _OF_QGIS} | {
        "PYTHONIOENCODING": "utf-8"
    }


def _environments(home: Path) -> Iterator[Path]:
    active = os.environ.get("CONDA_PREFIX")
    if active:
        yield Path(active)
    yield home / ".local"
    for folder in _ENVIRONMENTS:
        yield home / folder


def _executables_in(folder: Path) -> tuple[Path, ...]:
    return (
        folder / "bin/rsft",
        folder / "Scripts/rsft.exe",
        folder / "rsft",
        folder / "rsft.exe",
    )


def _is_executable(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)
