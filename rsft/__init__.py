"""rsft: parameter-efficient fine-tuning for remote sensing.

The public names are imported when they are first used, so that `import rsft` stays
fast. A plug-in adds a function by an entry point of the group `rsft.functions`, such as
`rsft.detect` and `rsft.embed`.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from rsft.version import __version__

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from rsft import metrics, peft
    from rsft.backbones.frozen_network import register_encoder
    from rsft.backbones.loading import load_backbone
    from rsft.cli.finished_run import FinishedRun
    from rsft.evaluation.evaluate import evaluate
    from rsft.inference.predict.predictor import Predictor
    from rsft.inference.predict.scene_table import predict_scene
    from rsft.peft.model.attach import attach
    from rsft.recipe.load import load_recipe
    from rsft.recipe.schema import Recipe
    from rsft.training.runs.writer import Run

__all__ = [
    "Recipe",
    "__version__",
    "attach",
    "evaluate",
    "finetune",
    "load_backbone",
    "load_bundle",
    "load_recipe",
    "metrics",
    "peft",
    "predict_scene",
    "register_encoder",
]

_MODULES = {
    "Recipe": "rsft.recipe.schema",
    "attach": "rsft.peft.model.attach",
    "evaluate": "rsft.evaluation.evaluate",
    "load_backbone": "rsft.backbones.loading",
    "load_recipe": "rsft.recipe.load",
    "metrics": "rsft.metrics",
    "peft": "rsft.peft",
    "predict_scene": "rsft.inference.predict.scene_table",
    "register_encoder": "rsft.backbones.frozen_network",
}


def load_bundle(
    path: Path | str,
    device: str = "auto",
    engine: str = "torch",
    precision: str = "fp32",
) -> Predictor:
    """Open the bundle of a run for classification.

    Args:
        path: a bundle, a run folder, or runs/<recipe> for its newest run.
        device: auto, cpu or cuda.
        engine: name of the engine, such as torch, onnx or openvino (docs/engines.md).
        precision: fp32, bf16 or int8, if the engine supports it.

    Returns:
        A predictor of chips in arrays, files and windows of rasters: `predict` returns
        a table with one row per chip, `logits`, `features` and `probabilities` return
        arrays, `explain` maps, and `module` a module of PyTorch. `rsft.predict_scene`
        takes it for whole scenes.

    Raises:
        RequestError: the path holds no bundle, or this machine has no such engine.
        WeightsError: the bundle cannot be used, or this machine has another backbone of
            the same name.

    Example:
        >>> table = load_bundle("runs/ships").predict("new_chips")
        >>> list(table)[:3]
        ['chip', 'path', 'geometry']
    """
    from rsft.inference.predict.predictor import Predictor

    return Predictor.load(Path(path), device, engine, precision)


@overload
def finetune(
    recipe: Path | str, runs: Path | str = ..., **options: Any
) -> FinishedRun: ...
@overload
def finetune(
    recipe: Recipe | None = None, runs: Path = ..., *arguments: Any, **options: Any
) -> Run: ...
def finetune(
    recipe: Any = None, runs: Path | str = Path("runs"), *arguments: Any, **options: Any
) -> Any:
    """Do what `rsft finetune` does: from chips, scenes or a recipe to a report.

    Chips and scenes are prepared and audited, and a method is chosen for them. The
    steps and their commands are printed. The same call again continues what was
    stopped, and returns a finished run of the same chips and recipe.

    Args:
        recipe: class folders, a .csv of path,class, a chip store, scenes, or a recipe
            by path or name. With a `Recipe`, or None and `start`, the call is
            `rsft.training.finetune.finetune`, which trains without an evaluation and
            returns a `Run`.
        runs: folder of all runs.
        *arguments: further arguments of `rsft.training.finetune.finetune`, for a
            `Recipe`.
        **options: the options of the command: `overrides` (a list of
            "section.key=value"), `data`, `at`, `root`, `prepare`, `start` (--from),
            `no_report`, `quiet`.

    Returns:
        The run with `report` and `bundle` (paths), `accuracy` (a table), and
        `predict(chips)`, which returns the table of `rsft.load_bundle`. A notebook
        shows its accuracy and its maps.

    Raises:
        RequestError: the name is neither a recipe nor chips, or scenes have no labels.
        RsftError: a step fails, as the commands of the steps do.

    Example:
        >>> overrides = ["data.root=data/ships", "train.epochs=1"]
        >>> result = finetune("quickstart", overrides=overrides, quiet=True)
        >>> result.bundle
        PosixPath('runs/quickstart/001/bundle')
        >>> list(result.predict("new_chips"))[:3]
        ['chip', 'path', 'geometry']
    """
    if not isinstance(recipe, Path | str):
        from rsft.training.finetune import finetune as train

        return train(recipe, Path(runs), *arguments, **options)
    import shlex

    from rsft.cli.display.failures import quiet_console
    from rsft.cli.finetune import run_finetune
    from rsft.cli.finetune_steps import FinetuneRequest
    from rsft.cli.finished_run import FinishedRun
    from rsft.training.runs.reader import read_run_metadata

    for name in ("data", "at", "root", "start"):
        if options.get(name):
            options[name] = Path(options[name])
    request = FinetuneRequest(str(recipe), runs=Path(runs), **options)
    with quiet_console(request.quiet):
        folder, files, steps = run_finetune(request)
    commands = tuple(map(shlex.join, steps.commands.values() if steps else ()))
    return FinishedRun(
        folder, read_run_metadata(folder) if files else {}, commands=commands
    )


def _plugin_functions() -> dict[str, EntryPoint]:
    from rsft.utils.registry import entry_points_of

    return entry_points_of("rsft.functions")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        module = import_module(_MODULES[name])
        return module if module.__name__ == f"rsft.{name}" else getattr(module, name)
    # Python itself asks for names with underscores
    functions = {} if name.startswith("_") else _plugin_functions()
    if name not in functions:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return functions[name].load()


def __dir__() -> list[str]:
    return [*__all__, *_plugin_functions()]
