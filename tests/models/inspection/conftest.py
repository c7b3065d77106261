import shutil

import pytest


@pytest.fixture
def copy(run, tmp_path):
    return shutil.copytree(run / "bundle", tmp_path / "bundle")
