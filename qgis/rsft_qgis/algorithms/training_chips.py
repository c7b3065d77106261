"""The algorithm that cuts training chips from a scene at the features of a layer."""

from __future__ import annotations

from functools import partial
from typing import Any

from qgis.core import (
    QgsProcessing,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingOutputFolder,
    QgsProcessingOutputNumber,
    QgsProcessingParameterEnum,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterField,
    QgsProcessingParameterFile,
    QgsProcessingParameterFolderDestination,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
)

from ..command_lines import (
    AS_DECLARED,
    UNITS,
    cut_command,
    name_parameters,
    raster_location,
)
from ..json_lines import Result
from ..process import run_job
from .base import RsftAlgorithm, call_rsft

_FORMATS = ["gpkg", "geojson", "shp"]
_SPLITS = ["object", "scene", "vessel", "given"]


class CutTrainingChips(RsftAlgorithm):
    """Cut a chip at each labeled feature of a layer, and build a chip store."""

    SCENE = "SCENE"
    FOLDER = "FOLDER"
    LABELS = "LABELS"
    FIELD = "FIELD"
    SIZE = "SIZE"
    BACKGROUND = "BACKGROUND"
    SPLIT = "SPLIT"
    UNIT = "UNIT"
    EXTRA = "EXTRA"

    def name(self) -> str:
        """Return the second part of rsft:cuttrainingchips."""
        return "cuttrainingchips"

    def displayName(self) -> str:
        """Return the name in the toolbox."""
        return "Cut training chips from a layer"

    def shortDescription(self) -> str:
        """Return the tooltip in the toolbox."""
        return (
            "Cut a chip at each labeled feature of a layer, to train a model on them."
        )

    def shortHelpString(self) -> str:
        """Return the text beside the dialog."""
        return (
            "<p>You have scenes, and a layer with the objects in them and their"
            " classes. A square image (chip) is cut at each object. The chips are a"
            " chip store, from which <i>rsft finetune</i> trains a"
            " model.</p><p><b>Scenes.</b> A raster layer, or a folder with several"
            " scenes and Sentinel-1 products (.SAFE). Products are calibrated to"
            " sigma0.</p><p><b>Training and validation.</b> With several scenes, choose"
            " <i>scene</i>: a scene is then used for one of both, and the accuracy that"
            " is measured is that in new scenes. In a single scene, only the objects"
            " can be divided, and the measured accuracy will be too high.</p><p>The log"
            " says what was left out, and why.</p>"
        )

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:
        """Add the parameters and outputs."""
        self.add(
            QgsProcessingParameterRasterLayer(self.SCENE, "Scene", optional=True),
            "A raster layer, or any raster that QGIS opens.",
        )
        self.add(
            QgsProcessingParameterFile(
                self.FOLDER,
                "Folder of scenes",
                QgsProcessingParameterFile.Folder,
                optional=True,
            ),
            "Instead of the scene above: a folder with scenes, which have different"
            " names.",
        )
        types = [QgsProcessing.TypeVectorPoint, QgsProcessing.TypeVectorPolygon]
        self.add(
            QgsProcessingParameterFeatureSource(self.LABELS, "Labeled objects", types),
            "Points, or boxes around the objects, in any coordinate system.",
        )
        self.add(
            QgsProcessingParameterField(
                self.FIELD, "Field with the class", None, self.LABELS
            ),
            "The class of each object. Objects without a class are left out and"
            " counted.",
        )
        self.add(
            QgsProcessingParameterString(self.SIZE, "Chip size", optional=True),
            "Pixels, such as 64, or meters, such as 640m. Empty: it fits the boxes; 64"
            " pixels for points.",
        )
        self.add(
            QgsProcessingParameterNumber(
                self.BACKGROUND,
                "Background chips per scene",
                defaultValue=0,
                minValue=0,
            ),
            "Chips away from all objects, as a class of their own.",
        )
        self.add(
            QgsProcessingParameterEnum(
                self.SPLIT,
                "Divide between training and validation",
                _SPLITS,
                defaultValue=0,
                usesStaticStrings=False,
            ),
            "Objects, whole scenes, vessels (field mmsi), or as the field split says.",
        )
        self.add(
            QgsProcessingParameterEnum(
                self.UNIT,
                "Unit",
                [AS_DECLARED, *UNITS],
                defaultValue=AS_DECLARED,
                usesStaticStrings=True,
            ),
            "Declare the unit if an error says that the scene has none.",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterString(
                self.EXTRA, "Further options of rsft prepare scenes", optional=True
            ),
            "As typed in a shell, for instance: --types types.yaml --bands VV",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterFolderDestination(self.OUTPUT, "Chip store"),
            "Folder to create. The log shows how to train on it.",
        )
        self.addOutput(QgsProcessingOutputFolder("STORE", "Chip store"))
        self.addOutput(QgsProcessingOutputNumber("CHIPS", "Number of chips"))
        self.addOutput(
            QgsProcessingOutputNumber("REJECTED", "Number of rejected objects")
        )

    def fault(self, parameters: dict[str, Any], context: QgsProcessingContext) -> str:
        """Return that there is no scene, or two."""
        layer = self.parameterAsRasterLayer(parameters, self.SCENE, context)
        folder = self.parameterAsFile(parameters, self.FOLDER, context)
        if (layer is None) == bool(folder):
            return ""
        return "Choose either a scene or a folder of scenes."

    def processAlgorithm(
        self,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> dict[str, Any]:
        """Cut the chips.

        Returns:
            The chip store and the numbers of chips.

        Raises:
            QgsProcessingException: rsft failed.
        """
        layer = self.parameterAsRasterLayer(parameters, self.SCENE, context)
        folder = str(self.parameterAsFile(parameters, self.FOLDER, context))
        labels, name = self.parameterAsCompatibleSourceLayerPathAndLayerName(
            parameters, self.LABELS, context, _FORMATS, "gpkg", feedback
        )
        store = str(self.parameterAsString(parameters, self.OUTPUT, context))
        unit = self.parameterAsEnumString(parameters, self.UNIT, context)
        options = {
            "--at": labels,
            "--layer": name,
            "--field": self.parameterAsString(parameters, self.FIELD, context),
            "--size": self.parameterAsString(parameters, self.SIZE, context).strip(),
            "--background": (
                self.parameterAsInt(parameters, self.BACKGROUND, context) or None
            ),
            "--split": _SPLITS[self.parameterAsEnum(parameters, self.SPLIT, context)],
            "--unit": None if unit == AS_DECLARED else unit,
        }
        if layer is None:
            scenes = folder
        else:
            scenes = raster_location(layer.source())
        extra = self.parameterAsString(parameters, self.EXTRA, context)
        command = cut_command(self.executable(), scenes, store, options, extra)
        result: Result = call_rsft(
            partial(run_job, canceled="canceled; the same job continues"),
            command,
            feedback,
        )
        for row in result.fields.get("classes") or []:
            feedback.pushInfo(f"{row['split']}: {row['chips']} {row['class']}")
        for reason, count in (result.fields.get("skipped") or {}).items():
            feedback.pushWarning(name_parameters(f"left out: {count} x {reason}"))
        rejected = result.count("rejected")
        if rejected:
            feedback.pushWarning(
                f"{rejected} objects were rejected: see rejected.csv in the chip store"
            )
        for note in result.notes:
            feedback.pushInfo(name_parameters(note))
        feedback.pushInfo(f"train on them: rsft finetune {store}")
        return {
            self.OUTPUT: store,
            "STORE": store,
            "CHIPS": result.count("chips"),
            "REJECTED": rejected,
        }
