"""The content of a file cannot make GDAL ask a server."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rasterio.errors import RasterioError

from rsft.data.imagery.open_raster import open_raster
from tests.helpers.file_server import serving_folder
from tests.helpers.scenes import write_geotiff

RAMP = np.arange(300 * 200, dtype=np.uint16).reshape(300, 200) + 1


@pytest.mark.parametrize("name", ["x.tif", "x.jp2"])
def test_content_cannot_name_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    write_geotiff(tmp_path / "a.tif", RAMP)
    with serving_folder(tmp_path) as server:
        source = f"<SourceFilename>/vsicurl/{server.url('a.tif')}</SourceFilename>"
        band = f'<VRTRasterBand dataType="UInt16" band="1"><SimpleSource>{source}</SimpleSource></VRTRasterBand>'
        vrt = f'<VRTDataset rasterXSize="200" rasterYSize="300">{band}</VRTDataset>'
        address = server.url("${z}/${x}/${y}.png")
        service = f'<Service name="TMS"><ServerUrl>{address}</ServerUrl></Service>'
        for content in (vrt, f"<GDAL_WMS>{service}<BandsCount>1</BandsCount></GDAL_WMS>"):
            (tmp_path / name).write_text(content)
            with pytest.raises(RasterioError, match="not recognized"):
                open_raster(str(tmp_path / name))
        assert server.requests == []
        (tmp_path / "x.vrt").write_text(vrt)  # the suffix says what it is
        with open_raster(str(tmp_path / "x.vrt")) as file:
            assert (file.read(1) == RAMP).all()
