"""What all algorithms share: the bundle, the executable, and errors of rsft as errors of Processing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from processing.core.ProcessingConfig import ProcessingConfig
from qgis.core import (
    QgsApplication,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterFile,
    QgsProject,
)
from qgis.PyQt.QtGui import QIcon

from ..command_lines import display_command, name_parameters
from ..executable import SETTING, ExecutableNotFoundError, find_executable
from ..process import RsftCanceledError, RsftFailedError

Value = TypeVar("Value")


class RsftAlgorithm(QgsProcessingAlgorithm):
    """An algorithm that calls the command `rsft`."""

    BUNDLE = "BUNDLE"
    OUTPUT = "OUTPUT"

    def createInstance(self) -> RsftAlgorithm:
        """Return a new instance."""
        return type(self)()

    def icon(self) -> QIcon:
        """Return the icon of the provider."""
        return QIcon(str(Path(__file__).parents[1] / "icon.svg"))

    def canExecute(self) -> tuple[bool, str]:
        """Return whether rsft was found, and otherwise what to do."""
        try:
            _find()
        except ExecutableNotFoundError as error:
            return False, str(error)
        return True, ""

    def fault(self, parameters: dict[str, Any], context: QgsProcessingContext) -> str:
        """Return what is wrong with the parameters, and what to do; empty if they can be used."""
        return ""

    def checkParameterValues(
        self, parameters: dict[str, Any], context: QgsProcessingContext
    ) -> tuple[bool, str]:
        """Return whether the parameters can be used, and otherwise `fault` or what QGIS says."""
        message = self.fault(parameters, context)
        if message:
            return False, message
        valid, message = super().checkParameterValues(parameters, context)
        return bool(valid), str(message)

    def executable(self) -> str:
        """Return the path of rsft.

        Raises:
            QgsProcessingException: it was not found.
        """
        try:
            return _find()
        except ExecutableNotFoundError as error:
            raise failure(str(error)) from error

    def add(
        self,
        parameter: QgsProcessingParameterDefinition,
        help_text: str,
        advanced: bool = False,
    ) -> None:
        """Add a parameter.

        Args:
            parameter: the parameter.
            help_text: shown in the dialog and by `qgis_process help`.
            advanced: whether the dialog hides it under "Advanced".
        """
        parameter.setHelp(help_text)
        if advanced:
            parameter.setFlags(
                parameter.flags() | QgsProcessingParameterDefinition.FlagAdvanced
            )
        self.addParameter(parameter)

    def add_bundle(self) -> None:
        """Add the parameter of the bundle."""
        self.add(
            QgsProcessingParameterFile(
                self.BUNDLE, "Bundle (trained model)", QgsProcessingParameterFile.Folder
            ),
            "Folder of a model that rsft trained: runs/NAME/NUMBER/bundle, the run"
            " folder above it, or runs/NAME for the newest run.",
        )

    def bundle(self, parameters: dict[str, Any], context: QgsProcessingContext) -> str:
        """Return the folder of the bundle."""
        return str(self.parameterAsFile(parameters, self.BUNDLE, context))


def call_rsft(
    run: Callable[[list[str], QgsProcessingFeedback], Value],
    command: list[str],
    feedback: QgsProcessingFeedback,
) -> Value:
    """Show a command and run it.

    Args:
        run: `run_job` or `run_json`.
        command: the command line.
        feedback: receives the progress.

    Returns:
        What `run` returns.

    Raises:
        QgsProcessingException: the command failed, or the user stopped it.
    """
    feedback.pushCommandInfo(display_command(command))
    try:
        return run(command, feedback)
    except (RsftFailedError, RsftCanceledError) as error:
        raise failure(name_parameters(str(error))) from error


def failure(text: str) -> QgsProcessingException:
    """Return an error that appears once: qgis_process also prints QGIS's message log, which contains it twice."""
    if QgsApplication.platform() == "qgis_process":
        QgsApplication.messageLog().blockSignals(True)
    return QgsProcessingException(text)


def own_environment() -> str:
    """Return the folder of the environment that the plug-in makes, in the profile of the user."""
    return str(Path(QgsApplication.qgisSettingsDirPath()) / "rsft-environment")


def _find() -> str:
    setting = str(ProcessingConfig.getSetting(SETTING) or "")
    return find_executable(
        setting, own=own_environment(), project=QgsProject.instance().homePath()
    )
