"""Mutated inputs end with a result or an error of rsft that names the file, and files
beside them are read."""

import os
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest
from pyarrow import ArrowInvalid

from rsft.errors import DataError
from rsft.utils.cell.client import current_cell
from tests.fuzz.mutate import mutate_text
from tests.fuzz.registry import CORPORA
from tests.fuzz.sandbox import run
from tests.fuzz.target import Target

ROOT = Path(__file__).parents[2]


def fuzz(*options, out):
    """Run in a process of its own, whose copies share no threads with the tests."""
    command = [sys.executable, "-m", "tests.fuzz", *options, "--out", str(out)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("count", ["1", "8"])
def test_mutated_inputs_and_those_that_once_had_a_fault(tmp_path, count):
    done = fuzz("--count", count, out=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    classes = [line.split()[0] for line in done.stdout.splitlines()[1:-1]]
    in_corpus = {path.name for corpus in CORPORA for path in corpus.iterdir()}
    assert len(classes) > 50 and in_corpus <= set(classes)


def read_toy(folder):
    """Have a fault of each kind, by the first letter of the file."""
    import ctypes
    import signal
    import socket

    text = (folder / "a.txt").read_text()
    path = folder / "a.txt"
    errors = {
        "t": KeyError(text),
        "p": ArrowInvalid(str(path)),
        "T": DataError("fault", path),
        "u": DataError("fault"),
    }
    if text[0] in errors:
        raise errors[text[0]]
    if text.startswith("c"):
        signal.raise_signal(signal.SIGSEGV)
    if text.startswith("h"):
        while True:
            pass
    if text.startswith("m"):
        # more takes longer than a "hang" in a slow hour
        ctypes.memset(ctypes.create_string_buffer(2**29), 1, 2**29)
    if text.startswith("M"):
        bytearray(2**50)
    if text.startswith("l"):
        (folder / "out.txt").touch()
    calls = {
        "e": (os._exit, 3),
        "s": (time.sleep, 99),
        "b": (bytearray, 2**38),
        "v": (len, text),
    }
    if text[0] in calls:
        current_cell().call(*calls[text[0]])
    if text.startswith("n"):
        socket.create_connection(("127.0.0.1", 9))
    return {"o": ["other.txt"], "r": ["a.txt"]}.get(text[0])


TOY = Target(
    "toy",
    lambda folder: (folder / "a.txt").write_text("a"),
    {"a.txt": mutate_text},
    read_toy,
)


PRINT_KINDS = """
import sys, tempfile
from pathlib import Path
from tests.fuzz import sandbox, test_fuzz
sandbox.CPU_SECONDS = 2
sandbox.CELL_SECONDS = 5
with tempfile.TemporaryDirectory() as folder:
    print(*(outcome.kind for outcome in test_fuzz.outcomes(sys.argv[1:], Path(folder))))
"""


def outcomes(texts, folder):
    return list(
        run(
            TOY,
            len(texts),
            lambda index, originals: ("a.txt", texts[index].encode()),
            folder,
        )
    )


@pytest.mark.slow
def test_the_sandbox_sees_each_kind_of_fault(tmp_path):
    """In a process of its own, since the limit of memory depends on what the process
    has at the beginning."""
    expected = {
        **{
            "t": "traceback",
            "c": "crash",
            "a1": "accepted",
            "h": "hang",
            "m": "memory",
            "a2": "accepted",
        },
        **{
            "M": "memory",
            "l": "leftover",
            "a3": "accepted",
            "n": "network",
            "a4": "accepted",
        },
        **{"p": "traceback", "T": "told", "u": "unnamed", "o": "lost", "r": "accepted"},
        # in the reader cell
        **{"v": "accepted", "e": "crash", "s": "hang", "b": "memory", "a5": "accepted"},
    }
    command = [sys.executable, "-c", PRINT_KINDS, *expected]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert dict(zip(expected, done.stdout.split(), strict=True)) == expected, (
        done.stderr
    )


@pytest.mark.slow
def test_a_fault_has_the_name_of_its_exception_and_place(tmp_path):
    (fault,) = outcomes(["t"], tmp_path)
    assert fault.name.startswith("KeyError_") and "KeyError: 't'" in fault.detail


def test_mutations_depend_on_the_seed_only():
    text = b"a,b\n1,2\n"
    assert mutate_text(Random("1"), text) == mutate_text(Random("1"), text)
    assert len({mutate_text(Random(str(seed)), text) for seed in range(200)}) > 100
