"""Register the Processing provider."""

from __future__ import annotations

from qgis.core import QgsApplication

from .provider import RsftProvider


class RsftPlugin:
    """The plug-in: a Processing provider and no window of its own."""

    def __init__(self) -> None:
        self.provider: RsftProvider | None = None

    def initProcessing(self) -> None:
        """Add the provider. qgis_process only calls this method."""
        self.provider = RsftProvider()
        QgsApplication.processingRegistry().addProvider(self.provider)

    def initGui(self) -> None:
        """Add the provider to the toolbox."""
        self.initProcessing()

    def unload(self) -> None:
        """Remove the provider."""
        QgsApplication.processingRegistry().removeProvider(self.provider)
