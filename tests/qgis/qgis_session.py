"""Use the plug-in as a session of QGIS does, and print what happened as JSON.

Usage: python3 qgis_session.py BUNDLE FOLDER STORE
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from qgis.core import (
    QgsApplication,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingModelAlgorithm,
    QgsProcessingModelChildAlgorithm,
    QgsProcessingModelChildParameterSource,
    QgsProcessingModelOutput,
    QgsProcessingOutputLayerDefinition,
    QgsProject,
    QgsVectorLayer,
)

application = QgsApplication([], False)
application.initQgis()
sys.path[:0] = [
    os.environ["QGIS_PLUGINPATH"],
    str(Path(QgsApplication.pkgDataPath()) / "python/plugins"),
]

import processing  # noqa: E402
import rsft_qgis  # noqa: E402
from processing.core.Processing import Processing  # noqa: E402
from processing.core.ProcessingConfig import ProcessingConfig  # noqa: E402

BUNDLE = sys.argv[1]
FOLDER = Path(sys.argv[2])
STORE = Path(sys.argv[3])


def classify_into_project(values):
    """Run the algorithm as the toolbox does; return the layer that the project has
    then."""
    project = QgsProject.instance()
    output = QgsProcessingOutputLayerDefinition("TEMPORARY_OUTPUT", project)
    context = QgsProcessingContext()
    context.setProject(project)
    processing.runAndLoadResults(
        "rsft:classifypoints", {**values, "OUTPUT": output}, None, context
    )
    return [
        layer for layer in project.mapLayers().values() if layer.name() == "Predictions"
    ][-1]


def run_model(values):
    """Run a model: classify points, then buffer the result. Return the number of
    buffers."""
    static = QgsProcessingModelChildParameterSource.fromStaticValue
    model = QgsProcessingModelAlgorithm("model")
    first = QgsProcessingModelChildAlgorithm("rsft:classifypoints")
    first.setChildId("classify")
    for key, value in values.items():
        first.addParameterSources(key, [static(value)])
    model.addChildAlgorithm(first)
    second = QgsProcessingModelChildAlgorithm("native:buffer")
    second.setChildId("buffer")
    second.addParameterSources(
        "INPUT",
        [QgsProcessingModelChildParameterSource.fromChildOutput("classify", "OUTPUT")],
    )
    second.addParameterSources("DISTANCE", [static(0.001)])
    second.setModelOutputs({"buffers": QgsProcessingModelOutput("buffers")})
    second.modelOutput("buffers").setChildOutputName("OUTPUT")
    second.modelOutput("buffers").setChildId("buffer")
    model.addChildAlgorithm(second)
    assert model.validate()[0], model.validate()
    context = QgsProcessingContext()
    feedback = QgsProcessingFeedback()
    path = str(FOLDER / "buffers.gpkg")
    results, success = model.run(
        {"buffer:buffers": path, "buffers": path}, context, feedback
    )
    assert success, feedback.textLog()
    return QgsVectorLayer(str(results["buffer:buffers"])).featureCount()


def classify_selection(values):
    """Classify a memory layer with two of three positions; return the attribute of the
    positions in the result."""
    layer = QgsVectorLayer(
        "Point?crs=EPSG:32633&field=mmsi:string", "positions", "memory"
    )
    source = QgsVectorLayer(f"{FOLDER / 'ships.gpkg'}|layername=ships")
    features = [feature for feature in source.getFeatures() if feature["mmsi"] != "222"]
    for feature in features:
        feature.setAttributes([feature["mmsi"]])
    layer.dataProvider().addFeatures(features)
    result = processing.run(
        "rsft:classifypoints",
        {**values, "AT": layer, "OUTPUT": str(FOLDER / "memory.gpkg")},
    )
    return [
        feature["mmsi"] for feature in QgsVectorLayer(result["OUTPUT"]).getFeatures()
    ]


def run_until_canceled(name, values, feedback=None):
    """Run an algorithm with a feedback, or one that is canceled already; return the
    error."""
    if feedback is None:
        feedback = QgsProcessingFeedback()
        feedback.cancel()
    try:
        processing.run(f"rsft:{name}", values, feedback=feedback)
    except QgsProcessingException as error:
        return str(error)


def cancel_labels(layer):
    """Cancel at once when the labels of a layer are added; return the error and the
    chips added."""
    manifest = (STORE / "manifest.parquet").read_bytes()
    error = run_until_canceled("addlabels", {"LAYER": layer, "STORE": str(STORE)})
    return {
        "canceled_labels": error,
        "same_store": (STORE / "manifest.parquet").read_bytes() == manifest,
    }


def cancel_training(layer):
    """Cancel the second step of the algorithm that adds labels and trains; return the
    error."""
    feedback = QgsProcessingFeedback()
    percents = []

    def stop_in_training(percent):
        percents.append(percent)
        if percent > 50:  # the first half is that of the labels
            feedback.cancel()

    feedback.progressChanged.connect(stop_in_training)
    options = {
        "BUNDLE": BUNDLE,
        "RUNS": str(FOLDER / "canceled"),
        "EXTRA": "train.epochs=500 --no-report",
    }
    options |= {
        "LAYER": layer,
        "STORE": str(STORE),
        "OUTPUT": str(FOLDER / "canceled.html"),
    }
    return {
        "canceled_training": run_until_canceled("finetune", options, feedback),
        "percent": percents[-1],
    }


def correct(layer):
    """Correct a class in a layer. Return what the algorithm says before the edits are
    saved, and the saved value."""
    algorithm = QgsApplication.processingRegistry().createAlgorithmById(
        "rsft:addlabels"
    )
    context = QgsProcessingContext()
    context.setProject(QgsProject.instance())
    values = {"LAYER": layer, "FIELD": "corrected", "STORE": str(FOLDER)}
    layer.startEditing()
    feature = next(layer.getFeatures())
    layer.changeAttributeValue(
        feature.id(), layer.fields().indexOf("corrected"), "steep"
    )
    unsaved = algorithm.checkParameterValues(values, context)
    assert layer.commitChanges(), layer.commitErrors()
    saved = algorithm.checkParameterValues(values, context)
    assert saved[0], saved
    memory = QgsVectorLayer(
        "Point?crs=EPSG:4326&field=corrected:string", "memory", "memory"
    )
    refused = algorithm.checkParameterValues({**values, "LAYER": memory}, context)
    corrected = QgsVectorLayer(layer.source()).getFeature(feature.id())["corrected"]
    return {"unsaved": unsaved[1], "memory_layer": refused[1], "corrected": corrected}


def main():
    """Print one line."""
    Processing.initialize()
    plugin = rsft_qgis.classFactory(None)
    plugin.initProcessing()
    values = {"BUNDLE": BUNDLE, "SCENE": str(FOLDER / "scene.tif"), "SIDE": 32}
    at = f"{FOLDER / 'ships.gpkg'}|layername=ships"
    for _ in range(2):  # the second result has the same name
        layer = classify_into_project({**values, "AT": at})
    result = {
        **{
            "name": layer.name(),
            "renderer": layer.renderer().type(),
            "features": layer.featureCount(),
        },
        "categories": [category.value() for category in layer.renderer().categories()],
        "model_features": run_model({**values, "AT": at}),
        "temporary": classify_selection(values),
        "canceled": run_until_canceled(
            "classifypoints", {**values, "AT": at, "OUTPUT": str(FOLDER / "none.gpkg")}
        ),
        **correct(layer),
        **cancel_labels(layer),
        **cancel_training(layer),
    }
    ProcessingConfig.setSettingValue("RSFT_EXECUTABLE", "/nowhere/rsft")
    algorithm = QgsApplication.processingRegistry().createAlgorithmById(
        "rsft:bundleinfo"
    )
    result["wrong_setting"] = algorithm.canExecute()[1]
    ProcessingConfig.setSettingValue("RSFT_EXECUTABLE", "")
    plugin.unload()
    print(json.dumps(result))


main()
sys.stdout.flush()
os._exit(0)  # QGIS may crash while its Python ends
