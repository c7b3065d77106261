"""Recognize products that rsft does not read, and say which step or file helps.

Sources: the product specifications of ASI (COSMO-SkyMed), CONAE (SAOCOM), NASA (NISAR),
ESA (ENVISAT and ERS), and NGA (SICD and SIDD), for the texts that their files contain.
"""

import os
import re
from pathlib import Path
from typing import NamedTuple

from rsft.data.imagery.products.product import PRODUCTS, SensorProduct
from rsft.errors import DataError
from rsft.types import Names
from rsft.utils.untrusted.documents import open_regular

_ENDS = 2**18
"""Bytes at the beginning and the end of a file in which its texts must occur."""
_MAX_FILES = 256
"""Files of a folder that are tried."""


class Refusal(NamedTuple):
    """A kind of product that is recognized by a text in one of its files.

    Attributes:
        title: its name.
        suffixes: suffixes of the file, in lower case.
        text: text near the beginning or the end of the file.
        hint: the step that helps, or the file to give.
    """

    title: str
    suffixes: Names
    text: re.Pattern[bytes]
    hint: str


_SNAP = (
    "in SNAP: Radar > Radiometric > Calibrate, then File > Export > GeoTIFF, and give"
    " that"
)
_GCOV = (
    "give one covariance of a GCOV product, such as"
    " HDF5:FILE.h5://science/LSAR/GCOV/grids/frequencyA/HHHH"
)
_SICD = (
    "its pixels are complex: give the detected image of its provider (GEC, GEO), or"
    " detect it with sarpy"
)
_SIDD = (
    "its pixels are for display: give the GeoTIFF of its provider, or convert it:"
    " gdal_translate IN OUT.tif"
)
_HDF5 = (".h5", ".hdf5")
_NITF = (".ntf", ".nitf")
REFUSALS = (
    Refusal(
        "COSMO-SkyMed",
        _HDF5,
        re.compile(rb"CSKS\d|CSG_(RAW|SCS|DGM|GEC|GTC)|SSAR\d_CSG"),
        _SNAP,
    ),
    Refusal("NISAR", _HDF5, re.compile(rb"NISAR|[LS]SAR\0"), _GCOV),
    Refusal(
        "SAOCOM",
        (".xml", ".xemt"),
        re.compile(rb"<SAOCOM_XMLProduct|<RasterInfo|<platform>SAO1[AB]"),
        _SNAP,
    ),
    Refusal("ENVISAT ASAR", (".n1",), re.compile(rb'^PRODUCT="ASA_'), _SNAP),
    Refusal("ERS SAR", (".n1", ".e1", ".e2"), re.compile(rb'^PRODUCT="SAR_'), _SNAP),
    Refusal("SICD", _NITF, re.compile(rb"urn:SICD"), _SICD),
    Refusal("SIDD", _NITF, re.compile(rb"urn:SIDD"), _SIDD),
)
"""Products that are recognized and refused."""


@PRODUCTS.register
class RefusedProduct(SensorProduct):
    """A product that is recognized, named, and refused."""

    name = "refused"
    title = "products that are recognized and refused"

    @classmethod
    def find(cls, path: Path) -> None:
        """Raise an error if a folder or file is one of `REFUSALS`."""
        if path.is_dir():
            files = [*sorted(path.glob("*")), *sorted(path.glob("*/*"))]
        elif path.suffix:
            files = [path]
        else:  # images of SAOCOM have a header of their name
            files = [path.with_name(f"{path.name}.xml")]
        suffixes = set().union(*[refusal.suffixes for refusal in REFUSALS])
        files = [file for file in files if file.suffix.lower() in suffixes]
        for file in files[:_MAX_FILES]:
            ends = _read_ends(file)
            for refusal in REFUSALS:
                if file.suffix.lower() in refusal.suffixes and any(
                    map(refusal.text.search, ends)
                ):
                    raise DataError(
                        f"rsft does not read {refusal.title} products",
                        file,
                        refusal.hint,
                    )


def _read_ends(path: Path) -> tuple[bytes, ...]:
    """Return the beginning and the end of a file; nothing if it cannot be read."""
    try:
        with open_regular(path) as file:
            start = file.read(_ENDS)
            file.seek(max(0, os.fstat(file.fileno()).st_size - _ENDS))
            return start, file.read(_ENDS)
    except OSError:
        return ()
