"""Load the exports of rsft in an environment without rsft, and compare their
predictions with those of rsft.

    python -m tests.foreign_exports make FOLDER                  # with rsft: bundles,
    exports and predictions OTHER/bin/python tests/foreign_exports.py check FOLDER
    # with timm, transformers, peft, mlflow and onnxruntime

`make test-foreign` does both. The code in the README.md of an export is run as it is
printed there.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import numpy as np

CASES = {
    "vit": {},
    "cosine": {"head": {"kind": "cosine"}},
    "resnet": {
        "name": "resnet18",
        "size": 64,
        "peft": {"positions": ["conv1", "conv2"]},
    },
}
TOLERANCE = 1e-5
PORT = 5123


def make(folder):
    """Write one folder per case: bundle, exports, and expected.npz with the predictions
    of rsft."""
    import torch

    from rsft.inference.export.export import export_bundle
    from rsft.models.loading import load_classifier
    from tests.helpers.tiny_bundles import timm_bundle

    for case, options in CASES.items():
        path = folder / case
        path.mkdir(parents=True)
        bundle = timm_bundle(path, **options)
        bundle.save(path / "bundle")
        size = bundle.contract.size
        chips = np.random.default_rng(0).integers(0, 256, (4, size, size, 1), np.uint8)
        images = bundle.contract.normalize(
            [bundle.contract.to_image(chip) for chip in chips]
        )
        with torch.no_grad():
            logits = (
                load_classifier(bundle, "cpu").predict(torch.from_numpy(images)).logits
            )
        np.savez(
            path / "expected.npz",
            chips=chips,
            images=images,
            logits=logits,
            probabilities=logits.softmax(1),
        )
        for name in ("timm", "peft", "torch-export"):
            if (case, name) != ("cosine", "timm"):
                export_bundle(path / "bundle", name, output_dir=path / name)
        for name in ("onnx", "mlflow"):
            export_bundle(
                path / "bundle", name, output_dir=path / name, whole=True, side=size
            )
        shutil.rmtree(path / "bundle")
        # the frozen network, which an export must not need
        next(path.glob("*.safetensors")).unlink()


def check(folder):
    """Compare all exports; raise an error if one differs, or if rsft is installed."""
    assert find_spec("rsft") is None, "this environment has rsft"
    for path in sorted(path for path in folder.iterdir() if path.is_dir()):
        expected = dict(np.load(path / "expected.npz"))
        for name, loader in LOADERS.items():
            if (path / name).exists():
                for way, values in loader(path / name, expected):
                    reference = expected[
                        "logits" if "logits" in way else "probabilities"
                    ]
                    difference = np.abs(np.asarray(values) - reference).max() / max(
                        1, np.abs(reference).max()
                    )
                    assert difference <= TOLERANCE, (
                        f"{path / name}, {way}: {difference}"
                    )
                    print(f"{path.name:8} {name:14} {way:45} {difference:.1e}")


def run_readme(folder, images):
    """Run the code in README.md; return its variables."""
    import torch

    variables = {"images": torch.from_numpy(images)}
    for block in re.findall(
        r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL
    ):
        exec(block.replace("FOLDER", str(folder)), variables)
    return variables


def load_timm(folder, expected):
    """Load a timm export by folder, by a name on the Hub, and by the pipeline of
    transformers."""
    import timm
    import torch
    from PIL import Image
    from transformers import pipeline

    yield (
        "logits of README.md",
        run_readme(folder, expected["images"])["logits"].detach(),
    )
    with torch.no_grad():
        hub_model = timm.create_model(
            f"hf-hub:{in_hub_cache(folder)}", pretrained=True
        ).eval()
        yield (
            "logits of a name on the Hub (hf-hub:)",
            hub_model(torch.from_numpy(expected["images"])),
        )
    classes = json.loads((folder / "export.json").read_text())["classes"]
    pictures = [Image.fromarray(chip[:, :, 0]) for chip in expected["chips"]]
    rows = pipeline("image-classification", model=str(folder))(
        pictures, top_k=len(classes)
    )
    scores = [{row["label"]: row["score"] for row in chip} for chip in rows]
    yield (
        "probabilities of transformers.pipeline",
        [[chip[name] for name in classes] for chip in scores],
    )


def in_hub_cache(folder):
    """Put a folder into the cache of the Hub, as after a download; return the name of
    the repository."""
    cache = Path(os.environ["HF_HUB_CACHE"]) / f"models--rsft--{folder.parent.name}"
    shutil.copytree(folder, cache / "snapshots" / ("0" * 40), dirs_exist_ok=True)
    (cache / "refs").mkdir(exist_ok=True)
    (cache / "refs/main").write_text("0" * 40)
    return f"rsft/{folder.parent.name}"


def load_peft(folder, expected):
    """Load a PEFT export by the lines of its README.md, which also compare the hash of
    the base."""
    yield (
        "logits of README.md",
        run_readme(folder, expected["images"])["logits"].detach(),
    )


def load_torch_export(folder, expected):
    """Load the graph of torch.export."""
    import torch

    graph = torch.export.load(folder / "model.pt2").module()
    yield (
        "logits of torch.export.load",
        graph(torch.from_numpy(expected["images"]))[0].detach(),
    )


def pixels_of(expected):
    """Return the pixels of chips as (N, B, H, W)."""
    return np.moveaxis(expected["chips"], 3, 1).astype(np.float32)


def load_onnx(folder, expected):
    """Run the whole pipeline in ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(
        folder / "model.onnx", providers=["CPUExecutionProvider"]
    )
    properties = session.get_modelmeta().custom_metadata_map
    assert (
        json.loads(properties["classes"]) == ["barge", "ferry", "tug"]
        and properties["unit"] == "uint8"
    )
    yield (
        "probabilities of ONNX Runtime",
        session.run(None, {"pixels": pixels_of(expected)})[0],
    )


def load_mlflow(folder, expected):
    """Load the model in this process, and serve it in another one."""
    import mlflow.pyfunc

    pixels = pixels_of(expected)
    columns = ["p_barge", "p_ferry", "p_tug"]
    yield (
        "probabilities of mlflow.pyfunc.load_model",
        mlflow.pyfunc.load_model(str(folder)).predict(pixels)[columns],
    )
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "models",
        "serve",
        "-m",
        str(folder),
        "--env-manager",
        "local",
    ]
    # it starts uvicorn
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    }
    with subprocess.Popen(
        [*command, "--port", str(PORT)], env=environment, start_new_session=True
    ) as server:
        try:
            body = json.dumps({"inputs": pixels.tolist()}).encode()
            rows = json.loads(post(f"http://127.0.0.1:{PORT}/invocations", body))[
                "predictions"
            ]
            yield (
                "probabilities of mlflow models serve",
                [[row[name] for name in columns] for row in rows],
            )
        finally:
            os.killpg(server.pid, 15)


def post(url, body, seconds=120):
    """Return the reply of a server that is about to start."""
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    end = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                return reply.read()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)


LOADERS = {
    "timm": load_timm,
    "peft": load_peft,
    "torch-export": load_torch_export,
    "onnx": load_onnx,
    "mlflow": load_mlflow,
}

if __name__ == "__main__":
    work = Path(sys.argv[2]).resolve()
    os.environ |= {
        "HF_HUB_CACHE": str(work / ".hub"),
        "HF_HUB_OFFLINE": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    {"make": make, "check": check}[sys.argv[1]](work)
