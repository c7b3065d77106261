"""The algorithm that shows a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qgis.core import (
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingOutputString,
    QgsProcessingParameterFileDestination,
)

from ..bundle_page import bundle_page, bundle_texts
from ..command_lines import bundle_command
from ..process import run_json
from .base import RsftAlgorithm, call_rsft


class BundleInfo(RsftAlgorithm):
    """Show what a model takes and returns."""

    TEXTS = ("NAME", "CLASSES", "BANDS", "UNIT", "SIZE", "SPACING")

    def name(self) -> str:
        """Return the second part of rsft:bundleinfo."""
        return "bundleinfo"

    def displayName(self) -> str:
        """Return the name in the toolbox."""
        return "Bundle information"

    def shortDescription(self) -> str:
        """Return the tooltip in the toolbox."""
        return "Show the classes of a model, and what a scene must be."

    def shortHelpString(self) -> str:
        """Return the text beside the dialog."""
        return (
            "<p>A bundle is a model that rsft trained. Before you classify a scene,"
            " look here which classes the model knows, with how many training chips,"
            " and which bands, unit and pixel spacing a scene must have.</p><p>The page"
            " appears in the Results Viewer. In the model designer, the texts are also"
            " outputs.</p>"
        )

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:
        """Add the parameters and outputs."""
        self.add_bundle()
        self.add(
            QgsProcessingParameterFileDestination(
                self.OUTPUT, "Bundle information", "HTML files (*.html)"
            ),
            "Page with the description.",
        )
        for name in self.TEXTS:
            self.addOutput(QgsProcessingOutputString(name, name.capitalize()))

    def processAlgorithm(
        self,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> dict[str, Any]:
        """Describe the bundle.

        Returns:
            The page and the texts.

        Raises:
            QgsProcessingException: the folder contains no bundle, or rsft failed.
        """
        command = bundle_command(self.executable(), self.bundle(parameters, context))
        description = call_rsft(run_json, command, feedback)
        texts = bundle_texts(description)
        for name, text in texts.items():
            feedback.pushInfo(f"{name.lower()}: {text}")
        page = self.parameterAsFileOutput(parameters, self.OUTPUT, context)
        Path(page).write_text(bundle_page(description), encoding="utf-8")
        return {self.OUTPUT: page, **texts}
