"""Write and read safetensors files."""

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from rsft.peft.modules.adapter_module import NamedTensors


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, then rename it.

    Args:
        path: the path of the file.
        content: the content of the file.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> None:
    """Write a safetensors file atomically.

    Args:
        path: the path of the file.
        tensors: name -> tensor, on any device.
        metadata: name -> text.
    """
    cpu_tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()
    }
    write_bytes_atomically(path, save(cpu_tensors, dict(metadata)))


def read_tensors(path: Path) -> tuple[NamedTensors, dict[str, str]]:
    """Read a safetensors file.

    Args:
        path: the path of the file.

    Returns:
        Name -> tensor, and the metadata: name -> text.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is damaged or of another kind.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {
                name: file.get_tensor(name)
                for name in file.keys()  # noqa: SIM118
            }, file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a complete safetensors file: {error}"
        ) from error
