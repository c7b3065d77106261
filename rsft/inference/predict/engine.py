"""Load the engine of a job. An exported graph needs no PyTorch."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from rsft.errors import RequestError, RsftError, WeightsError
from rsft.inference.engines.base import (
    ENGINES,
    FORMATS,
    REFERENCE,
    DirectEngine,
    EngineSpec,
    LoadedEngine,
    find_engine,
    first_line,
)
from rsft.inference.engines.export_metadata import (
    METADATA_FILE,
    export_folder,
    read_export_metadata,
)
from rsft.inference.engines.graph import GraphEngine, graph_engine
from rsft.models.bundle.bundle import Bundle
from rsft.utils.operating_system import has_gpu_driver


def choose_engine(
    bundle: Bundle, bundle_dir: Path, name: str, precision: str | None, device: str
) -> str:
    """Return what "auto" stands for; any other name stays.

    Args:
        bundle: the bundle to load.
        bundle_dir: where it is.
        name: value of `--engine`.
        precision: fp32, bf16 or int8; None is fp32.
        device: auto, cpu or cuda.

    Returns:
        On a CPU the first export of the bundle in this precision in the folder
        `exports` beside it, in the order of the engines; else "torch".

    Raises:
        WeightsError: the export is altered or damaged.
    """
    if name != "auto":
        return name
    if device == "cuda" or (device == "auto" and _has_gpu()):
        return REFERENCE.engine
    for name in ENGINES:
        folder = export_folder(bundle_dir, f"{name}-{precision or 'fp32'}")
        if not (folder / METADATA_FILE).is_file():
            continue
        is_installed = all(map(find_spec, find_engine(name).packages))
        exported = read_export_metadata(folder).get("bundle_sha256")
        if is_installed and exported == bundle.sha256:
            return str(folder)
    return REFERENCE.engine


def _has_gpu() -> bool:
    if not find_spec("torch") or not has_gpu_driver():
        return False
    import torch

    return torch.cuda.is_available()


def load_engine(
    bundle: Bundle,
    bundle_dir: Path,
    name: str,
    precision: str | None = None,
    device: str = "cpu",
) -> LoadedEngine:
    """Load a bundle in an engine, with its test-time augmentation.

    An engine that runs exported graphs takes the export beside the bundle.

    Args:
        bundle: the bundle to load.
        bundle_dir: where it is.
        name: an engine, or the path of an export of the bundle.
        precision: fp32, bf16 or int8. None is fp32, or the precision of the export.
        device: auto, cpu or cuda.

    Raises:
        RequestError: the engine, the precision or the export cannot be used.
        WeightsError: the local backbone is not the bundle's, or an export is altered.
    """
    if name not in ENGINES and Path(name).exists():
        loaded = load_exported_engine(bundle, Path(name))
        if precision not in (None, loaded.spec.precision):
            raise RequestError(
                f"the precision of this export is {loaded.spec.precision}",
                "--engine",
                "leave out the precision",
            )
        return loaded._replace(note=f"from {name}")
    engine = find_engine(name)
    spec = EngineSpec(engine.name, precision or "fp32")
    engine.check(spec.precision, device)
    if isinstance(engine, DirectEngine):
        return engine.load(bundle, spec, device)
    folder = export_folder(bundle_dir, f"{name}-{spec.precision}")
    if not folder.exists():
        raise RequestError(
            f"--engine {name} needs an export of the bundle",
            folder,
            f"rsft export {bundle_dir} --format {name} --precision {spec.precision}",
        )
    return load_exported_engine(bundle, folder)


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
