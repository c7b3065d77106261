"""Classes of input: a small valid input made by code, a mutator, and the reader that
the commands call."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

from rsft.errors import RsftError
from tests.fuzz.mutate import Mutator


@dataclass(frozen=True)
class Target:
    """A class of input.

    Attributes:
        name: name of the class, also of its folder in the corpus.
        build: writes a valid input into an empty folder, with everything that the
            reader needs beside it.
        mutators: how the files of the input are mutated, by path in the folder. Each
            mutation changes one file.
        read: reads the input in the folder, and writes only to `outputs` there. It
            returns the files of the input that were rejected by name; None for an input
            that is accepted or refused as a whole.
        outputs: paths that may exist after success.
        named_by: what an error must name: the changed "file" or a folder of the input
            around it; the "folder" with the whole input; or nothing (""), because the
            content comes from the command line.
    """

    name: str
    build: Callable[[Path], object]
    mutators: Mapping[str, Mutator]
    read: Callable[[Path], Collection[str] | None]
    outputs: tuple[str, ...] = ()
    named_by: str = "file"

    def mutate(
        self, seed: int, index: int, originals: Mapping[str, bytes]
    ) -> tuple[str, bytes]:
        """Return the path and the content of the file that input number `index`
        changes.

        Args:
            seed: seed of the round.
            index: number of the input.
            originals: content of the valid files.
        """
        rng = Random(f"{self.name}/{seed}/{index}")
        file = rng.choice(list(self.mutators))
        return file, self.mutators[file](rng, originals[file])


def read_by_name(readers: Mapping[str, Callable[[], object]]) -> list[str]:
    """Call the reader of every file, and return the names of the files that it refuses.

    Raises:
        AssertionError: an error does not name its file.
    """
    rejected = []
    for name, read in readers.items():
        try:
            read()
        except RsftError as error:
            assert Path(name).name in str(error), f"{name} is not named by: {error}"
            rejected.append(name)
    return rejected


def read_with_each(*readers: Callable[[], object]) -> None:
    """Call every reader, also after one of them has refused the input; raise the last
    refusal."""
    refusal = None
    for read in readers:
        try:
            read()
        except RsftError as error:
            refusal = error
    if refusal:
        raise refusal
