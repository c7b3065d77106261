"""Tasks that fail in every way, for the process that runs them."""

import os
import time
from math import nan

from tools.gpu_check.rows import Figure, NotRunError, Task

MACHINE = {"device": "none"}


def measure():
    return [Figure(2.0, "m"), Figure(0.1, "", "error", limit=0.5)]


def measure_badly():
    return [Figure(3.0, "m"), Figure(nan, "", "error", limit=0.5)]


def refuse():
    raise NotRunError("no such device")


def fail():
    raise RuntimeError("out of memory\nsecond line")


def crash():
    os._exit(3)  # as a crash of a library


def hang():
    time.sleep(600)


def make_tasks():
    functions = (measure, fail, crash, refuse, measure_badly)
    return MACHINE, [
        Task("a", function.__name__, function, "measure") for function in functions
    ]


def make_hanging_tasks():
    return MACHINE, [Task("a", f.__name__, f) for f in (measure, hang, measure)]


def make_none():
    raise ValueError("this machine has no GPU")
