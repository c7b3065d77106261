"""JSON from untrusted sources."""

import pytest

from rsft.utils.untrusted.documents import (
    MAX_DEPTH,
    MAX_DIGITS,
    leads_away,
    parse_json,
)


def test_documents_are_parsed():
    assert parse_json(b'\xef\xbb\xbf{"a": [1, 2.5, null]}') == {"a": [1, 2.5, None]}
    assert parse_json("1" * MAX_DIGITS) == int("1" * MAX_DIGITS)
    parse_json("[" * MAX_DEPTH + "]" * MAX_DEPTH)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("[" * 101 + "]" * 101, "more than 100 levels"),
        ("[" * 100_000 + "]" * 100_000, "more than 100 levels"),
        ('{"a":' * 101 + "1" + "}" * 101, "more than 100 levels"),
        ("1" * 1001, "1,001 digits; the limit is 1,000"),
        ("9" * 100_000, "100,000 digits"),
        (b"\xff", "decode"),
        ("{", "Expecting"),
    ],
)
def test_documents_that_are_refused(data, message):
    with pytest.raises(ValueError, match=message):
        parse_json(data)


def test_half_a_character_is_refused():
    assert parse_json('["\\ud83d\\udea2"]') == ["\U0001f6a2"]
    with pytest.raises(ValueError, match="surrogates"):
        parse_json('{"a": ["\\ud800"]}')


def test_a_link_to_another_folder_leads_away(tmp_path):
    (tmp_path / "other").mkdir()
    for name in ("a.tif", "a.aux", "other/a.aux"):
        (tmp_path / name).touch()
    image = tmp_path / "a.tif"
    beside = tmp_path / "a.ovr"
    beside.symlink_to(tmp_path / "a.aux")
    assert not leads_away(beside, image) and not leads_away(tmp_path / "a.aux", image)
    beside.unlink()
    beside.symlink_to(tmp_path / "other/a.aux")
    assert leads_away(beside, image)
    link = tmp_path / "link.tif"
    link.symlink_to(image)
    assert not leads_away(beside, link)  # an honest pair
