"""ALOS-2 in GeoTIFF and CEOS: the calibration factor, time and pass, complex pixels."""

import numpy as np
import pytest

from rsft.errors import DataError
from rsft.scenes.raster import open_scene
from tests.helpers.messages import mentions
from tests.helpers.products import DN, check_band, read_band, write_image

SCENE = "ALOS2146686640-260501"
SIGMA0 = 10 ** ((20 * np.log10(np.maximum(DN, 1).astype(float)) - 83.0) / 10)


def write_product(root, product="FBDR1.5GUA", suffix=".tif", listed=True):
    root.mkdir(parents=True)
    names = [f"IMG-{band}-{SCENE}-{product}{suffix}" for band in ("HH", "HV")]
    lines = {
        "Odi_SceneId": "SARD000000148073-00012-001-019",
        "Scs_SceneID": SCENE,
        "Pds_ProductID": product,
    }
    lines |= {
        "Img_SceneStartDateTime": "20260501 05:10:58.457",
        "Img_SceneEndDateTime": "20260501 05:11:08.457",
    }
    if listed:
        lines |= {
            f"Pdi_L15ProductFileName{number:02}": name
            for number, name in enumerate(names, 1)
        }
    (root / "summary.txt").write_text(
        "".join(f'{key}="{value}"\r\n' for key, value in lines.items())
    )
    for name in names:
        write_image(root / name, gcps=False) if suffix else write_ceos(root / name, DN)
    return root


def write_ceos(path, pixels):
    """Write an image file of level 1.5: a file descriptor of 720 bytes, and lines with
    a prefix of 192 bytes."""
    height, width = pixels.shape
    length = 192 + 2 * width
    head = bytearray(b" " * 720)
    head[:12] = (
        (1).to_bytes(4, "big") + bytes([50, 192, 18, 18]) + (720).to_bytes(4, "big")
    )
    for start, text in {
        12: "A   CEOS-SAR     A A", 180: f"{height:6}{length:6}", 216: f"{16:4}{1:4}{2:4}    ", 232: f"{1:4}",
        236: f"{height:8}{0:4}{width:8}{0:4}{0:4}{0:4}BSQ ", 272: f"{1:2}{1:2}{192:4}{2 * width:8}{0:4}",
        400: f"{'UNSIGNED INTEGER*2':28}IU2 ",
    }.items():  # fmt: skip
        head[start : start + len(text)] = text.encode()
    with path.open("wb") as file:
        file.write(head)
        for number, line in enumerate(pixels.astype(">u2"), 2):
            record = (
                number.to_bytes(4, "big")
                + bytes([50, 11, 18, 20])
                + length.to_bytes(4, "big")
            )
            file.write(record.ljust(192, b"\0") + line.tobytes())


@pytest.mark.parametrize("suffix", [".tif", ""])
@pytest.mark.parametrize("listed", [True, False])
def test_calibration(tmp_path, suffix, listed):
    root = write_product(tmp_path / "a", suffix=suffix, listed=listed)
    scene = open_scene(root)
    assert (scene.product.kind, scene.bands, scene.unit) == (
        "ALOS-2 FBDR1.5GUA",
        ("HH", "HV"),
        "amplitude",
    )
    check_band(read_band(scene, "sigma0", 1), SIGMA0)
    assert (scene.product.acquired, scene.product.finished) == (
        "2026-05-01T05:10:58.457Z",
        "2026-05-01T05:11:08.457Z",
    )
    assert scene.product.pass_direction == "ascending" and scene.name == "a"
    image = next(root.glob("IMG-HV*"))
    assert (
        open_scene(image).bands == ("HV",)
        and open_scene(root / "summary.txt").path.name == "a"
    )


def test_a_folder_without_summary(tmp_path):
    root = write_product(tmp_path / "a", suffix="")
    (root / "summary.txt").unlink()
    (root / f"VOL-{SCENE}-FBDR1.5GUA").write_bytes(bytes(360))
    assert (open_scene(root).product.kind, open_scene(root).bands) == (
        "ALOS-2",
        ("HH", "HV"),
    )
    check_band(read_band(open_scene(root), "sigma0", 1), SIGMA0)
    (root / f"IMG-HH-{SCENE}-FBDR1.5GUA").write_bytes(b"CEOS?")
    with pytest.raises(DataError, match="GDAL cannot read the scene of ALOS-2"):
        open_scene(root)


@pytest.mark.parametrize("has_summary", [True, False])
def test_complex_products(tmp_path, has_summary):
    root = write_product(tmp_path / "a", "FBDR1.1__A")
    if not has_summary:
        (root / "summary.txt").rename(root / f"VOL-{SCENE}-FBDR1.1__A")
    with pytest.raises(DataError, match=mentions("ALOS-2", "level 1.1", "level 1.5")):
        open_scene(root)


def test_other_text_files(tmp_path):
    image = write_image(tmp_path / "IMG-HH-x.tif")
    (tmp_path / "summary.txt").write_text("Scs_SceneID=ALPSRP066490900\n")
    assert open_scene(image).product.kind == "raster"
