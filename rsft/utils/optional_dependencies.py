"""Packages that rsft works without."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import Any

from rsft.errors import RequestError


def require(module: str, extra: str) -> Any:
    """Import a module that is no dependency of rsft.

    Args:
        module: a package, or a module of one.
        extra: the extra of rsft that installs it; "" if none does.

    Returns:
        The module.

    Raises:
        RequestError: it cannot be imported; the hint says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise RequestError(f"{package} cannot be imported: {error}", "", _install_hint(package, extra)) from error


def check_installed(extra: str, *packages: str) -> None:
    """Raise an error if a package is missing; nothing is imported.

    Args:
        extra: the extra of rsft that installs them.
        packages: names of packages.

    Raises:
        RequestError: a package is missing; the hint says how to install it.
    """
    if missing := [name for name in packages if find_spec(name) is None]:
        raise RequestError(f"this needs {', '.join(missing)}", hint=_install_hint(missing[0], extra))


def _install_hint(package: str, extra: str) -> str:
    return f"pip install 'rsft[{extra}]'" if extra else f"pip install {package}"
