"""Plug-in for QGIS that classifies chips and scenes with rsft.

It starts the command `rsft` and never imports it.
"""

from __future__ import annotations

from typing import Any


def classFactory(iface: Any) -> Any:
    """Return the plug-in.

    Args:
        iface: the window of QGIS; None in qgis_process.
    """
    from .plugin import RsftPlugin

    return RsftPlugin()
