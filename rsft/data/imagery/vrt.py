"""Write a VRT anew: GDAL opens what was checked, not the file.

GDAL and a parser of XML read blanks, comments, letter case and unknown elements in
different ways. So only known elements are copied, and the names of images are replaced
by the paths that were checked.
"""

from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from rsft.utils.untrusted.xml_documents import parse_xml

_PLAIN_BAND = "VRTSourcedRasterBand"
_SOURCE_NAME = "SourceFilename"
_RECTANGLE = "xOff yOff xSize ySize"
_ELEMENTS = dict.fromkeys(
    (
        "GeoTransform",
        "MaskBand",
        "Description",
        "UnitType",
        "NoDataValue",
        "HideNoDataValue",
        "Offset",
        "Scale",
        "ColorInterp",
        "ColorTable",
        "CategoryNames",
        "Category",
        "Histograms",
        "SourceBand",
        "NODATA",
        "UseMaskBand",
        "ScaleOffset",
        "ScaleRatio",
        "LUT",
        "Exponent",
        "SrcMin",
        "SrcMax",
        "DstMin",
        "DstMax",
        "Clamp",
        "ColorTableComponent",
        "Size",
        "Coefs",
    ),
    "",
)
_ELEMENTS |= {
    "VRTDataset": "rasterXSize rasterYSize subClass",
    "SRS": "dataAxisToSRSAxisMapping coordinateEpoch",
    "GCPList": "Projection dataAxisToSRSAxisMapping",
    "GCP": "Id Info Pixel Line X Y Z",
    "Metadata": "domain format",
    "MDI": "key",
    "OverviewList": "resampling",
    "VRTRasterBand": "dataType band blockXSize blockYSize subClass",
    "Entry": "c1 c2 c3 c4",
    "SimpleSource": "resampling",
    "ComplexSource": "resampling",
    "AveragedSource": "resampling",
    "KernelFilteredSource": "resampling",
    _SOURCE_NAME: "relativeToVRT shared",
    "SourceProperties": ("RasterXSize RasterYSize DataType BlockXSize BlockYSize"),
    "SrcRect": _RECTANGLE,
    "DstRect": _RECTANGLE,
    "Kernel": "normalized",
}
"""Elements of a VRT of images, and their attributes. GDAL ignores letter case."""
_TAGS = {tag.lower(): tag for tag in _ELEMENTS}
_LEFT_OUT = frozenset(("Histograms",))


def rewrite_vrt(data: bytes, folder: Path) -> tuple[bytes, list[Path]]:
    """Return a new VRT of the same images.

    Args:
        data: content of a VRT.
        folder: where it lies, without links.

    Returns:
        The new VRT, in which the names of images are absolute; and the images, which
        lie below the folder.

    Raises:
        ValueError: it is not a plain VRT of images below the folder.
    """
    images: set[Path] = set()
    root = _copy(parse_xml(data), folder, images)
    if root is None or root.tag != "VRTDataset":
        raise ValueError("its root is not VRTDataset")
    return ElementTree.tostring(root, "utf-8"), sorted(images)


def _copy(element: Element, folder: Path, images: set[Path]) -> Element | None:
    """Copy an element; None for one that says nothing about pixels."""
    tag = _TAGS.get(element.tag.lower())
    if not tag:
        raise ValueError(f"it contains {element.tag}, not only images")
    attributes = _copy_attributes(element, tag)
    if tag in _LEFT_OUT or "format" in attributes:  # XML as metadata
        return None
    if attributes.pop("subClass", _PLAIN_BAND) != _PLAIN_BAND:
        raise ValueError(f"it contains {element.get('subClass')}, not only images")
    if tag == _SOURCE_NAME:
        image = _find_image(element, attributes, folder)
        images.add(image)
        copy = Element(tag, {"relativeToVRT": "0"})
        copy.text = str(image)
        return copy
    copy = Element(tag, attributes)
    copy.text = element.text
    for child in element:
        child_copy = _copy(child, folder, images)
        if child_copy is not None:
            copy.append(child_copy)
    return copy


def _copy_attributes(element: Element, tag: str) -> dict[str, str]:
    """Return the attributes, with their names in the usual letter case."""
    names = {name.lower(): name for name in _ELEMENTS[tag].split()}
    attributes = {}
    for key, value in element.attrib.items():
        name = names.get(key.lower())
        if not name or name in attributes:
            raise ValueError(f"{tag} has the attribute {key}, not only images")
        attributes[name] = value
    return attributes


def _find_image(element: Element, attributes: Mapping[str, str], folder: Path) -> Path:
    """Return the path of the image that an element names.

    Raises:
        ValueError: it is not a file below the folder, or another VRT.
    """
    name = element.text or ""
    is_relative = attributes.get("relativeToVRT", "0")
    if len(element) or is_relative not in ("0", "1"):
        raise ValueError(f"it does not say clearly where {name!r} is")
    image = (folder / name if is_relative == "1" else Path(name)).resolve()
    is_inside = image.is_relative_to(folder) and image.is_file()
    is_syntax = str(image).startswith("/vsi")  # a file system of GDAL
    if not is_inside or is_syntax or image.suffix.lower() == ".vrt":
        raise ValueError(f"it names {name}, which is not an image below its folder")
    return image
