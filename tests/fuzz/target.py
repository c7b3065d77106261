"""Classes of input: a small valid input made by code, a mutator, and the reader that the commands call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
        build: writes a valid input into an empty folder, with everything that the reader needs beside it.
        mutators: how the files of the input are mutated, by path in the folder. Each mutation changes one file.
        read: reads the input in the folder, and writes only to `outputs` there.
        outputs: paths that may exist after success.
        share: share of the number of inputs that is tried. Expensive readers have less than 1.
    """

    name: str
    build: Callable[[Path], object]
    mutators: Mapping[str, Mutator]
    read: Callable[[Path], object]
    outputs: tuple[str, ...] = ()
    share: float = 1.0

    def mutate(self, seed: int, index: int, originals: Mapping[str, bytes]) -> tuple[str, bytes]:
        """Return the path and the content of the file that input number `index` changes.

        Args:
            seed: seed of the round.
            index: number of the input.
            originals: content of the valid files.
        """
        rng = Random(f"{self.name}/{seed}/{index}")
        file = rng.choice(list(self.mutators))
        return file, self.mutators[file](rng, originals[file])


def read_with_each(*readers: Callable[[], object]) -> None:
    """Call every reader, also after one of them has refused the input; raise the last refusal."""
    refusal = None
    for read in readers:
        try:
            read()
        except RsftError as error:
            refusal = error
    if refusal:
        raise refusal
