"""`rsft evaluate`: which chips are tested."""

import pytest


@pytest.mark.slow
def test_all_chips_or_one_split(rsft, run, tmp_path):
    code, err = rsft("evaluate", run, tmp_path / "data", "--all", "--split", "val")
    assert code == 2 and "--all" in err and "leave out --split" in err
    code, err = rsft("evaluate", run, tmp_path / "missing", "--all")
    assert code == 2 and "the folder does not exist" in err and "class folders" in err
