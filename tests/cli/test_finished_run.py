"""The result of rsft.finetune, in Python and in a notebook."""

import json
import shutil
from pathlib import Path

import pytest

import rsft as package
from rsft.evaluation.report.dataset import SceneMap, save_scene_maps
from rsft.recipe.load import load_recipe


@pytest.fixture
def chips(class_folders, tmp_path):
    """Class folders below the working directory, with a space in their name."""
    return Path(shutil.copytree(class_folders, tmp_path / "my bars").name)


@pytest.mark.slow
def test_python(rsft, chips, root, run, monkeypatch):
    options = {
        "overrides": ["train.epochs=1", "budget=0s"],
        "no_report": True,
        "quiet": True,
    }
    result = package.finetune(chips, **options)
    assert result.bundle == Path("runs/my-bars/001/bundle") and result.report == Path(
        "runs/my-bars/001/report.html"
    )
    assert (
        result.commands[0] == "rsft prepare folder 'my bars' --root data/my-bars"
        and len(result.commands) == 3
    )
    measured = json.loads(Path("runs/my-bars/001/evaluation/metrics.json").read_text())[
        "methods"
    ]
    assert list(result.accuracy.index) == list(measured) and list(result.accuracy)[
        :2
    ] == ["overall", "macro"]
    macro = next(iter(measured.values()))["macro"]["value"]
    assert result.accuracy["macro"].iloc[0] == pytest.approx(100 * macro)
    table = result.predict(chips / "val/flat")
    assert len(table) == 6 and set(table["class"]) <= {"flat", "steep", "slanted"}

    picture = next(chips.rglob("*.png")).read_bytes()
    save_scene_maps(result.folder, [(SceneMap("<b>", 3, None, []), picture)])
    page = result._repr_html_()
    assert (
        f"{100 * macro:.1f}" in page
        and "<th>macro</th>" in page
        and "report.html" not in page
    )
    assert '<img src="data:image' in page and "&lt;b&gt;: 3 classified objects" in page
    assert (
        page.index("<img") < page.index("<table")
        and repr(result) == "FinishedRun('runs/my-bars/001')"
    )
    # the second call trains nothing
    assert package.finetune(chips, **options).folder == result.folder

    recipe = load_recipe(run / "recipe.yaml")
    monkeypatch.setattr(
        "rsft.training.finetune.finetune",
        lambda *arguments, **options: (arguments, options),
    )
    assert package.finetune(recipe, Path("x"), source="y") == (
        (recipe, Path("x")),
        {"source": "y"},
    )


@pytest.mark.slow
def test_a_notebook_shows_progress_and_the_result(chips, tmp_path):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    call = (
        f"rsft.finetune({str(chips)!r}, overrides=['train.epochs=1', 'budget=0s'],"
        " no_report=True)"
    )
    cells = [
        f"import rsft; result = {call}",
        "result",
        "len(result.predict('my bars/val/flat'))",
    ]
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell) for cell in cells]
    )
    messages = []

    class Client(nbclient.NotebookClient):
        def process_message(self, message, cell, number):
            messages.append(
                (
                    message["msg_type"],
                    message["content"].get("data", {}).get("text/html", ""),
                )
            )
            return super().process_message(message, cell, number)

    resources = {"metadata": {"path": str(tmp_path)}}
    Client(notebook, timeout=900, kernel_name="python3", resources=resources).execute()
    texts = [html for kind, html in messages if kind == "display_data"]
    assert [
        number
        for number in range(1, 6)
        if any(f"step {number} of 5" in text for text in texts)
    ] == [1, 2, 3, 4, 5]
    assert any("images/s" in text and "val loss" in text for text in texts)
    assert "<th>macro</th>" in notebook.cells[1].outputs[0].data["text/html"]
    assert notebook.cells[2].outputs[0].data["text/plain"] == "6"
