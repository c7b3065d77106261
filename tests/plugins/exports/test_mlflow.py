"""`rsft export --format mlflow`: MLflow loads and serves the predictions of `rsft
predict`."""

import json

import numpy as np
import pytest

from rsft.data.imagery.reader import read_chip
from rsft.inference.engines.export_metadata import read_export_metadata
from rsft.inference.options import PredictionRequest
from rsft.inference.predict.job import predict
from rsft.models.bundle.bundle import Bundle

pytestmark = pytest.mark.slow
pyfunc = pytest.importorskip("mlflow.pyfunc", reason="MLflow is not installed")


@pytest.fixture(scope="module")
def folder(run, onnx_operators, tmp_path_factory):
    from rsft.inference.export.export import export_bundle

    return export_bundle(
        run, "mlflow", output_dir=tmp_path_factory.mktemp("mlflow") / "model", side=32
    ).folder


@pytest.fixture(scope="module")
def chips(root):
    """Paths and pixels (N, B, H, W) of chips."""
    paths = sorted((root / "chips/val").rglob("*.png"))[:6]
    return paths, np.stack(
        [np.moveaxis(read_chip(path)[:, :, :1], 2, 0) for path in paths]
    ).astype(np.float32)


def test_mlflow_loads_the_folder(run, folder, chips, tmp_path):
    paths, pixels = chips
    table = predict(
        run, paths, tmp_path / "out.csv", PredictionRequest(engine="torch")
    ).table
    predicted = pyfunc.load_model(str(folder)).predict(pixels)
    assert list(predicted["class"]) == list(table["class"])
    names = [
        "probability",
        *(f"p_{name}" for name in Bundle.load(run).classes),
        "ood_distance",
    ]
    assert list(predicted)[1:] == names
    signature = pyfunc.load_model(str(folder)).metadata.signature
    assert signature.outputs.input_names() == ["class", *names]
    np.testing.assert_allclose(
        predicted[names[1:]].to_numpy(),
        table[names[1:]].to_numpy(),
        atol=1e-4,
        rtol=1e-3,
    )
    with pytest.raises(Exception, match="Shape of input"):
        pyfunc.load_model(str(folder)).predict(pixels[:, :, :16])


def test_the_files_say_what_the_model_takes(run, folder):
    metadata = pyfunc.load_model(str(folder)).metadata.metadata
    assert metadata == {
        "unit": "uint8",
        "bands": "gray",
        "side": 32,
        "classes": ["flat", "slanted", "steep"],
    }
    files = read_export_metadata(folder)["files"]  # raises an error if one is altered
    assert {"MLmodel", "mlflow_model.py", "artifacts/graph/model.onnx"} <= set(files)
    assert "import rsft" not in (folder / "mlflow_model.py").read_text()
    assert str(run) not in (folder / "MLmodel").read_text()
    requirements = (folder / "requirements.txt").read_text().splitlines()
    assert {line.partition("==")[0] for line in requirements} == {
        "mlflow",
        "numpy",
        "onnxruntime",
        "pandas",
    }


def test_mlflow_serves_the_folder(folder, chips):
    testclient = pytest.importorskip(
        "starlette.testclient", reason="the server of MLflow is not installed"
    )
    scoring_server = pytest.importorskip("mlflow.pyfunc.scoring_server")
    model = pyfunc.load_model(str(folder))
    with testclient.TestClient(scoring_server.init(model)) as client:
        assert client.get("/ping").status_code == 200
        reply = client.post("/invocations", json={"inputs": chips[1].tolist()})
    rows = json.loads(reply.text)["predictions"]
    expected = model.predict(chips[1])
    assert [row["class"] for row in rows] == list(expected["class"])
    np.testing.assert_allclose(
        [row["probability"] for row in rows], expected["probability"], atol=1e-6
    )


def test_the_command(rsft, run, tmp_path):
    code, printed = rsft("export", run, "--format", "mlflow", "-o", tmp_path / "out")
    assert code == 2 and "takes chips of any size" in printed and "--size" in printed
    code, printed = rsft(
        "export",
        run,
        "--format",
        "mlflow",
        "--precision",
        "bf16",
        "-o",
        tmp_path / "out",
    )
    assert (
        code == 2
        and "no bf16 for mlflow" in printed
        and not (tmp_path / "out").exists()
    )
