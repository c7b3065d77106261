"""The simulation imports no network."""

from tests.cli.test_imports import NETWORKS, TORCHGEO, run_commands

FEW_CHIPS = """
from rsft.plugins.demo import prepare as demo
few = dict.fromkeys(demo.DEMO_CLASSES, 1)
train = dict(zip(demo.DEMO_CLASSES, (6, 4, 3, 2)))
demo.DEMO_COUNTS, demo.DEMO_SCENES = {"train": train, "val": few, "test": few}, 1
"""


def test_prepare_demo_imports_no_networks(tmp_path):
    commands = {"demo": [["prepare", "demo", "--root", "demo"]]}
    packages = run_commands(tmp_path, commands, FEW_CHIPS)["demo"]
    assert not packages & {*TORCHGEO, *NETWORKS, "sklearn", "geopandas"}
