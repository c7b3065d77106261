"""Draw a scene, predictions and a legend with QGIS: python3 qgis_render.py SCENE PREDICTIONS PICTURE.

The Python of QGIS runs this script, which needs no other package.
"""

from __future__ import annotations

import os
import sys

from qgis.core import (
    QgsApplication,
    QgsLayoutExporter,
    QgsLayoutItemLegend,
    QgsLayoutItemMap,
    QgsLayoutPoint,
    QgsLayoutSize,
    QgsPrintLayout,
    QgsProject,
    QgsRasterLayer,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QRectF

MAP_MM = 150
LEGEND_MM = 62
DPI = 110


def draw(scene: str, predictions: str, picture: str) -> None:
    """Write a PNG of the scene with the predictions in their own style, and a legend.

    Args:
        scene: path of the raster.
        predictions: source of the vector layer.
        picture: path of the PNG.
    """
    project = QgsProject.instance()
    raster = QgsRasterLayer(scene, "scene")
    vector = QgsVectorLayer(predictions, "predictions")
    vector.loadDefaultStyle()
    project.setCrs(raster.crs())
    project.addMapLayers([vector, raster])
    layout = QgsPrintLayout(project)
    layout.initializeDefaults()
    layout.pageCollection().page(0).setPageSize(
        QgsLayoutSize(MAP_MM + LEGEND_MM, MAP_MM)
    )
    canvas = QgsLayoutItemMap(layout)
    canvas.attemptSetSceneRect(QRectF(0, 0, MAP_MM, MAP_MM))
    canvas.setLayers([vector, raster])
    canvas.setExtent(raster.extent())
    layout.addLayoutItem(canvas)
    legend = QgsLayoutItemLegend(layout)
    legend.setAutoUpdateModel(False)
    legend.model().rootGroup().clear()
    legend.model().rootGroup().addLayer(vector)
    legend.attemptMove(QgsLayoutPoint(MAP_MM, 0))
    layout.addLayoutItem(legend)
    settings = QgsLayoutExporter.ImageExportSettings()
    settings.dpi = DPI
    settings.generateWorldFile = False
    settings.exportMetadata = False
    if (
        QgsLayoutExporter(layout).exportToImage(picture, settings)
        != QgsLayoutExporter.Success
    ):
        raise SystemExit(f"QGIS cannot write {picture}")


if __name__ == "__main__":
    application = QgsApplication([], False)
    application.initQgis()
    draw(*sys.argv[1:4])
    sys.stdout.flush()
    os._exit(0)  # QGIS may crash while its Python ends
