"""The algorithm that names the ships in a scene by AIS messages."""

from __future__ import annotations

from functools import partial
from typing import Any

from qgis.core import (
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingOutputNumber,
    QgsProcessingParameterFile,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
)

from ..command_lines import command_words, name_parameters, raster_location
from ..json_lines import Result
from ..process import run_job
from .base import RsftAlgorithm, call_rsft, failure
from .predict import load_layers

LAYERS = ("shift", "ais_without_detection", "ambiguous", "no_ais", "matched")
"""Layers of the result, from the lowest one to the highest."""


class MatchAis(RsftAlgorithm):
    """Find the ships in a radar scene, and name each one by AIS messages."""

    SCENE = "SCENE"
    PRODUCT = "PRODUCT"
    AIS = "AIS"
    TIME = "TIME"
    CONFIDENCE = "CONFIDENCE"
    EXTRA = "EXTRA"
    COUNTS = {  # noqa: RUF012
        "MATCHED": "matched",
        "AMBIGUOUS": "ambiguous",
        "NO_AIS": "no AIS",
    }
    """Output number -> key in the last line of rsft."""

    def name(self) -> str:
        """Return the second part of rsft:matchais."""
        return "matchais"

    def displayName(self) -> str:
        """Return the name in the toolbox."""
        return "Match AIS to a scene"

    def shortDescription(self) -> str:
        """Return the tooltip in the toolbox."""
        return "Find the ships in a radar scene, and name each one by its AIS messages."

    def shortHelpString(self) -> str:
        """Return the text beside the dialog."""
        return (
            "<p>You have a radar scene, and the AIS messages of ships around its time."
            " Bright objects on the water are detected, and each one gets the ship"
            " whose track leads there at the time of its line.</p><p><b>Moving"
            " ships</b> appear displaced along the flight direction. For Sentinel-1"
            " products (.SAFE), tracks are shifted to where the radar shows the ship;"
            " the layer <i>shift</i> draws this as arrows.</p><p><b>Result.</b> Layers"
            " of matched objects, of objects without AIS, of ships without an object,"
            " and of ambiguous objects with the reason.</p><p>The log says which"
            " messages were left out, and why.</p>"
        )

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:
        """Add the parameters and outputs."""
        self.add(
            QgsProcessingParameterRasterLayer(self.SCENE, "Scene", optional=True),
            "A raster layer, or any raster that QGIS opens, with a georeference.",
        )
        self.add(
            QgsProcessingParameterString(
                self.PRODUCT,
                "Scene that is not a layer (path or address)",
                optional=True,
            ),
            "Instead of the scene above: a Sentinel-1 product (.zip, .SAFE folder or"
            " manifest.safe).",
        )
        self.add(
            QgsProcessingParameterFile(self.AIS, "AIS messages"),
            "CSV (also packed as .gz, .zst or .zip) or Parquet, with columns such as"
            " MMSI, time, latitude, longitude.",
        )
        self.add(
            QgsProcessingParameterString(self.TIME, "Time of the scene", optional=True),
            "In UTC, such as 2021-01-19T03:16:53Z. Empty: that of the product.",
        )
        self.add(
            QgsProcessingParameterNumber(
                self.CONFIDENCE,
                "Smallest confidence of a match",
                QgsProcessingParameterNumber.Double,
                defaultValue=0.9,
                minValue=0.5,
                maxValue=0.999,
            ),
            "Pairs with a smaller confidence are ambiguous.",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterString(
                self.EXTRA, "Further options of rsft ais match", optional=True
            ),
            "As typed in a shell, for instance: --land none --pfa 1e-5",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterFileDestination(
                self.OUTPUT, "Matches", "GeoPackages (*.gpkg)"
            ),
            "It opens as five layers with styles.",
        )
        for name, key in self.COUNTS.items():
            self.addOutput(QgsProcessingOutputNumber(name, f"Number of objects: {key}"))

    def fault(self, parameters: dict[str, Any], context: QgsProcessingContext) -> str:
        """Return that no scene or two scenes are given."""
        given = [name for name in (self.SCENE, self.PRODUCT) if parameters.get(name)]
        if len(given) == 1:
            return ""
        return "Give either a scene or a scene that is not a layer."

    def processAlgorithm(
        self,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> dict[str, Any]:
        """Run rsft.

        Returns:
            The GeoPackage and the numbers of objects.

        Raises:
            QgsProcessingException: a parameter is wrong, or rsft failed.
        """
        scene = str(self.parameterAsString(parameters, self.PRODUCT, context))
        if not scene:
            layer = self.parameterAsRasterLayer(parameters, self.SCENE, context)
            if layer is None or layer.providerType() != "gdal":
                raise failure(
                    "rsft reads rasters in files and on file servers, but not this"
                    " layer."
                )
            scene = raster_location(layer.source())
        output = self.parameterAsFileOutput(parameters, self.OUTPUT, context)
        options = {
            "--ais": self.parameterAsFile(parameters, self.AIS, context),
            "--time": self.parameterAsString(parameters, self.TIME, context),
            "--min-confidence": self.parameterAsDouble(
                parameters, self.CONFIDENCE, context
            ),
        }
        extra = self.parameterAsString(parameters, self.EXTRA, context)
        words = ["ais", "match", scene, "--out", output, "--overwrite", "--json"]
        command = [self.executable(), *words, *command_words(options, extra)]
        result: Result = call_rsft(
            partial(run_job, canceled="canceled; nothing was written"),
            command,
            feedback,
        )
        for name, count in (result.fields.get("left_out") or {}).items():
            if count:
                feedback.pushInfo(f"left out: {count} {name}")
        for note in result.notes:
            feedback.pushInfo(name_parameters(note))
        load_layers(output, LAYERS, context)
        return {
            self.OUTPUT: output,
            **{name: result.count(key) for name, key in self.COUNTS.items()},
        }
