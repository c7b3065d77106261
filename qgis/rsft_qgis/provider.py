"""The Processing provider: its algorithms and its setting."""

from __future__ import annotations

from pathlib import Path

from processing.core.ProcessingConfig import ProcessingConfig, Setting
from qgis.core import QgsProcessingProvider
from qgis.PyQt.QtGui import QIcon

from .algorithms.bundle_info import BundleInfo
from .algorithms.classify import ClassifyPoints, ClassifyTiles, DetectClassify
from .algorithms.corrections import AddLabels, FineTune
from .algorithms.install_rsft import InstallRsft
from .algorithms.match_ais import MatchAis
from .algorithms.training_chips import CutTrainingChips
from .executable import PROVIDER_NAME, SETTING

ICON_PATH = Path(__file__).parent / "icon.svg"


class RsftProvider(QgsProcessingProvider):
    """Algorithms that call the command `rsft`."""

    def load(self) -> bool:
        """Add the setting to Options, Processing, Providers, and load the algorithms."""
        ProcessingConfig.settingIcons[PROVIDER_NAME] = self.icon()
        description = "Path of the rsft executable or its environment (empty: search)"
        ProcessingConfig.addSetting(
            Setting(PROVIDER_NAME, SETTING, description, "", valuetype=Setting.STRING)
        )
        ProcessingConfig.readSettings()
        self.refreshAlgorithms()
        return True

    def unload(self) -> None:
        """Remove the setting."""
        ProcessingConfig.removeSetting(SETTING)

    def loadAlgorithms(self) -> None:
        """Add the algorithms."""
        positions = (ClassifyPoints, ClassifyTiles, DetectClassify)
        corrections = (AddLabels, FineTune)
        for algorithm in (
            *positions,
            BundleInfo,
            *corrections,
            CutTrainingChips,
            MatchAis,
            InstallRsft,
        ):
            self.addAlgorithm(algorithm())

    def id(self) -> str:
        """Return the first part of the names of all algorithms, such as rsft:classifypoints."""
        return "rsft"

    def name(self) -> str:
        """Return the name in the toolbox."""
        return PROVIDER_NAME

    def longName(self) -> str:
        """Return the name with a description."""
        return "rsft: classify chips in remote-sensing scenes"

    def icon(self) -> QIcon:
        """Return the icon in the toolbox."""
        return QIcon(str(ICON_PATH))

    def supportedOutputVectorLayerExtensions(self) -> list[str]:
        """Return the suffixes of tables that rsft writes and every QGIS opens."""
        return ["gpkg", "geojson"]

    def supportsNonFileBasedOutput(self) -> bool:
        """Return False: rsft writes files."""
        return False
