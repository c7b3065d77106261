"""Values of --read."""

import pytest

from rsft.data.imagery.products.options import ProductOptions, parse_product_options
from rsft.errors import RequestError
from tests.helpers.messages import mentions


def test_values_are_fields():
    texts = ["modulus", "keep-noise", "asset=vv,vh", "calibrate=1e-3"]
    expected = ProductOptions(True, 0.001, True, False, "vv,vh")
    assert parse_product_options(texts) == expected
    assert parse_product_options([]) == ProductOptions()
    assert parse_product_options(["gamma0-to-sigma0"]).gamma0_to_sigma0


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["fast"], ("'fast'", "--read", "keep-noise")),
        (["asset="], ("'asset='", "asset=NAME")),
        (["modulus=1"], ("'modulus=1'",)),
        (["calibrate=x"], ("'x' is no number", "--read calibrate")),
        (["calibrate=0"], ("0 is not a positive number", "DN^2")),
        (["calibrate=inf"], ("inf is not a positive number",)),
        (["calibrate=nan"], ("nan is not a positive number",)),
        (["calibrate=1", "gamma0-to-sigma0"], ("cannot be used together",)),
    ],
)
def test_wrong_values(texts, words):
    with pytest.raises(RequestError, match=mentions(*words)):
        parse_product_options(texts)
