"""Build a chip store from labeled objects in scenes: `rsft prepare scenes`.

Chips are cut by the function with which `rsft predict` cuts them. Each scene is read by
one worker process, and a stopped build continues. The command line imports this module
for its help, so it imports what it needs when it is called.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsft.data.prepare.image_folder import find_typos
from rsft.data.prepare.registry import data_set
from rsft.data.prepare.store_build import StoreBuild
from rsft.scenes.preparation.request import DEFAULT_REQUEST, SceneStoreRequest
from rsft.utils.command_options import option_values

if TYPE_CHECKING:
    from rsft.data.chips.store import ChipStore
    from rsft.types import Progress


def show_notes(store: ChipStore, arguments: Mapping[str, Any]) -> Iterator[str]:
    """Yield what was chosen while the store was built, and suspicious class names."""
    from rsft.data.chips.store import read_dataset

    yield from read_dataset(store.root).get("notes", ())
    yield from find_typos(store, arguments)


@data_set("scenes", notes=show_notes, is_published=False)
def prepare_scenes(
    source: Path | list[Path],
    root: Path,
    request: SceneStoreRequest = DEFAULT_REQUEST,
    jobs: int = 2,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ChipStore:
    """Cut a chip store from scenes, with one chip for each labeled object.

    Args:
        source: Scenes, folders of scenes, patterns, or @LIST: a text file with one
            scene per line.

    Raises:
        RequestError: no scene or no usable label is found, or an argument is out of
            range.
        DataError: a scene cannot be read.
    """
    from rsft.scenes.preparation.builder import SceneStoreBuilder
    from rsft.utils.journal import journal_path

    sources = source if isinstance(source, list) else [Path(source)]
    options = {**option_values(request), "seed": seed}
    build = StoreBuild("scenes", root, options, sources, overwrite, progress, jobs)
    finished = build.find_finished()
    if finished:
        # left behind if a build was killed in its last step
        journal_path(root).unlink(missing_ok=True)
        return finished
    return SceneStoreBuilder(build, request, seed).build()
