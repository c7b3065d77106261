"""Reproduce a table of the paper: chips, weights, runs of both codes, and the page."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from rsft.data.chips.store import ChipStore
from rsft.errors import RequestError
from rsft.models.devices import choose_device
from rsft.plugins.sweeps.paper.authors.process import require_checkout
from rsft.plugins.sweeps.paper.authors.runs import authors_folder, run_authors
from rsft.plugins.sweeps.paper.cells import TableSettings, read_tables
from rsft.plugins.sweeps.paper.pages import table_markdown
from rsft.plugins.sweeps.paper.runs import TableRuns
from rsft.plugins.sweeps.paper.stores import (
    list_missing_weights,
    prepare_stores,
    write_chip_hashes,
)
from rsft.types import Progress

Say = Callable[[str], None]
"""Shows a line."""

Bars = Callable[[], AbstractContextManager[Progress | None]]
"""Opens a display of progress."""


@dataclass(frozen=True)
class ReproductionRequest:
    """What to reproduce.

    Attributes:
        number: number of a table, such as "4", "S3" or "Figure-1c"; see `find_table`.
        settings: how the runs differ from the paper's.
        results: folder of the runs.
        lists: folder of the authors' lists.
        metalora: checkout of the authors' code; None runs rsft alone.
        threads: CPU threads of a run.
        only_print: print what is there, and run nothing.
    """

    number: str
    settings: TableSettings = field(default_factory=TableSettings)
    results: Path = Path("runs/tables")
    lists: Path | None = None
    metalora: Path | None = None
    threads: int = 1
    only_print: bool = False


def find_table(text: str) -> str:
    """Return the number of the table that a text names.

    Such texts are "table4", "S3" and "figure1a".

    Raises:
        RequestError: the paper has no such table.
    """
    numbers = {number.lower().replace("-", ""): number for number in read_tables()}
    name = text.lower().replace("-", "").removeprefix("table").strip()
    if name not in numbers:
        raise RequestError(
            f"the paper has no table {text}",
            "",
            f"choose from {', '.join(numbers.values())}",
        )
    return numbers[name]


def reproduce_table(
    request: ReproductionRequest, say: Say, bars: Bars = lambda: nullcontext(None)
) -> str:
    """Do the missing runs of a table, and return it in Markdown.

    Finished runs are not repeated, and stopped ones are resumed.

    Args:
        request: what to reproduce.
        say: shows what is done.
        bars: shows the progress while chips are stored and hashed.

    Raises:
        RequestError: chips, weights or a recipe are missing, or the checkout has
            another commit.
        Interrupted: a signal stopped a run, which can be resumed.
    """
    table = read_tables()[request.number]
    runs = TableRuns(table, request.settings, request.results)
    if not request.only_print and not table.only_counts_parameters:
        if request.metalora is not None:
            require_checkout("metalora", request.metalora)
        with bars() as progress:
            _prepare_inputs(request, runs, say, progress)
        runs.read_outcomes()  # with the hashes of the chips
        runs.run(request.threads, say)
        if request.metalora is not None:
            for id, trial in runs.trials.items():
                device = choose_device(trial.recipe.train.device).type
                folder = authors_folder(runs.results, trial)
                is_possible = run_authors(request.metalora, device, trial, folder)
                result = "done" if is_possible else "no such method"
                say(f"authors' code: {runs.names[id]}: {result}")
    return table_markdown(request.number, runs)


def _prepare_inputs(
    request: ReproductionRequest, runs: TableRuns, say: Say, progress: Progress | None
) -> None:
    """Prepare the chip stores, name all that is missing at once, and hash the chips."""
    recipes = {}
    for trial in runs.trials.values():
        name = request.settings.base_recipe or trial.keys["recipe"]
        recipes[name] = trial.recipe
    missing = prepare_stores(recipes, request.lists, progress)
    missing += list_missing_weights(recipes.values())
    if missing:
        raise RequestError(
            f"{len(missing)} inputs of the table are missing", "", "; ".join(missing)
        )
    roots = [Path(recipe.data.root) for recipe in recipes.values()]
    for store_root in dict.fromkeys(roots):
        store = ChipStore.open(store_root)
        path = request.results / f"chips_{store_root.name}.csv"
        sha256 = write_chip_hashes(store, path, progress)
        say(
            f"{len(store.table):,} chips of {store.name}: {path}, SHA-256 {sha256[:16]}"
        )
