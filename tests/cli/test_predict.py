"""`rsft predict` rejects wrong options before any work."""

from __future__ import annotations

import sys

import pytest

from rsft.cli import main


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-o", "out.shp"], ["cuts column names at 10 characters", ".gpkg"]),
        (["-o", "out.gpkg", "--land", "l.gpkg"], ["--land only works with --detect", "--detect"]),
        (["-o", "out.gpkg", "--grid", "8", "--detect"], ["used together", "choose one"]),
        (["-o", "out.gpkg", "--stride", "8"], ["--grid as well"]),
        (["-o", "out.gpkg", "--detect", "--pfa", "2"], ["false alarm rate of 2", "1e-6"]),
        (["-o", "out.gpkg", "--chips", "cut"], ["only saved if they are cut from scenes"]),
        (["-o", "out.gpkg", "--html", "page.txt"], ["give it the suffix .html"]),
        (["-o", "out.gpkg", "--resample-to", "0"], ["--resample-to"]),
        (["-o", "out.gpkg", "--unit", "sigma"], ["unknown unit sigma; choose one of uint8", "gamma0_db", "--unit"]),
        (["-o", "out.gpkg", "--asset", "vv"], ["are options for scenes", "--grid"]),
    ],
)
@pytest.mark.slow
def test_refused(run, tmp_path, monkeypatch, capsys, options, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["rsft", "predict", str(run), "x.png", *options])
    with pytest.raises(SystemExit) as stop:
        main()
    printed = " ".join("".join(capsys.readouterr()).split())
    assert stop.value.code == 2 and all(word in printed for word in words) and "Traceback" not in printed
    assert not list(tmp_path.iterdir())
