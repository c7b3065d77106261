import numpy as np

from tests.helpers.chip_tables import write_manifest_store
from tools.reproduction.stretch_study import format_table, hold_out


def test_table_has_differences_to_the_first_stretch():
    lines = format_table(
        {"percentile": [40.0, 50.0], "auto": [42.0, 54.0]}
    ).splitlines()
    assert lines[2:] == ["| percentile | 45.0 |  |", "| auto | 48.0 | +3.0 ± 12.7 |"]


def test_every_chip_is_held_out_once(tmp_path):
    columns = {
        "group_key": list("aaaabbbccd") * 4,
        "class": ["cargo", "tanker"] * 20,
        "split": ["train"] * 40,
    }
    paths = [f"chips/{n:02}.png" for n in range(40)]
    store = write_manifest_store(
        tmp_path / "store", ("cargo", "tanker"), path=paths, **columns
    )
    tables = [fold.table for fold, _ in hold_out(store, 0, tmp_path / "folds")]
    held_out = [table[table["split"] == "test"] for table in tables]
    assert [set(table["group_key"]) for table in held_out] == [{"a"}, {"b"}, {"c", "d"}]
    assert sorted(np.concatenate([table["path"] for table in held_out])) == paths
    assert all(set(table["split"]) == {"train", "val", "test"} for table in tables)
