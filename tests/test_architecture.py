"""The rooms import what docs/architecture.md allows them, and nothing else."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TABLE = re.findall(r"^\| (`.*?`) \| .* \| (.*) \|$", (ROOT / "docs/architecture.md").read_text(), re.MULTILINE)
ALLOWED = {
    room.strip("/"): set(allowed.replace("-", "").split(", ")) - {""}
    for rooms, allowed in TABLE
    for room in re.findall(r"`(.*?)`", rooms)
}


def imported_rooms(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rsft."):
            yield node.module.split(".")[1]
        elif isinstance(node, ast.ImportFrom) and node.module == "rsft":
            yield from (name.name for name in node.names if name.name != "__version__")


def rooms():
    return sorted(path for path in (ROOT / "rsft").iterdir() if path.name != "__init__.py" and path.name[0] not in "_.")


@pytest.mark.parametrize("place", rooms(), ids=lambda path: path.stem)
def test_room_imports_only_what_is_behind_it(place):
    files = place.rglob("*.py") if place.is_dir() else [place]
    used = {room for file in files for room in imported_rooms(file)} - {place.stem}
    allowed = ALLOWED[place.stem]
    if allowed == {"everything"}:
        return
    if allowed == {"everything but cli"}:
        allowed = set(ALLOWED) - {"cli"}
    assert used <= allowed


def test_peft_needs_torch_alone():
    for file in (ROOT / "rsft/peft").glob("*.py"):
        nodes = ast.walk(ast.parse(file.read_text()))
        imports = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
        modules = {n.module if isinstance(n, ast.ImportFrom) else n.names[0].name for n in imports}
        assert not {m.split(".")[0] for m in modules} & {"timm", "numpy", "lightning", "torchgeo", "pydantic"}


def test_files_stay_short():
    lengths = sorted(len(file.read_text().splitlines()) for file in (ROOT / "rsft").rglob("*.py"))
    assert lengths[len(lengths) // 2] < 170
    assert lengths[-1] <= 600
