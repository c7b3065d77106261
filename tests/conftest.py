"""What every test may use."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
Command = Callable[..., tuple[int, str]]


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """The folder of a real data set, by name; the test is skipped where it is absent."""
    base = Path(os.environ.get("RSFT_SHARED", ROOT.parent / "shared")) / "data"

    def find(name: str) -> Path:
        if not (base / name).exists():
            pytest.skip(f"real data set {name} is not at {base} (set RSFT_SHARED)")
        return base / name

    return find


@pytest.fixture
def rsft(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """Run the command line in an empty folder: exit code, then everything it printed."""
    from rsft.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["rsft", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        printed = capsys.readouterr()
        return int(stop.value.code or 0), printed.out + printed.err

    return run


@pytest.fixture(scope="session")
def class_folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train/ and val/ with three classes of speckled bars that differ in direction: 24, 12 and 4 training chips."""
    source = tmp_path_factory.mktemp("source")
    rng = np.random.default_rng(0)
    ends = {"flat": (28, 16), "steep": (16, 28), "slanted": (26, 26)}
    for split, counts in {"train": (24, 12, 4), "val": (6, 6, 6)}.items():
        for (name, end), count in zip(ends.items(), counts, strict=True):
            folder = source / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                image = rng.gamma(2, 15, (32, 32))
                start = (32 - end[0], 32 - end[1])
                cv2.line(image, start, end, 255, 3)
                cv2.imwrite(str(folder / f"{index}.png"), np.clip(image, 0, 255).astype(np.uint8))
    return source


@pytest.fixture(scope="session")
def root(class_folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`class_folders` as a prepared root."""
    from rsft.data.prepare.image_folder import prepare_folder

    return prepare_folder(class_folders, tmp_path_factory.mktemp("data") / "bars").root


RECIPE = """\
# Bars
# rsft finetune bars.yaml
data: {root: ROOT, size: 32, augment: sar}
meta: {outer_every: 2, lr: 0.05, warmup: 1}
train: {epochs: 3, batch_size: 8, lr: 0.02}
evaluate: {batch_size: 32}
"""


@pytest.fixture
def recipe_file(root: Path, tmp_path: Path) -> Path:
    """A recipe that trains on `root` in a few seconds."""
    path = tmp_path / "bars.yaml"
    path.write_text(RECIPE.replace("ROOT", str(root)))
    return path


@pytest.fixture(scope="session")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of that recipe."""
    from rsft.recipe.load import load_recipe
    from rsft.training.finetune import finetune

    folder = tmp_path_factory.mktemp("finished")
    (folder / "bars.yaml").write_text(RECIPE.replace("ROOT", str(root)))
    return finetune(load_recipe(folder / "bars.yaml"), folder / "runs").folder
