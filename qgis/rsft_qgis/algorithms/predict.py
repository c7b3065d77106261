"""What the algorithms share that classify a scene: scene, pixels, output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qgis.core import (
    QgsMapLayer,
    QgsProcessing,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingLayerPostProcessorInterface,
    QgsProcessingOutputNumber,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterEnum,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
    QgsProcessingParameterVectorDestination,
)

from ..command_lines import (
    AS_DECLARED,
    UNITS,
    PixelOptions,
    name_parameters,
    predict_command,
    raster_location,
)
from ..json_lines import Result
from ..process import run_job
from .base import RsftAlgorithm, call_rsft, failure

_DOUBLE = QgsProcessingParameterNumber.Double


class PredictAlgorithm(RsftAlgorithm):
    """Classify chips of a scene by `rsft predict`.

    Subclasses say where chips are cut.
    """

    SCENE = "SCENE"
    PRODUCT = "PRODUCT"
    SIDE = "SIDE"
    UNIT = "UNIT"
    BANDS = "BANDS"
    SPACING = "SPACING"
    RESAMPLE_TO = "RESAMPLE_TO"
    MODULUS = "MODULUS"
    CALIBRATE = "CALIBRATE"
    KEEP_NOISE = "KEEP_NOISE"
    EXTRA = "EXTRA"
    REVIEW = "REVIEW"
    COUNTS = {"CHIPS": "chips", "OOD": "ood", "REJECTED": "rejected"}  # noqa: RUF012
    """Output number -> key in the last line of rsft."""

    def add_locations(self) -> None:
        """Add the parameters that say where chips are cut."""
        raise NotImplementedError

    def location_options(
        self,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> dict[str, object]:
        """Return the options that say where chips are cut."""
        raise NotImplementedError

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:
        """Add all parameters and outputs."""
        self.add_bundle()
        self.add(
            QgsProcessingParameterRasterLayer(self.SCENE, "Scene", optional=True),
            "A raster layer, or any raster that QGIS opens.",
        )
        self.add(
            QgsProcessingParameterString(
                self.PRODUCT,
                "Scene that is not a layer (path or address)",
                optional=True,
            ),
            "Instead of the scene above: a Sentinel-1 product (.zip, .SAFE folder or"
            " manifest.safe), an address (https://, s3://), or a STAC item. rsft"
            " calibrates Sentinel-1 products by itself.",
        )
        self.add_locations()
        self._add_pixels()
        self.add(
            QgsProcessingParameterString(
                self.EXTRA, "Further options of rsft predict", optional=True
            ),
            "As typed in a shell, for instance: --device cuda --batch-size 128",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterVectorDestination(
                self.OUTPUT, "Predictions", QgsProcessing.TypeVectorAnyGeometry
            ),
            "It opens with one color per class. An existing file is replaced, unless it"
            " contains corrections.",
        )
        self.add(
            QgsProcessingParameterFileDestination(
                self.REVIEW,
                "Review page",
                "HTML files (*.html)",
                optional=True,
                createByDefault=False,
            ),
            "A page for the browser that shows every chip, the least certain first.",
        )
        for name, key in self.COUNTS.items():
            self.addOutput(QgsProcessingOutputNumber(name, f"Number of chips: {key}"))

    def add_side(self) -> None:
        """Add the chip size."""
        self.add(
            QgsProcessingParameterNumber(
                self.SIDE, "Chip size in pixels", optional=True, minValue=1
            ),
            "Side of the square that is cut. Empty: the size of the training chips, if"
            " the bundle has one. Otherwise use the size of your training chips.",
        )

    def _add_pixels(self) -> None:
        unit = QgsProcessingParameterEnum(
            self.UNIT,
            "Unit of the pixels",
            [AS_DECLARED, *UNITS],
            defaultValue=AS_DECLARED,
            usesStaticStrings=True,
        )
        self.add(
            unit,
            "Declare the unit if an error says that the scene has none.",
            advanced=True,
        )
        texts: list[tuple[Any, str]] = [
            (
                QgsProcessingParameterString(
                    self.BANDS, "Names of the bands", optional=True
                ),
                (
                    "If the file does not name its bands: one name per band in their"
                    " order, such as VV,VH."
                ),
            ),
            (
                QgsProcessingParameterNumber(
                    self.SPACING,
                    "Pixel spacing in meters",
                    _DOUBLE,
                    optional=True,
                    minValue=0.001,
                ),
                "Only for scenes without georeference.",
            ),
            (
                QgsProcessingParameterNumber(
                    self.RESAMPLE_TO,
                    "Resample chips to this spacing in meters",
                    _DOUBLE,
                    optional=True,
                    minValue=0.001,
                ),
                (
                    "If the pixels of the scene are larger or smaller than those of the"
                    " training chips."
                ),
            ),
            (
                QgsProcessingParameterBoolean(
                    self.MODULUS, "Modulus of complex pixels (SLC)", defaultValue=False
                ),
                (
                    "Models take real values. The modulus of a complex scene is its"
                    " amplitude."
                ),
            ),
            (
                QgsProcessingParameterNumber(
                    self.CALIBRATE, "Calibration factor F", _DOUBLE, optional=True
                ),
                (
                    "sigma0 = F DN². Sentinel-1, Capella and ICEYE products contain"
                    " their calibration."
                ),
            ),
            (
                QgsProcessingParameterBoolean(
                    self.KEEP_NOISE, "Keep the thermal noise", defaultValue=False
                ),
                "For Sentinel-1 products and models of chips that contain the noise.",
            ),
        ]
        for parameter, help_text in texts:
            self.add(parameter, help_text, advanced=True)

    def help_page(self, purpose: str, details: str) -> str:
        """Return the help of an algorithm.

        Args:
            purpose: what it is for.
            details: what else to know.
        """
        return (
            f"<p>{purpose}</p><p>{details}</p><p><b>Result.</b> <i>class</i> and"
            " <i>probability</i>, the second class, the probability of every class,"
            " and <i>set</i>: all classes that the chip may belong to. <i>ood</i> is"
            " true if the chip is unlike the training chips; do not trust its class."
            ' Filter what needs a look with <code>"ood" or "probability" &lt;'
            " 0.6</code></p><p><b>Errors</b> name the parameter that resolves them;"
            " see also <i>Advanced</i>. Chips that do not fit the model are listed in"
            " a file <i>.rejected.csv</i> beside the result.</p><p>The log shows the"
            " command. You can run it in a terminal.</p>"
        )

    def fault(self, parameters: dict[str, Any], context: QgsProcessingContext) -> str:
        """Return that no scene or two scenes are given."""
        given = [name for name in (self.SCENE, self.PRODUCT) if parameters.get(name)]
        if len(given) == 1:
            return ""
        return "Give either a scene or a scene that is not a layer" + (
            ", not both." if given else "."
        )

    def processAlgorithm(
        self,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> dict[str, Any]:
        """Run rsft.

        Returns:
            The layer, the review page, and the numbers of chips.

        Raises:
            QgsProcessingException: a parameter is wrong, or rsft failed.
        """
        output = self.parameterAsOutputLayer(parameters, self.OUTPUT, context)
        review = self.parameterAsFileOutput(parameters, self.REVIEW, context)
        options = {
            **self.location_options(parameters, context, feedback),
            **self._pixels(parameters, context),
        }
        extra = self.parameterAsString(parameters, self.EXTRA, context)
        try:
            command = predict_command(
                self.executable(),
                self.bundle(parameters, context),
                self._scene(parameters, context),
                output,
                {**options, "--html": review or None},
                extra,
            )
        except ValueError as error:
            raise failure(f"Further options of rsft predict: {error}") from error
        result = call_rsft(run_job, command, feedback)
        _report(result, feedback)
        values: dict[str, Any] = {self.OUTPUT: _use_predictions_layer(output, context)}
        values.update({name: result.count(key) for name, key in self.COUNTS.items()})
        if review:
            return {**values, self.REVIEW: review}
        return values

    def integer(
        self, parameters: dict[str, Any], name: str, context: QgsProcessingContext
    ) -> int | None:
        """Return a number, or None if the parameter is empty."""
        if parameters.get(name) is None:
            return None
        return int(self.parameterAsInt(parameters, name, context))

    def _decimal(
        self, parameters: dict[str, Any], name: str, context: QgsProcessingContext
    ) -> float | None:
        if parameters.get(name) is None:
            return None
        return float(self.parameterAsDouble(parameters, name, context))

    def _scene(self, parameters: dict[str, Any], context: QgsProcessingContext) -> str:
        product = self.parameterAsString(parameters, self.PRODUCT, context)
        if product:
            return str(product)
        layer = self.parameterAsRasterLayer(parameters, self.SCENE, context)
        if layer is None or layer.providerType() != "gdal":
            raise failure(
                "rsft reads rasters in files and on file servers, but not this layer."
            )
        return raster_location(layer.source())

    def _pixels(
        self, parameters: dict[str, Any], context: QgsProcessingContext
    ) -> dict[str, object]:
        return PixelOptions(
            unit=self.parameterAsEnumString(parameters, self.UNIT, context),
            bands=self.parameterAsString(parameters, self.BANDS, context) or None,
            spacing=self._decimal(parameters, self.SPACING, context),
            resample_to=self._decimal(parameters, self.RESAMPLE_TO, context),
            modulus=self.parameterAsBool(parameters, self.MODULUS, context),
            calibrate=self._decimal(parameters, self.CALIBRATE, context),
            keep_noise=self.parameterAsBool(parameters, self.KEEP_NOISE, context),
        ).options()


def _report(result: Result, feedback: QgsProcessingFeedback) -> None:
    for name, count in result.class_counts.items():
        feedback.pushInfo(f"{name}: {count}")
    for note in result.notes:
        feedback.pushInfo(name_parameters(note))
    rejected = result.count("rejected")
    if rejected:
        feedback.pushWarning(
            f"rejected: {rejected}, listed with the reasons in .rejected.csv beside the"
            " result"
        )
    if result.is_foreign:
        feedback.pushWarning(
            "The scene is not like the training data. See the notes above before you"
            " use the classes."
        )


class _StyleLoader(QgsProcessingLayerPostProcessorInterface):
    """Loads the style in a GeoPackage, which Processing does not.

    It leaves a style that the user set for results.
    """

    def postProcessLayer(
        self,
        layer: QgsMapLayer,
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> None:
        """Load the style."""
        renderer = layer.renderer()
        if renderer is not None and renderer.type() == "singleSymbol":
            layer.loadDefaultStyle()
            layer.triggerRepaint()


_STYLE_LOADERS: list[_StyleLoader] = []
"""Keeps the Python part of each post-processor alive. The context deletes the other
part."""


def load_layers(path: str, names: Sequence[str], context: QgsProcessingContext) -> None:
    """Let QGIS load layers of a GeoPackage with their styles, if it loads results.

    Args:
        path: the GeoPackage.
        names: the layers, from the lowest one to the highest.
        context: that of the algorithm.
    """
    for name in names:
        _STYLE_LOADERS.append(_StyleLoader())
        details = QgsProcessingContext.LayerDetails(name, context.project(), name)
        details.setPostProcessor(_STYLE_LOADERS[-1])
        context.addLayerToLoadOnCompletion(f"{path}|layername={name}", details)


def _use_predictions_layer(path: str, context: QgsProcessingContext) -> str:
    """Return the name of the layer in a table, and let QGIS load this layer.

    A GeoPackage has other tables too.
    """
    if not path.lower().endswith(".gpkg"):
        return path
    location = f"{path}|layername=predictions"
    layers = context.layersToLoadOnCompletion()
    if path in layers:
        layers[location] = layers.pop(path)
        _STYLE_LOADERS.append(_StyleLoader())
        layers[location].setPostProcessor(_STYLE_LOADERS[-1])
        context.setLayersToLoadOnCompletion(layers)
    return location
