"""The options of a prediction job.

Each field with an `Option` is an option of `rsft predict`, and says what it does.

The command line imports this module for its help, so it imports nothing heavy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated

from rsft.data.imagery.products.options import (
    DEFAULT_OPTIONS,
    READ_HELP,
    ProductOptions,
    parse_product_options,
)
from rsft.inference.engines.base import ENGINES
from rsft.scenes.options import UNDECLARED, ChipOptions, Declaration
from rsft.scenes.query import Query
from rsft.utils.command_options import Access, Option

_detection = partial(Option, panel="Detection")
_pix = partial(Option, panel="Pixels of the input")
_out = partial(Option, panel="Outputs", access=Access.WRITE)
_speed = partial(Option, panel="Speed")


@dataclass(frozen=True)
class PredictionRequest:
    """Options of a prediction job, apart from bundle, inputs and output.

    Fields with `compare=False` do not change what a job records, so that it can be
    resumed with other values.

    Attributes:
        query: where to cut chips in scenes; by default the inputs are chips.
        declaration: unit, bands and pixel spacing of all inputs. Missing values come
            from the manifest of a chip store or from the files.
        chip_options: size of chips and of their pixels.
        product_options: how the values of scenes are read.
        readers: number of threads that read chips; None is one.
        precision: fp32, bf16 or int8; None leaves the choice to the engine.
    """

    query: Query = field(default_factory=Query)
    declaration: Declaration = UNDECLARED
    chip_options: ChipOptions = field(default_factory=ChipOptions)
    product_options: Annotated[
        ProductOptions,
        _pix(
            READ_HELP,
            "--read",
            metavar="HOW",
            parse=parse_product_options,
            is_repeated=True,
        ),
    ] = DEFAULT_OPTIONS
    chips_dir: Annotated[
        Path | None,
        _out("Folder in which chips cut from scenes are saved as GeoTIFF.", "--chips"),
    ] = None
    html_path: Annotated[
        Path | None,
        _out("HTML page to write, for reviewing and correcting labels.", "--html"),
    ] = field(default=None, compare=False)
    picture_path: Annotated[
        Path | None,
        _out(
            "PNG to write: a map of the scene with the classified objects, legend"
            " and scale.",
            "--picture",
        ),
    ] = field(default=None, compare=False)
    truth_path: Annotated[
        Path | None,
        _detection(
            "Positions and classes (column class) of the true objects, as for --at."
            " Prints how many --detect found.",
            "--truth",
            access=Access.OBJECTS,
        ),
    ] = field(default=None, compare=False)
    overwrite: Annotated[bool, Option("Replace existing output.")] = field(
        default=False, compare=False
    )
    batch_size: Annotated[int, _speed("Number of chips in a batch.", min=1)] = 32
    readers: Annotated[
        int | None,
        _speed(
            "Number of parallel readers of chips (default: 1); with an output folder,"
            " of scenes (default: all cores).",
            "--jobs",
            min=1,
        ),
    ] = field(default=None, compare=False)
    device: Annotated[str, Option("Device: auto, cpu or cuda.")] = field(
        default="auto", compare=False
    )
    engine: Annotated[
        str,
        _speed(
            f"{', '.join(ENGINES)}, or an export of this bundle (`rsft export`). auto:"
            " on a CPU, the export in the folder exports beside the bundle, if there"
            " is one; else torch. A precision may follow, such as onnx,int8 or"
            " torch,bf16 (default: fp32).",
            metavar="ENGINE",
        ),
    ] = "auto"
    precision: str | None = None


DEFAULT_REQUEST = PredictionRequest()
"""A request for chips with default options."""
