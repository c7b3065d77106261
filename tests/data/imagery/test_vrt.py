"""A VRT is written anew from the elements that are known, or refused."""

from xml.etree import ElementTree

import pytest

from rsft.data.imagery.vrt import rewrite_vrt


@pytest.fixture
def folder(tmp_path):
    """Folder of an image, with another image outside of it."""
    folder = tmp_path.resolve() / "in"
    folder.mkdir()
    for path in (folder / "a.tif", folder / "b.vrt", tmp_path / "c.tif"):
        path.touch()
    return folder


def write(source, band="", rest=""):
    return (
        f'<VRTDataset rasterXSize="20" rasterYSize="30">{rest}'
        f"<VRTRasterBand band='1' {band}><SimpleSource>{source}</SimpleSource>"
        "</VRTRasterBand></VRTDataset>"
    ).encode()


def name(text, relative="1", content=""):
    return (
        f'<SourceFilename relativeToVRT="{relative}">{text}{content}</SourceFilename>'
    )


def test_images_get_absolute_names(folder):
    histograms = "<Histograms><HistItem/></Histograms>"
    xml = '<Metadata format="xml"><MDI key="a">b</MDI></Metadata>'
    rest = f'{histograms}{xml}<Metadata><MDI key="a">b</MDI></Metadata>'
    data, images = rewrite_vrt(write(name("a.tif"), rest=rest), folder)
    assert images == [folder / "a.tif"]
    root = ElementTree.fromstring(data)
    assert [child.tag for child in root] == ["Metadata", "VRTRasterBand"]
    assert root.attrib == {"rasterXSize": "20", "rasterYSize": "30"}
    assert root.findtext("Metadata/MDI") == "b"
    (source,) = root.iter("SourceFilename")
    assert (source.text, source.attrib) == (f"{folder}/a.tif", {"relativeToVRT": "0"})


def test_letter_case_is_ignored(folder):
    text = write(name(folder / "a.tif", "0")).decode()
    text = text.replace("VRTRasterBand", "vrtrasterband").replace(
        "band='1'", "BAND='1'"
    )
    data, images = rewrite_vrt(text.encode(), folder)
    assert images == [folder / "a.tif"] and b'<VRTRasterBand band="1"' in data


@pytest.mark.parametrize(
    ("source", "band", "message"),
    [
        (name("../c.tif"), "", "not an image below its folder"),
        (name("absent.tif"), "", "not an image below its folder"),
        (name("b.vrt"), "", "not an image below its folder"),
        (name("a.tif", "2"), "", "where 'a.tif' is"),
        (name("a.tif", "1", "<MDI/>"), "", "where 'a.tif' is"),
        (name("a.tif"), "subClass='VRTDerivedRasterBand'", "VRTDerivedRasterBand"),
        (name("a.tif"), "pixelFunction='sum'", "the attribute pixelFunction"),
        (name("a.tif"), "BAND='2'", "the attribute BAND"),
        ("<PixelFunctionCode/>", "", "it contains PixelFunctionCode"),
    ],
)
def test_other_content_is_refused(folder, source, band, message):
    with pytest.raises(ValueError, match=message):
        rewrite_vrt(write(source, band), folder)


def test_another_root_is_refused(folder):
    for text in (b"<SRS/>", b"<Histograms/>"):
        with pytest.raises(ValueError, match="its root is not VRTDataset"):
            rewrite_vrt(text, folder)
