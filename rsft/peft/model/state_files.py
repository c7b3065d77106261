"""Write and read safetensors files."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from rsft.peft.modules.adapter_module import NamedTensors
from rsft.utils.atomic_files import write_bytes


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
    write_bytes(path, save(cpu_tensors, dict(metadata)))


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
