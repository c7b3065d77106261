import shutil

import pytest


@pytest.fixture(scope="session")
def evaluated(run, root, tmp_path_factory):
    """Return the folder of an evaluated run whose chip store still exists."""
    from rsft.evaluation.evaluate import evaluate

    folder = tmp_path_factory.mktemp("evaluated") / "bars" / "001"
    shutil.copytree(run, folder)
    evaluate(folder / "bundle", root, folder / "evaluation")
    return folder
