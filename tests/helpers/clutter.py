"""Write what a search of a folder must neither open nor follow."""

import os
import socket
from pathlib import Path


def write_clutter(folder: Path) -> None:
    """Write 10,000 files, pipes, a socket, closed folders, a loop of links and a link
    to all files into a folder.

    Some have the names of the archives of FUSAR-Ship and SRSDD.
    """
    for number in range(10_000):
        (folder / f"{number}.txt").touch()
    for name in ("closed", "FUSAR closed"):
        (folder / name).mkdir(mode=0)
    (folder / "loop").mkdir()
    for link, target in (
        ("loop/loop", folder / "loop"),
        ("FUSAR loop", folder / "FUSAR loop"),
        ("loop/FUSAR", "/"),
    ):
        (folder / link).symlink_to(target)
    for name in ("1.pipe", "loop/1.txt", "FUSAR.zip"):
        os.mkfifo(folder / name)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "SRSDD"))
