"""Links, commands, recipe keys and files that the pages name exist; docs/data.md
documents all columns and commands."""

from __future__ import annotations

import importlib.util
import inspect
import re
import shlex
from pathlib import Path
from typing import Any

import typer

import rsft
from rsft.cli import build_app
from rsft.cli.flags import FLAGS
from rsft.data.chips.manifest import OBJECT_COLUMNS, SCHEMA
from rsft.data.prepare.registry import DATASETS
from rsft.recipe.load import recipe_keys
from rsft.recipe.schema import SECTIONS

ROOT = Path(__file__).parents[1]
DATA = (ROOT / "docs/data.md").read_text("utf-8")
BUILT = {ROOT / "docs/reference/commands.md", *(ROOT / "docs/_build").rglob("*")}
"""Files that the documentation site writes."""
DOCS = sorted(set((ROOT / "docs").rglob("*.md")) - BUILT)
PAGES = [
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY")),
    *DOCS,
]
FILES = [*PAGES, *sorted((ROOT / "recipes").rglob("*.yaml"))]
COMMANDS: Any = typer.main.get_command(build_app())
COMMAND = re.compile(  # in a code block, a code span or the header of a recipe
    r"(?:^(?: {4,}|# )(?:\$ |srun |torchrun .* |for .* do )?|`(?:\w+=\w+ )?)(rsft"
    r" [^`\n]+)",
    re.MULTILINE,
)


def anchor_of(heading):
    """Return the anchor that GitHub gives to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def commands_on(path):
    """Iterate over the words of every rsft command in code blocks, code spans and
    headers of recipes."""
    for line in COMMAND.findall(path.read_text("utf-8").replace("\\\n", " ")):
        yield shlex.split(line, comments=True)


def test_links():
    for page in [*PAGES, ROOT / "CHANGELOG.md"]:
        check_links(page)


def check_links(page):
    text = re.sub(
        r"^```.*?^```|^    .*?$|`[^`\n]*`",
        "",
        page.read_text("utf-8"),
        flags=re.MULTILINE | re.DOTALL,
    )
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" not in link:
            name, _, anchor = link.partition("#")
            target = (page.parent / name).resolve() if name else page
            assert target.exists() or target in BUILT, (page, link)
            headings = (
                re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.MULTILINE)
                if anchor
                else []
            )
            assert not anchor or anchor in map(anchor_of, headings), (page, link)


def test_every_page_is_linked():
    links = re.compile(r"\]\(([^)\s#]+)")
    linked = {
        (page.parent / name).resolve()
        for page in PAGES
        for name in links.findall(page.read_text("utf-8"))
    }
    assert set(DOCS) <= linked


def test_commands_and_options_exist():
    for path, (_, *words) in (
        (file, line) for file in FILES for line in commands_on(file)
    ):
        command: Any = COMMANDS
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        assert not hasattr(command, "commands") or words in (
            [],
            ["--help"],
            ["COMMAND", "--help"],
        ), (path, words)
        options = {
            name
            for option in command.params
            for name in (*option.opts, *option.secondary_opts)
        }
        given = {word for word in words if word.startswith("-")}
        assert given <= options | {"--help", *FLAGS}, (path, words)


def test_recipe_keys_exist():
    # of docs/architecture.md
    known = {
        *recipe_keys(),
        "data.datasets",
        "data.prepare",
        "data.imagery",
        "data.loading",
        "peft.methods",
    }
    sections = "|".join(SECTIONS)
    for path in FILES:
        text = path.read_text("utf-8").partition("## Old names")[0]
        keys = re.findall(
            r"(?:`|["
            rf" `](?=[\w.]+[=:]))((?:{sections})\.(?!txt|csv|yaml|safetensors)\w+)[=:`]",
            text,
        )
        assert set(keys) <= known, path


def test_files_and_tools_exist():
    for path in FILES:
        text = path.read_text("utf-8")
        assert all(
            importlib.util.find_spec(module)
            for module in re.findall(r"python -m ([\w.]+)", text)
        ), path
        for name in re.findall(
            r"`((?:rsft|tests|tools|recipes)/[\w./]*)`|python ([\w/]+\.py)", text
        ):
            assert (ROOT / "".join(name)).exists(), (path, name)


def test_every_manifest_column_is_documented():
    cells = re.findall(r"^\| (`[^|]*`) \|", DATA, re.MULTILINE)
    assert {*SCHEMA.names, *OBJECT_COLUMNS} <= set(
        re.findall(r"`(\w+)`", " ".join(cells))
    )


def test_every_prepare_command_has_an_example():
    for name in DATASETS:
        assert f"$ rsft prepare {name} " in DATA


def test_the_public_interface_is_on_one_page():
    page = (ROOT / "docs/reference/python.md").read_text("utf-8")
    listed = set(re.findall(r"^\| `rsft\.(\w+)` \|", page, re.MULTILINE))
    assert listed == set(dir(rsft))
    documented = set(
        re.findall(r"^\.\. autofunction:: rsft\.(\w+)$", page, re.MULTILINE)
    )
    functions = {name for name in listed if inspect.isfunction(getattr(rsft, name))}
    assert functions - {"attach"} == documented  # its page is that of rsft.peft
    metrics = re.findall(r"autofunction:: rsft\.metrics\.(\w+)", page)
    assert set(metrics) == set(rsft.metrics.__all__)
