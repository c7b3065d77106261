"""Draw layers in their own style, and print what QGIS knows about them: python3
qgis_maps.py JOBS.

JOBS is a JSON list of objects with `source`, `picture`, `extent` (degrees) and `size`
(pixels). One line of JSON per job is printed.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from qgis.core import (
    QgsApplication,
    QgsExpression,
    QgsExpressionContext,
    QgsExpressionContextUtils,
    QgsMapRendererSequentialJob,
    QgsMapSettings,
    QgsRectangle,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor


def draw(layer, job):
    """Draw a layer on white."""
    settings = QgsMapSettings()
    settings.setLayers([layer])
    settings.setDestinationCrs(layer.crs())
    settings.setExtent(QgsRectangle(*job["extent"]))
    settings.setOutputSize(QSize(*job["size"]))
    settings.setOutputDpi(96)
    settings.setBackgroundColor(QColor("white"))
    settings.setFlag(QgsMapSettings.DrawLabeling, job.get("labels", False))
    scopes = QgsExpressionContextUtils.globalProjectLayerScopes(layer)
    settings.setExpressionContext(
        QgsExpressionContext(
            [*scopes, QgsExpressionContextUtils.mapSettingsScope(settings)]
        )
    )
    renderer = QgsMapRendererSequentialJob(settings)
    renderer.start()
    renderer.waitForFinished()
    renderer.renderedImage().save(job["picture"])
    return settings.scale()


def describe(layer):
    """Return legend, names of fields, choices, labels and map tips of a layer."""
    context = QgsExpressionContext(
        QgsExpressionContextUtils.globalProjectLayerScopes(layer)
    )
    feature = next(layer.getFeatures())
    context.setFeature(feature)
    fields = layer.fields()
    corrected = fields.indexOf("corrected")
    widget = fields.at(corrected).editorWidgetSetup()
    labels = layer.labeling().settings() if layer.labelsEnabled() else None
    label = QgsExpression(labels.fieldName) if labels else None
    return {
        "legend": [item.label() for item in layer.renderer().legendSymbolItems()],
        "aliases": {field.name(): field.alias() for field in fields},
        "types": {field.name(): field.typeName() for field in fields},
        "widget": widget.type(),
        "choices": [
            choice for entry in widget.config().get("map", []) for choice in entry
        ],
        "label": label.evaluate(context) if label else None,
        "map_tip": QgsExpression.replaceExpressionText(layer.mapTipTemplate(), context),
        "geometry": layer.wkbType(),
    }


def main():
    """Draw all jobs."""
    application = QgsApplication([], False)
    application.initQgis()
    for job in json.loads(Path(sys.argv[1]).read_text()):
        layer = QgsVectorLayer(job["source"], "predictions")
        assert layer.isValid(), job["source"]
        print(json.dumps({"scale": draw(layer, job), **describe(layer)}))
    sys.stdout.flush()
    os._exit(0)  # QGIS may crash while its Python ends


main()
