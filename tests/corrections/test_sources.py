"""A corrected table only names files and addresses that the user trusts."""

import pytest

from rsft.corrections.sources import Sources
from rsft.data.imagery.scene_uri import SceneUri
from rsft.errors import RequestError
from tests.helpers.messages import mentions

SERVER = "https://a.org/scenes"


@pytest.fixture
def table(tmp_path):
    """Path of a table, beside which and elsewhere files lie."""
    for name in ("store/a.tif", "tables/b.tif", "elsewhere/c.tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path / "tables/corrected.csv"


def test_files_of_the_store_and_beside_the_table_are_read(table, tmp_path):
    sources = Sources(tmp_path / "store", table, [])
    stored, beside = tmp_path / "store/a.tif", tmp_path / "tables/b.tif"
    other, absent = tmp_path / "elsewhere/c.tif", tmp_path / "d.tif"
    assert sources.find_file([absent, other, beside, stored], 1) == beside
    assert sources.find_file([absent], 1) is None
    with pytest.raises(RequestError, match=mentions("c.tif", "--source", "elsewhere")):
        sources.find_file([absent, other], "corrected.csv:3")
    link = tmp_path / "tables/link.tif"
    link.symlink_to(other)
    with pytest.raises(RequestError, match=r"link\.tif"):
        sources.find_file([link], 1)
    for named in (None, [str(tmp_path / "elsewhere")]):
        assert Sources(tmp_path, table, named).find_file([other], 1) == other


@pytest.mark.parametrize(
    ("named", "address", "is_allowed"),
    [
        (None, f"{SERVER}/a.tif", True),
        ([], "a.tif", True),
        ([], f"{SERVER}/a.tif", False),
        ([SERVER], f"{SERVER}/a.tif", True),
        ([f"{SERVER}/"], SERVER, True),
        ([SERVER], f"{SERVER}-of-others/a.tif", False),
        (["https://b.org", SERVER], f"{SERVER}/a.tif", True),
    ],
)
def test_addresses_need_a_name(table, tmp_path, named, address, is_allowed):
    sources = Sources(tmp_path / "store", table, named)
    uri = SceneUri.parse(address)
    if is_allowed:
        sources.check(uri)
    else:
        with pytest.raises(RequestError, match=mentions("--source", address)):
            sources.check(uri)
