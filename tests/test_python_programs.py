"""Programs that a researcher writes at the first try, and how long each of them is."""

import asyncio
import json
import shutil
import warnings

import numpy as np
import pytest

from tests.helpers.scenes import write_sea
from tests.helpers.style import ROOT

pytestmark = pytest.mark.slow

OWN_LOOP = """
import timm, torch, rsft
from torch.utils.data import DataLoader
from rsft.torchgeo import ChipStoreDataModule

data = ChipStoreDataModule("data/ships", batch_size=8, size=64)
data.setup("fit")
vit = timm.create_model("vit_tiny_patch16_224", img_size=64, in_chans=1, num_classes=3)
lora = rsft.peft.LoRA(rank=4, positions="qv")
model = rsft.attach(vit, lora, train_also=("head",))
optimizer = torch.optim.AdamW(model.theta, 1e-3)
for epoch in range(2):
    model.train()
    for batch in DataLoader(data.train_dataset, batch_size=8, shuffle=True):
        logits = model(batch["image"] / 255)
        loss = torch.nn.functional.cross_entropy(logits, batch["label"])
        optimizer.zero_grad(); loss.backward(); optimizer.step()
model.eval()
with torch.no_grad():
    batches = list(DataLoader(data.val_dataset, 64))
    predicted = torch.cat([model(x["image"] / 255).argmax(1) for x in batches])
labels = torch.cat([x["label"] for x in batches])
accuracy = (predicted == labels).float().mean()
"""
LIGHTNING = """
from lightning.pytorch import Trainer
from rsft.torchgeo import ChipStoreDataModule, PEFTClassificationTask
data = ChipStoreDataModule("data/ships", batch_size=8, size=64)
task = PEFTClassificationTask("vit_tiny_patch16_224", in_channels=1, num_classes=3,
                              peft={"method": "lora", "rank": 4, "positions": "qv"},
                              loss="logit_adjustment", img_size=data.size)
trainer = Trainer(max_epochs=1, logger=False, enable_progress_bar=False)
trainer.fit(task, datamodule=data)
(metrics,) = trainer.validate(task, datamodule=data)
"""
EVALUATE = """
from rsft import metrics
groups = {"head": [0], "medium": [1], "tail": [2]}
summary = metrics.summarize_accuracy(predicted.numpy(), labels.numpy(), 3, groups)
"""
CLASSIFY = """
import rsft, rasterio, rasterio.windows
model = rsft.load_bundle("runs/ships")
table = model.predict(chips)
windows = model.predict(rasterio.open("scene.tif"), windows=rasterio.windows.Window(100, 200, 64, 64))
"""
SERVE = """
import numpy as np
import rsft
from fastapi import FastAPI
model = rsft.load_bundle("runs/ships")
app = FastAPI()
@app.post("/classify")
def classify(pixels: list[list[int]]):
    table = model.predict(np.array(pixels), unit="uint8")
    return table[["class", "probability"]].to_dict("records")
"""


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A folder with a chip store, a run and a scene."""
    artifacts = ROOT / "tests/compat/0.2"
    shutil.copytree(artifacts / "store", tmp_path / "data/ships")
    shutil.copytree(artifacts / "run", tmp_path / "runs/ships/001")
    write_sea(tmp_path / "scene.tif")
    monkeypatch.chdir(tmp_path)


def execute(program, lines, **values):
    """Run a program of at most this number of lines, and return its variables."""
    assert len([line for line in program.splitlines() if line.strip()]) <= lines
    with warnings.catch_warnings(action="ignore"):  # random weights, few batches
        exec(compile(program, "program", "exec"), values)
    return values


def test_own_loop_and_its_accuracy(workspace):
    values = execute(OWN_LOOP, 22)
    assert 0 <= values["accuracy"] <= 1 and len(values["labels"]) == 27
    values = execute(EVALUATE, 3, **values)
    assert values["summary"].micro.value == pytest.approx(float(values["accuracy"]))


def test_lightning(workspace):
    assert 0 <= execute(LIGHTNING, 9)["metrics"]["val_OverallAccuracy"] <= 1


def test_array_and_window(workspace):
    chips = np.random.default_rng(0).integers(0, 256, (4, 1, 64, 64), np.uint8)
    values = execute(CLASSIFY, 4, chips=chips)
    assert len(values["table"]) == 4 and values["table"]["class"].notna().all()
    assert values["windows"]["class"].notna().all()
    assert values["windows"]["geometry"][0].geom_type == "Polygon"


def test_server(workspace):
    pytest.importorskip("fastapi")
    values = execute(SERVE, 9)
    chip = np.random.default_rng(0).integers(0, 256, (64, 64))
    status, rows = asyncio.run(post(values["app"], "/classify", chip.tolist()))
    expected = values["model"].predict(chip.astype(np.uint8))
    assert status == 200 and rows[0]["class"] == expected["class"][0]
    assert rows[0]["probability"] == pytest.approx(expected["probability"][0])


async def post(app, path, content):
    """Send JSON to an ASGI application; return the status and the content."""
    sent = []
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1"}
    scope |= {"method": "POST", "path": path, "raw_path": path.encode()}
    scope |= {"query_string": b"", "root_path": "", "scheme": "http"}
    scope |= {"headers": [(b"content-type", b"application/json")]}
    body = json.dumps(content).encode()

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    answer = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], json.loads(answer)
