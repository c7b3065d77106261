"""The tensors of a bundle, which are read when they are first used. A graph engine does not need them, or PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from rsft.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor

_HINT = "open the bundle again"


class TensorFile(MutableMapping[str, "Tensor"]):
    """The tensors of a safetensors file by name, as a dictionary. Changes are not written to the file.

    Args:
        path: the file.

    Raises:
        safetensors.SafetensorError: the file contains no tensors.
    """

    def __init__(self, path: Path) -> None:
        from safetensors import safe_open

        with safe_open(path, "numpy") as file:
            self._names = tuple(file.keys())
        self._path, self._state = path, _file_state(path)

    @cached_property
    def _tensors(self) -> dict[str, Tensor]:
        from safetensors.torch import load_file

        try:
            if _file_state(self._path) != self._state:
                raise WeightsError("the file was replaced after the bundle was opened", self._path, _HINT)
            return load_file(self._path)
        except OSError as error:
            raise WeightsError(f"the file cannot be read: {error.strerror}", self._path, _HINT) from error

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def __setitem__(self, name: str, tensor: Tensor) -> None:
        self._tensors[name] = tensor

    def __delitem__(self, name: str) -> None:
        del self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors if "_tensors" in vars(self) else self._names)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __or__(self, other: MutableMapping[str, Tensor]) -> dict[str, Tensor]:
        return {**self, **other}


def _file_state(path: Path) -> tuple[int, int, int]:
    """Return values that differ if the file is replaced."""
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns
