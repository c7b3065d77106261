"""A document of any kind names the files of a scene."""

import numpy as np
import pytest

from rsft.data.imagery.raster_values import IDENTITY_SCALING
from rsft.data.imagery.scene_uri import SceneUri
from rsft.errors import RequestError
from rsft.scenes import documents
from rsft.scenes.documents import Item, ItemBand, read_item
from rsft.scenes.raster import open_scene
from tests.helpers.scenes import UTM, write_geotiff


class Listing:
    """A text file that names a raster."""

    name = "listing"

    @classmethod
    def read(cls, uri, asset):
        if not uri.text.endswith(".list"):
            return None
        file = SceneUri(uri.path.read_text().strip())
        band = ItemBand("VV", "sigma0", IDENTITY_SCALING, None, None)
        return Item(("image",), (file,), (band,), "sigma0")


def test_a_document_says_what_its_files_do_not_say(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "DOCUMENTS", {"listing": Listing})
    pixels = np.ones((20, 30), np.float32)
    raster = write_geotiff(tmp_path / "a.tif", pixels, crs="EPSG:32633", transform=UTM)
    (tmp_path / "a.list").write_text(str(raster))
    scene = open_scene(tmp_path / "a.list")
    assert (scene.bands, scene.unit, scene.assets) == (("VV",), "sigma0", ("image",))
    assert open_scene(raster).bands is None


def test_a_raster_has_no_assets(tmp_path):
    uri = SceneUri(str(tmp_path / "a.tif"))
    assert read_item(uri, None) is None
    with pytest.raises(RequestError, match="assets"):
        read_item(uri, "vv")
