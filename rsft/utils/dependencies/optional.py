"""Import optional dependencies; an error says how to install a missing one."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import Any

from rsft.errors import RequestError
from rsft.utils.dependencies.telemetry import disable_telemetry


def require(module: str, extra: str) -> Any:
    """Import a module of an optional dependency, without its telemetry.

    Args:
        module: dotted name of a package or module.
        extra: the extra of rsft that installs it; "" if no extra does.

    Returns:
        The module.

    Raises:
        RequestError: the module cannot be imported; the hint says how to install it.
    """
    package = module.partition(".")[0]
    disable_telemetry(package)
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise RequestError(f"{package} cannot be imported: {error}", "", _install_hint(package, extra)) from error


def check_installed(extra: str, *packages: str) -> None:
    """Raise an error if a package is not installed, without importing it.

    Args:
        extra: the extra of rsft that installs them.
        packages: names of packages.

    Raises:
        RequestError: a package is not installed; the hint says how to install it.
    """
    if missing := [name for name in packages if find_spec(name) is None]:
        raise RequestError(f"not installed: {', '.join(missing)}", hint=_install_hint(missing[0], extra))


def _install_hint(package: str, extra: str) -> str:
    return f"pip install 'rsft[{extra}]'" if extra else f"pip install {package}"
