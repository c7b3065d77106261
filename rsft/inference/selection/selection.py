"""Select the engine of a job. An exported graph needs no PyTorch."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from rsft.errors import RequestError, RsftError, WeightsError
from rsft.inference.engines.base import (
    ENGINES,
    FORMATS,
    REFERENCE,
    EngineSpec,
    find_engine,
    first_line,
)
from rsft.inference.engines.export_metadata import read_export_metadata
from rsft.inference.engines.graph import GraphEngine, LoadedEngine, graph_engine
from rsft.models.bundle.bundle import Bundle

if TYPE_CHECKING:
    from rsft.inference.selection.fastest import ReadSample


def select_engine(
    bundle: Bundle,
    name: str,
    precision: str | None,
    device: str,
    read_sample: ReadSample,
    chips: int,
    previous: str | None = None,
) -> LoadedEngine:
    """Return the requested engine, or for "auto" the fastest exact one.

    The outputs of an exact engine match PyTorch float32 within tolerance.

    Args:
        bundle: the bundle to load.
        name: auto, an engine, or the path of an export of the bundle.
        precision: fp32, bf16 or int8. None is fp32; for "auto" it allows fp32 and bf16.
        device: auto, cpu or cuda.
        read_sample: reads chips for measurements and for the check of a new export.
        chips: number of chips of the job.
        previous: engine of the interrupted job as `str(EngineSpec)`; "auto" prefers it.
            None for a new job.

    Raises:
        RequestError: the engine, the precision or the export cannot be used.
        WeightsError: the local backbone is not the bundle's, or an export is altered or
            differs from PyTorch.
    """
    if name != "auto" and name not in ENGINES and Path(name).exists():
        if precision is not None:
            raise RequestError(
                "the precision of an export is fixed", "--precision", "leave it out"
            )
        return load_exported_engine(bundle, Path(name))._replace(
            requested=name, reason=f"from {name}"
        )
    if find_spec("torch") is None:
        raise RequestError(
            f"PyTorch is not installed, which --engine {name} needs",
            "--engine",
            "give the path of an export (`rsft export`), or install all of rsft",
        )
    # PyTorch
    from rsft.inference.selection.fastest import (
        load_engine,
        read_images,
        select_fastest,
    )

    if name == "auto":
        return select_fastest(bundle, precision, device, read_sample, chips, previous)
    spec = find_engine(name).spec(precision or "fp32")
    if name == REFERENCE.engine:
        images = None
    else:
        images = read_images(bundle, read_sample)
    return load_engine(bundle, spec, device, images)._replace(requested=name)


def load_exported_engine(bundle: Bundle, path: Path) -> LoadedEngine:
    """Load an export of a bundle, with the bundle's test-time augmentation.

    It is given as its folder or as a file in it.

    Raises:
        RequestError: the path is not an export or belongs to another bundle, or no
            engine runs its format.
        WeightsError: a file of the export is altered or damaged.
    """
    folder = path if path.is_dir() else path.parent
    metadata = read_export_metadata(folder)
    exported = str(metadata.get("bundle_sha256"))
    kind = str(metadata.get("kind"))
    precision = str(metadata.get("precision"))
    if exported != bundle.sha256:
        message = (
            f"this is an export of the bundle {exported[:12]}, not of"
            f" {bundle.sha256[:12]}"
        )
        raise RequestError(message, path, "export this bundle: rsft export")
    if metadata.get("whole"):
        message = (
            "this export takes the pixels of chips, for programs without rsft; rsft"
            " predict prepares chips itself"
        )
        raise RequestError(
            message, path, "give an export that was made without --whole"
        )
    engine = find_engine(kind) if kind in ENGINES else None
    if not isinstance(engine, GraphEngine):
        formats = " or ".join(name for name in ENGINES if name in FORMATS)
        raise RequestError(
            f"no engine runs {kind} exports",
            path,
            f"export {formats}, or use --engine {REFERENCE.engine}",
        )
    try:
        model = engine.open_graph(folder / engine.file_name, precision)
    except (RsftError, MemoryError):
        raise
    except Exception as error:  # the type depends on the library and on the fault
        message = f"the graph cannot be opened: {first_line(error)}"
        raise WeightsError(
            message, folder / engine.file_name, "export again"
        ) from error
    return graph_engine(
        bundle, model, EngineSpec(kind, precision), folder / engine.file_name
    )
