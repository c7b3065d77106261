"""An archive of many empty scenes, whose worker writes a small text as the output.

python -m tests.helpers.simulated_archive FOLDER
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

from pytest import MonkeyPatch

from rsft.inference import archive
from rsft.inference.options import PredictionRequest
from rsft.scenes.query import Query
from tests.helpers.scenes import toy_bundle


class ThreadExecutor:
    """Runs tasks in threads.

    Attributes:
        most: largest number of tasks that were submitted and had not ended.
        blocks: number of scenes of each task.
    """

    jobs = 3

    def __init__(self):
        self._threads = ThreadPoolExecutor(self.jobs)
        self._ended = []
        self.blocks = []
        self.most = 0

    def submit(self, work, planned, *arguments):
        self.blocks.append(len(planned))
        self.most = max(self.most, len(self.blocks) - len(self._ended))
        future = self._threads.submit(work, planned, *arguments)
        future.add_done_callback(self._ended.append)
        return future


def write_scenes(folder, count):
    """Write empty scenes, and a list of them."""
    (folder / "in").mkdir()
    paths = [folder / f"in/{index:05}.tif" for index in range(count)]
    for path in paths:
        path.touch()
    (folder / "list.txt").write_text("\n".join(map(str, paths)))


def run_simulated(folder, writes_outputs=True):
    """Classify the scenes of a list; return the result, the executor and the outputs
    that were opened."""
    opened = []
    executor = ThreadExecutor()

    def classify(planned, *_):
        state = SimpleNamespace(st_mtime_ns=0)
        if writes_outputs:
            path = Path(planned.output)
            path.parent.mkdir(exist_ok=True)
            numbers = dict.fromkeys(("chips", "rejected", "ood", "withheld"), 0)
            temporary = path.with_suffix(".new")
            temporary.write_text(json.dumps({"job": planned.job, **numbers}))
            temporary.rename(path)
            state = path.stat()
            with (folder / "classified.txt").open("a") as log:
                log.write(f"{path.stem}\n")
        return planned._replace(status="done", modified=state.st_mtime_ns)

    def read(path):
        opened.append(path)
        return json.loads(path.read_text())

    with MonkeyPatch.context() as patch:
        patch.setattr(archive.Bundle, "load", lambda _: toy_bundle())
        patch.setattr(archive, "choose_engine", lambda *_: "torch")
        patch.setattr(archive, "load_engine", lambda *_: None)
        patch.setattr(archive, "classify_scene", classify)
        patch.setattr(archive, "read_geopackage_metadata", read)
        result = archive.predict_archive(
            Path("bundle"),
            [f"@{folder / 'list.txt'}"],
            folder / "out",
            PredictionRequest(query=Query(grid=16)),
            executor,
        )
    return result, executor, opened


if __name__ == "__main__":
    run_simulated(Path(sys.argv[1]))
