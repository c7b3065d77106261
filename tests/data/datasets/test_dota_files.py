"""Images of DOTA and their label files in any folders."""

from rsft.data.datasets.dota_files import DOTATree
from tests.data.datasets.dota.data import row, write_pair


def test_pairs_share_split_and_stem(tmp_path):
    write_pair(tmp_path / "train", row(10, 10, 30, 20))
    write_pair(tmp_path / "val", row(10, 10, 30, 20), "P2")
    write_pair(tmp_path / "val", row(10, 10, 30, 20), "P2", labels_in="labelTxt-v1.5")
    (tmp_path / "notes.txt").write_text("hello")
    tree = DOTATree(tmp_path, "1.0")
    assert list(tree.pairs) == [("train", "P1"), ("val", "P2")]
    assert tree.pairs["val", "P2"][1] == tmp_path / "val/labelTxt/P2.txt"
    assert tree.skipped == {
        "label file of v1.5": 1,
        "text file that is not a label file": 1,
    }
    newer = DOTATree(tmp_path, "1.5")
    assert newer.pairs["val", "P2"][1].parent.name == "labelTxt-v1.5"
