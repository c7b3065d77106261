"""Units, declarations and sizes of chips."""

import pytest

from rsft.data.prepare.store_build import parse_unit_option
from rsft.errors import RequestError
from rsft.scenes.options import UNDECLARED, ChipSize, Declaration
from tests.helpers.messages import mentions


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64", ChipSize(pixels=64)),
        (" 640m ", ChipSize(meters=640)),
        ("0.5m", ChipSize(meters=0.5)),
        ("box", ChipSize(margin=0)),
        ("box+8", ChipSize(margin=8)),
        ("box+0", ChipSize(margin=0)),
    ],
)
def test_sizes(text, size):
    assert ChipSize.parse(text) == size
    assert ChipSize.parse(str(size)) == size


@pytest.mark.parametrize(
    "text", ["", "0", "0m", "0.0m", "-3", "1.5", "m", "box-1", "box+", "64px", "064"]
)
def test_what_is_no_size(text):
    with pytest.raises(RequestError, match=mentions("no size", "--size", "box+8")):
        ChipSize.parse(text)


def test_units_have_one_spelling():
    assert parse_unit_option("dB") == "db" and parse_unit_option("Sigma0") == "sigma0"
    with pytest.raises(RequestError, match=mentions("--unit")):
        parse_unit_option("meters")


def test_what_is_declared_counts_before_what_is_not():
    first = Declaration("db", None, 10.0)
    second = Declaration("sigma0", ("VV",), None, is_chip=True)
    assert first.merge(second) == Declaration("db", ("VV",), 10.0, True)
    assert UNDECLARED.merge(second) == second == second.merge(UNDECLARED)
