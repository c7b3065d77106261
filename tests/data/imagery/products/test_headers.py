"""Products whose header lists rasters beside it."""

import pytest

from rsft.data.imagery.products.headers import (
    MAX_HEADER_BYTES,
    HeaderProduct,
    damaged_header,
    read_header_xml,
)
from rsft.data.imagery.products.product import Product
from rsft.errors import DataError
from tests.helpers.messages import mentions
from tests.helpers.products import write_xml


class Toy(HeaderProduct):
    """A product whose header has one element per band, with the name of its image."""

    name = "toy"
    title = "Toy"
    headers = ("*.toy.xml",)
    marker = b"<toy>"
    folders = ("images",)
    detected = "a detected product"

    def load(self):
        root = read_header_xml(self.header)
        if root.findtext("kind") == "other":
            return None
        self.complex_kind = root.findtext("complex") or ""
        return {
            image.get("band"): self.root / image.text for image in root.iter("image")
        }

    def describe(self, handles):
        return Product(kind=self.title, bands=self.bands)


def write(root, images=("VV", "VH"), header="a.toy.xml", files=True, **body):
    elements = [f'image band="{band}"' for band in images]
    tree = {f"{name}": f"images/{name[-3:-1]}.tif" for name in elements}
    write_xml(root / header, {"product": {"toy": "", **tree, **body}})
    for band in images if files else ():
        (root / "images").mkdir(exist_ok=True)
        (root / f"images/{band}.tif").touch()
    return root


@pytest.mark.parametrize("path", ["", "a.toy.xml", "images/VH.tif"])
def test_folder_header_and_image_stand_for_the_product(tmp_path, path):
    product = Toy.find(write(tmp_path) / path)
    bands = ("VH",) if path.endswith(".tif") else ("VV", "VH")
    assert product.bands == bands and product.path == tmp_path / path
    assert [name.rpartition("/")[2] for name in product.files] == [
        f"{band}.tif" for band in bands
    ]
    assert product.read([], keep_noise=False) == Product(kind="Toy", bands=bands) or (
        product.read([], keep_noise=False).bands == bands
    )


def test_other_paths_are_no_product(tmp_path):
    write(tmp_path / "p")
    (tmp_path / "p/images/other.tif").touch()
    assert Toy.find(tmp_path / "p/images/other.tif") is None
    assert Toy.find(tmp_path) is None
    (tmp_path / "b.toy.xml").write_text("<another/>")
    assert Toy.find(tmp_path) is None
    write(tmp_path / "q", kind="other")
    assert Toy.find(tmp_path / "q") is None


def test_all_faults_are_reported_together(tmp_path):
    write(tmp_path, files=False)
    with pytest.raises(DataError, match=mentions("VV.tif is missing", "VH.tif")):
        Toy.find(tmp_path)
    write(tmp_path / "none", images=())
    with pytest.raises(DataError, match=mentions("lists no image")):
        Toy.find(tmp_path / "none")
    tree = {"toy": "", 'image band="VV"': "../../secret.tif"}
    write_xml(tmp_path / "out/a.toy.xml", {"product": tree})
    with pytest.raises(DataError, match=mentions("secret.tif", "outside of it")):
        Toy.find(tmp_path / "out")


def test_several_headers_and_complex_pixels(tmp_path):
    write(write(tmp_path), header="b.toy.xml")
    with pytest.raises(DataError, match=mentions("2 products", "a.toy.xml, b.toy")):
        Toy.find(tmp_path)
    assert Toy.find(tmp_path / "b.toy.xml").header.name == "b.toy.xml"
    write(tmp_path / "slc", complex="SLC")
    with pytest.raises(DataError, match=mentions("complex (SLC)", "detected product")):
        Toy.find(tmp_path / "slc")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KeyError("gain"), "has no 'gain'"),
        (ValueError("too few"), "too few"),
        (ZeroDivisionError("by zero"), "by zero"),
    ],
)
def test_content_that_contradicts_its_specification(tmp_path, error, words):
    with (
        pytest.raises(DataError, match=mentions(words, "a.xml")),
        damaged_header(tmp_path / "a.xml"),
    ):
        raise error
    with pytest.raises(RecursionError), damaged_header(tmp_path / "a.xml"):
        raise RecursionError


def test_headers_have_a_limit(tmp_path):
    path = tmp_path / "a.xml"
    path.write_bytes(b"<a>" + b" " * MAX_HEADER_BYTES + b"</a>")
    with pytest.raises(DataError, match=mentions("a.xml")):
        read_header_xml(path)
