"""Runs that the authors' trainer trains, and rsft evaluates as its own runs."""

from pathlib import Path

from rsft.models.bundle.bundle import combine_bundles
from rsft.peft.model.state_files import read_tensors, write_tensors
from rsft.peft.modules.adapter_module import transformer_blocks
from rsft.plugins.sweeps.paper.authors.config import adapt_recipe, authors_task
from rsft.plugins.sweeps.paper.authors.process import train_by_authors
from rsft.recipe.schema import Recipe
from rsft.study.runs import evaluate_run
from rsft.study.trials import Trial
from rsft.training.calibration import calibrate_bundle
from rsft.training.finetune import make_bundle, member_recipe
from rsft.training.runs.reader import hash_data
from rsft.training.setup import set_up
from rsft.utils.atomic_files import write_text

FOLDER = "authors"
DATA_FILE = "data.txt"
"""Hash of the chips of a finished run."""


def authors_folder(results: Path, trial: Trial) -> Path:
    """Return the folder of the authors' run of a trial.

    Args:
        results: folder of all runs.
        trial: the trial.
    """
    return results / FOLDER / trial.id


def is_finished(folder: Path, recipe: Recipe) -> bool:
    """Return whether an authors' run is finished, and its chips have not changed."""
    path = folder / DATA_FILE
    return path.is_file() and path.read_text("utf-8") == hash_data(recipe.data)


def run_authors(checkout: Path, device: str, trial: Trial, folder: Path) -> bool:
    """Train and evaluate a trial with the authors' code, unless it is finished.

    Finished members of an ensemble are not trained again.

    Args:
        checkout: folder of metalora.
        device: "cpu" or "cuda".
        trial: the trial.
        folder: see `authors_folder`.

    Returns:
        False if the authors' code has no such method.

    Raises:
        RsftError: the code fails, or the chips or the weights cannot be used.
    """
    recipe = adapt_recipe(trial.recipe)
    if is_finished(folder, recipe):
        return True
    bundles = []
    for index in range(recipe.train.ensemble_size):
        member = member_recipe(recipe, index)
        setup = set_up(member)
        depth = len(transformer_blocks(setup.classifier.adapted.vit))
        task = authors_task(member, depth, folder / f"{member.name}.yaml")
        if task is None:
            return False
        path = folder / f"{member.name}.safetensors"
        if not path.is_file():
            state = train_by_authors(checkout, device, task).states[-1]
            write_tensors(path, {name: x.contiguous() for name, x in state.items()}, {})
        learned = setup.classifier.learned_state()
        for name, tensor in read_tensors(path)[0].items():
            # alpha acts in outer steps only; all other passes, and so the test, have
            # the constant scales of the start
            if not name.endswith(".alpha"):
                learned[name] = tensor.reshape(learned[name].shape)
        setup.classifier.load_learned_state(learned)
        bundles.append(make_bundle(member, setup))
    bundle = combine_bundles(recipe, bundles) if len(bundles) > 1 else bundles[0]
    bundle = calibrate_bundle(bundle, setup.train, setup.val, recipe.train.device)
    bundle.save(folder / "bundle")
    evaluate_run(folder, recipe)
    write_text(folder / DATA_FILE, hash_data(recipe.data))
    return True
