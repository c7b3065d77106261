"""Write the report of a run.

Every section has its content, or why it is missing.
"""

from itertools import chain
from pathlib import Path
from typing import Any

from markupsafe import Markup

from rsft.data.chips.folds import open_store
from rsft.data.chips.store import ChipStore
from rsft.errors import RsftError
from rsft.evaluation.report import charts, maps, metric_tables
from rsft.evaluation.report.dataset import (
    ChipPictures,
    make_gallery,
    read_scene_maps,
    summarize_store,
)
from rsft.evaluation.report.render import write_page
from rsft.evaluation.report.run_files import RunFiles, read_run_files
from rsft.evaluation.schema import MEANINGS
from rsft.training.runs.reader import (
    hash_manifest,
)
from rsft.training.runs.replay_file import TERMS
from rsft.types import Progress
from rsft.utils.licenses import UNKNOWN

REPORT_FILE = "report.html"


def write_report(
    run_dir: Path,
    data: Path | None = None,
    *,
    pictures: bool = True,
    progress: Progress | None = None,
) -> Path:
    """Write report.html from the files of a run.

    Its chip store is used if it still exists.

    Args:
        run_dir: the run folder.
        data: the chip store (default: its path in the evaluation or in the run).
        pictures: whether the page contains small pictures of chips, and the maps of
            scenes in the run folder.
        progress: called while chips are read.

    Returns:
        The path of the page.

    Raises:
        RequestError: `run_dir` is not a run folder.
        DataError: one of its files is damaged.
        WeightsError: the index of its bundle is damaged or was edited.
    """
    run = read_run_files(run_dir)
    store, missing = _open_chips(run, data)
    chips = None
    scenes = []
    if not pictures:
        missing = "Pictures of chips were left out on request."
    else:
        scenes = read_scene_maps(run_dir)
        if store:
            try:
                chips = ChipPictures(run, store, progress)
            except RsftError as error:
                missing = f"No pictures of chips: {error}."
    content = _page_content(run, store, chips)
    content["missing_reason"] = missing
    content["scenes"] = scenes
    return write_page(run_dir / REPORT_FILE, "run.html", content)


def _open_chips(run: RunFiles, data: Path | None) -> tuple[ChipStore | None, str]:
    """Return the chip store of a run, or None and the reason."""
    if data:
        candidates = [data]
    else:
        trained_on = run.metadata.data.get("root", run.recipe.data.root)
        candidates = [Path(run.data), Path(trained_on)]
        # a stranger's run would show chips that only the user can read
        digest = run.metadata.data.get("manifest_sha256")
        candidates = [x for x in candidates if hash_manifest(x) == digest]
    hint = "Use --data to give the folder of the chip store."
    if not candidates:
        return None, f"The chips were not found, or are not those of the run. {hint}"
    try:
        return open_store(candidates[0], run.recipe.data.fold), ""
    except RsftError as error:
        place = f"{error.message}: {error.location}"
        return None, f"The chips were not found ({place}). {hint}"


def _page_content(
    run: RunFiles, store: ChipStore | None, pictures: ChipPictures | None
) -> dict[str, Any]:
    """Return the variables of the template, which calls charts and tables.

    None means that a file is missing.
    """
    gallery = None
    if run.evaluation and run.predictions is not None:
        gallery = make_gallery(run.predictions, run.evaluation.classes, pictures)
    start = run.recipe.train.start_bundle
    return {
        "run": run,
        "number": run.folder.resolve().name,
        "evaluation": run.evaluation,
        "pictures": pictures,
        "charts": charts,
        "tables": metric_tables,
        "maps": maps,
        "overview": _overview(run),
        "start": start and run.metadata.start.get("bundle", start),
        "terms": TERMS,
        "meanings": MEANINGS,
        "feature_maps": _feature_maps(run),
        "gallery": gallery,
        "dataset": summarize_store(run, store) if store else None,
    }


def _feature_maps(run: RunFiles) -> Markup | None:
    """Return the t-SNE maps, or None without their table."""
    if not run.evaluation or run.embedding is None:
        return None
    return charts.feature_maps(maps.mapped_chips(run.embedding, run.evaluation))


def _overview(run: RunFiles) -> dict[str, str]:
    """Return the rows at the head of the page: data, restrictions and start."""
    names = (entry.restrictions for entry in run.licenses or ())
    restrictions = dict.fromkeys(chain.from_iterable(names))
    restrictions.pop(UNKNOWN, None)
    return {
        "Data": Path(run.data).name,
        "Restrictions": ", ".join(restrictions),
        "Started": f"{run.metadata.started:%Y-%m-%d %H:%M}",
    }
