"""`rsft evaluate`: which chips are tested."""

import pytest


@pytest.mark.slow
def test_all_chips_of_a_missing_folder(rsft, run, tmp_path):
    code, err = rsft("evaluate", run, tmp_path / "missing", "--split", "all")
    assert code == 2 and "the folder does not exist" in err and "class folders" in err
