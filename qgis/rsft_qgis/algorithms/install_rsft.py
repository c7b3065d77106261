"""The algorithm that installs rsft."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from qgis.core import (
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingOutputString,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterFile,
    QgsProcessingParameterString,
)

from ..executable import find_executable
from ..install import FREE_GB, find_python, install
from ..process import RsftCanceledError, RsftFailedError
from .base import RsftAlgorithm, failure, own_environment


class InstallRsft(RsftAlgorithm):
    """Install rsft with pip, after the user has agreed."""

    AGREE = "AGREE"
    PACKAGE = "PACKAGE"
    PYTHON = "PYTHON"
    OPTIONS = "OPTIONS"
    EXECUTABLE = "EXECUTABLE"

    def name(self) -> str:
        """Return the second part of rsft:install."""
        return "install"

    def displayName(self) -> str:
        """Return the name in the toolbox."""
        return "Install rsft into its own environment"

    def shortDescription(self) -> str:
        """Return the tooltip in the toolbox."""
        return (
            "Make a Python environment in the profile folder, and install rsft with"
            " pip."
        )

    def shortHelpString(self) -> str:
        """Return the text beside the dialog."""
        return (
            f"<p>Makes the Python environment {own_environment()} and installs rsft and"
            " its packages with pip. They come from the Python Package Index"
            f" (pypi.org): up to 3 GB, {FREE_GB} GB on the disk. Nothing is installed"
            " into QGIS, and no data are sent.</p><p><b>Cancel</b> stops; run it again"
            " to continue, or to update. To remove rsft, delete the folder.</p>"
        )

    def canExecute(self) -> tuple[bool, str]:
        """Return True: rsft need not be there."""
        return True, ""

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:
        """Add the parameters and the output."""
        self.add(
            QgsProcessingParameterBoolean(
                self.AGREE, "Download rsft and its packages from pypi.org", False
            ),
            "Nothing is downloaded without this check mark.",
        )
        self.add(
            QgsProcessingParameterString(self.PACKAGE, "Package", "rsft"),
            "Name and version as for pip, such as rsft==0.2.0, or the path of a wheel"
            " (rsft-...-py3-none-any.whl).",
        )
        self.add(
            # the default filter *.* refuses names without a dot
            QgsProcessingParameterFile(
                self.PYTHON, "Python", optional=True, fileFilter="Programs (*)"
            ),
            "A Python 3.11 or later for the environment; empty: that of QGIS, or one on"
            " PATH.",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterString(
                self.OPTIONS, "Options of pip", "", optional=True
            ),
            "Such as --extra-index-url https://download.pytorch.org/whl/cpu for a"
            " PyTorch without GPU (smaller).",
            advanced=True,
        )
        self.addOutput(QgsProcessingOutputString(self.EXECUTABLE, "Executable"))

    def fault(self, parameters: dict[str, Any], context: QgsProcessingContext) -> str:
        """Return what the user must agree to; empty if the user did."""
        agrees = self.parameterAsBool(parameters, self.AGREE, context)
        if agrees:
            return ""
        return (
            "Check the box to download rsft and its packages. Nothing was downloaded."
        )

    def processAlgorithm(
        self,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> dict[str, Any]:
        """Install rsft.

        Returns:
            The path of the executable.

        Raises:
            QgsProcessingException: it could not be installed, or the user stopped it.
        """
        package = self.parameterAsString(parameters, self.PACKAGE, context).strip()
        options = self.parameterAsString(parameters, self.OPTIONS, context).strip()
        folder = Path(own_environment())
        try:
            python = find_python(self.parameterAsFile(parameters, self.PYTHON, context))
            feedback.pushInfo(f"Python: {python}")
            install(python, folder, package, shlex.split(options), feedback)
        except (RsftFailedError, RsftCanceledError) as error:
            raise failure(str(error)) from error
        executable = find_executable(str(folder))
        feedback.pushInfo(
            f"rsft is installed: {executable}. The other algorithms find it by"
            " themselves."
        )
        return {self.EXECUTABLE: executable}
