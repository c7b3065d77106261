"""How the archive of OpenSARShip is found."""

from rsft.data.datasets.archive_search import locate_sources
from rsft.plugins.opensarship.archives import OPENSARSHIP_ARCHIVE


def test_scenes_are_found_by_their_content(tmp_path):
    scene = tmp_path / "data/scenes/S1A_IW"
    scene.mkdir(parents=True)
    (scene / "Ship.xml").touch()
    store, located = locate_sources(tmp_path / "data", {OPENSARSHIP_ARCHIVE: None})
    assert store == tmp_path / "data/opensarship"
    assert located == {OPENSARSHIP_ARCHIVE: scene}
