"""Chips of the background show no object."""

from rsft.data.chips.store import read_dataset
from tests.scenes.preparation.conftest import chips_of, prepared


# class, row, col, length, width
def test_background_chips_show_no_object(scenes, tmp_path):
    store = prepared(scenes, tmp_path / "store", background=5, seed=3)
    assert store.classes[-1] == "background"
    backgrounds = {
        name: pixels for name, pixels in chips_of(store).items() if "background" in name
    }
    assert len(backgrounds) == 10 and all(
        pixels.shape == (32, 32, 1) for pixels in backgrounds.values()
    )
    assert all(pixels.max() < 9 for pixels in backgrounds.values())
    again = prepared(scenes, tmp_path / "again", background=5, seed=3)
    assert list(again.table["sha256"]) == list(store.table["sha256"])
    crowded = prepared(scenes, tmp_path / "crowded", background=40, size="64")
    assert any(
        "background chips" in note for note in read_dataset(crowded.root)["notes"]
    )
