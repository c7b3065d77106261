"""The algorithms that classify a scene: at given positions, in tiles, and at detected objects."""

from __future__ import annotations

from typing import Any

from qgis.core import (
    QgsProcessing,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingParameterEnum,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterNumber,
)

from ..bundle_page import chip_side
from ..command_lines import (
    LAND_METHODS,
    bundle_command,
    detection_options,
    position_options,
    tile_options,
)
from ..process import run_json
from .base import call_rsft, failure
from .predict import PredictAlgorithm

_FORMATS = ["gpkg", "geojson", "shp"]


class ClassifyPoints(PredictAlgorithm):
    """Classify the objects of a point or polygon layer."""

    AT = "AT"
    MARGIN = "MARGIN"

    def name(self) -> str:
        """Return the second part of rsft:classifypoints."""
        return "classifypoints"

    def displayName(self) -> str:
        """Return the name in the toolbox."""
        return "Classify points or polygons on a scene"

    def shortDescription(self) -> str:
        """Return the tooltip in the toolbox."""
        return "Cut a chip at each feature of a layer and classify it."

    def shortHelpString(self) -> str:
        """Return the text beside the dialog."""
        return self.help_page(
            "You have a scene and the positions of objects, for instance ships. A"
            " square image (chip) is cut at each position, and the model names its"
            " class.",
            "All attributes of the positions are in the result. The column <i>at</i> is"
            " the feature id of the position, to join both layers. For temporary layers"
            " and with <i>Selected features only</i>, it is the id in a copy of the"
            " layer. Save edits first: rsft reads the file. Positions outside of the"
            " scene are counted and left out; if all are outside, this is an error.",
        )

    def add_locations(self) -> None:
        """Add the parameters of the positions."""
        types = [QgsProcessing.TypeVectorPoint, QgsProcessing.TypeVectorPolygon]
        self.add(
            QgsProcessingParameterFeatureSource(self.AT, "Positions", types),
            "Points, or boxes around the objects, in any coordinate system.",
        )
        self.add_side()
        self.add(
            QgsProcessingParameterNumber(
                self.MARGIN, "Margin around boxes in pixels", optional=True, minValue=0
            ),
            "For polygons: cut each chip along its polygon, with this margin. Leave the"
            " chip size empty then.",
            advanced=True,
        )

    def location_options(
        self,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> dict[str, object]:
        """Return --at with its options.

        A layer in another format or with a filter is copied into a GeoPackage.
        """
        path, layer = self.parameterAsCompatibleSourceLayerPathAndLayerName(
            parameters, self.AT, context, _FORMATS, "gpkg", feedback
        )
        return position_options(
            path,
            layer,
            self.integer(parameters, self.SIDE, context),
            self.integer(parameters, self.MARGIN, context),
        )


class ClassifyTiles(PredictAlgorithm):
    """Classify all tiles of a scene."""

    TILE = "TILE"
    STRIDE = "STRIDE"

    def name(self) -> str:
        """Return the second part of rsft:classifytiles."""
        return "classifytiles"

    def displayName(self) -> str:
        """Return the name in the toolbox."""
        return "Classify a scene by tiles"

    def shortDescription(self) -> str:
        """Return the tooltip in the toolbox."""
        return "Cut a scene into square tiles and classify each."

    def shortHelpString(self) -> str:
        """Return the text beside the dialog."""
        return self.help_page(
            "You have a scene and a model of surfaces, for instance land cover. The"
            " scene is cut into square tiles, and the model names the class of each"
            " tile.",
            "The result is a layer of squares. Tiles without data are counted and left"
            " out.",
        )

    def add_locations(self) -> None:
        """Add the parameters of the tiles."""
        self.add(
            QgsProcessingParameterNumber(
                self.TILE, "Tile size in pixels", optional=True, minValue=1
            ),
            "Empty: the size of the training chips, if the bundle has one. Otherwise"
            " use the size of your training chips.",
        )
        self.add(
            QgsProcessingParameterNumber(
                self.STRIDE, "Step between tiles in pixels", optional=True, minValue=1
            ),
            "Empty: the tile size, so tiles do not overlap. Half of the tile size gives"
            " four times as many tiles.",
        )

    def location_options(
        self,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> dict[str, object]:
        """Return --grid with its option."""
        tile = self.integer(parameters, self.TILE, context) or self._chip_side(
            parameters, context, feedback
        )
        return tile_options(tile, self.integer(parameters, self.STRIDE, context))

    def _chip_side(
        self,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> int:
        command = bundle_command(self.executable(), self.bundle(parameters, context))
        side = chip_side(call_rsft(run_json, command, feedback))
        if side is None:
            message = (
                "This bundle takes whole chips of any size: enter the size of your"
                " training chips in Tile size."
            )
            raise failure(message)
        return side


class DetectClassify(PredictAlgorithm):
    """Detect bright objects on water and classify them."""

    PFA = "PFA"
    LAND = "LAND"
    LAND_METHOD = "LAND_METHOD"

    def name(self) -> str:
        """Return the second part of rsft:detectclassify."""
        return "detectclassify"

    def displayName(self) -> str:
        """Return the name in the toolbox."""
        return "Detect and classify"

    def shortDescription(self) -> str:
        """Return the tooltip in the toolbox."""
        return "Detect bright objects on dark water (CFAR) and classify each."

    def shortHelpString(self) -> str:
        """Return the text beside the dialog."""
        return self.help_page(
            "You have a radar scene without positions. Bright objects on dark water are"
            " detected (cell-averaging CFAR), and the model names the class of each.",
            "The detector finds bright objects, not ships: also platforms, islets, ice"
            " and ghost images. Nothing is detected on land. If nothing was detected,"
            " the layer is empty.",
        )

    def add_locations(self) -> None:
        """Add the parameters of the detector."""
        self.add_side()
        self.add(
            QgsProcessingParameterFeatureSource(
                self.LAND,
                "Land (polygons)",
                [QgsProcessing.TypeVectorPolygon],
                optional=True,
            ),
            "Polygons in which nothing is detected. Empty: see the next parameter.",
        )
        self.add(
            QgsProcessingParameterEnum(
                self.LAND_METHOD,
                "Land, if no polygons are given",
                list(LAND_METHODS),
                defaultValue=LAND_METHODS[0],
                usesStaticStrings=True,
            ),
            "auto: shorelines of OpenStreetMap if rsft[land] is installed, otherwise"
            " brightness. brightness: large bright regions are land. none: the whole"
            " scene is searched.",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterNumber(
                self.PFA,
                "Probability of a false alarm",
                QgsProcessingParameterNumber.Double,
                defaultValue=1e-6,
                minValue=1e-12,
                maxValue=0.1,
            ),
            "Probability that a pixel of water exceeds the threshold. Larger values"
            " find fainter objects, and more that are none.",
            advanced=True,
        )

    def location_options(
        self,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> dict[str, object]:
        """Return --detect with its options."""
        land = self.parameterAsEnumString(parameters, self.LAND_METHOD, context)
        if parameters.get(self.LAND):
            land = self.parameterAsCompatibleSourceLayerPath(
                parameters, self.LAND, context, _FORMATS, "gpkg", feedback
            )
        side = self.integer(parameters, self.SIDE, context)
        return detection_options(
            side, self.parameterAsDouble(parameters, self.PFA, context), land
        )
