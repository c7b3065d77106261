"""No input of a stranger gets a secret into an output or makes a request: as whole
commands with default settings, without the walls of the kernel and with them.

All commands take an hour. A run without checks shows that the carriers work.
"""

import json

import pytest

from rsft.utils.cell.walls import landlock_version
from tests.helpers.file_server import serving_folder
from tests.security import format_carriers
from tests.security.carriers import (
    CHIPS,
    ITEMS,
    LAYERS,
    SCENES,
    Place,
    contains_secret,
    write_secrets,
)
from tests.security.commands import (
    COMMANDS,
    build_carrier,
    find_active_names,
    make_jobs,
    run_jobs,
    write_honest,
)
from tests.security.delivery_carriers import KINDS
from tests.security.private_files import write_private_store

assert format_carriers  # it adds carriers to the others
ALL = {"scene": SCENES, "item": ITEMS, "layer": LAYERS, "chip": CHIPS} | KINDS
FEW = {
    "chip_vrt": "prepare folder",
    "predictions_of_a_chip": "data suggest",
    "table_of_a_private_table": "data add",
    "list_of_a_file": "prepare folder",
    "bundle_with_linked_recipe": "bundle show",
    "recipe_that_calls_python": "recipes validate",
    "run_of_a_private_store": "report",
    "store_with_a_linked_manifest": "data stats",
    "store_with_a_linked_chip": "embed",
    "bundle_with_a_name_of_a_path": "embed",
    "names_with_terminal": "bundle show",
}
"""Commands for some carriers, which the ordinary tests run."""
NAIVE = {
    "list_of_a_file": "prepare folder",
    "table_of_a_file": "data add",
    "predictions_of_a_chip": "data suggest",
    "table_of_a_private_table": "data add",
    "store_of_a_file": "predict",
    "names_with_formula": "predict",
}
"""Carriers that get out if the functions of `forked_commands` check nothing."""
CRASHES = {70, 99, -9}
"""Exit statuses of a command that ends with a fault of rsft, or does not end."""
NEEDS_LANDLOCK = pytest.mark.skipif(
    not landlock_version(), reason="the kernel has no Landlock"
)


@pytest.fixture
def attack(tmp_path, root, run):
    """Build carriers, run commands on them, and return their exit statuses, the outputs
    with the secret, and the requests."""
    given = tmp_path / "in/given"
    (tmp_path / "in").mkdir()
    secret = write_secrets(tmp_path / "in/far")
    write_private_store(tmp_path / "in/far")
    write_honest(given, root, run)

    def attack(cases, *, walls=False, naive=False):
        with serving_folder(tmp_path / "in/far") as server:
            url = server.url("secret.tif")
            jobs = {}
            for name, command in cases.items():
                kind = next(kind for kind in ALL if name in ALL[kind])
                place = Place(tmp_path / "in" / name, secret, url)
                path = build_carrier(kind, ALL[kind][name], place)
                jobs |= make_jobs(kind, path, place, tmp_path / "out", command)
            statuses = run_jobs(jobs, tmp_path, walls=walls, naive=naive)
            leaks = contains_secret(tmp_path / "out")
            leaks += find_active_names(tmp_path / "out", url)
            return statuses, leaks, server.requests

    return attack


@pytest.mark.slow
def test_some_carriers_without_walls(attack):
    statuses, leaks, requests = attack(FEW)
    assert len(statuses) == len(FEW) and (leaks, requests) == ([], [])
    assert CRASHES.isdisjoint(statuses.values()), statuses


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("walls", [False, pytest.param(True, marks=NEEDS_LANDLOCK)])
def test_no_carrier_gets_out_of_any_command(attack, kind, walls):
    statuses, leaks, requests = attack(dict.fromkeys(ALL[kind], ""), walls=walls)
    assert len(statuses) >= len(ALL[kind]) * len(COMMANDS[kind])
    assert (leaks, requests) == ([], []), json.dumps(statuses, indent=1)
    assert CRASHES.isdisjoint(statuses.values()), statuses


@pytest.mark.exhaustive
def test_the_carriers_work_without_checks(attack):
    """Each kind whose protection is a few functions leaks without these."""
    _, leaks, _ = attack(NAIVE, naive=True)
    assert {path.split("-")[0] for path in leaks} == {*NAIVE}


def test_there_are_carriers_of_all_kinds():
    names = [name for builders in KINDS.values() for name in builders]
    assert len(names) == len({*names}) >= 40 and ALL.keys() == COMMANDS.keys()
