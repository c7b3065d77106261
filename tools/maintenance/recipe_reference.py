"""Write docs/recipes.md from the recipe's models.

python tools/maintenance/recipe_reference.py
"""

from __future__ import annotations

from pathlib import Path

from pydantic.fields import FieldInfo

from rsft.recipe.schema import KEYS, SECTIONS
from rsft.recipe.schema_text import allowed
from rsft.recipe.text import show
from rsft.utils.atomic_files import write_text

PAGE = Path(__file__).parents[2] / "docs" / "recipes.md"

INTRODUCTION = """# Recipes

A recipe is one YAML file, an experiment from data to evaluation; its header is the exact command. There is no
inheritance: what is not in the file has the default below, and the run folder keeps the file with all of them.

    rsft recipes ls                                   # those that come with rsft
    rsft recipes show quickstart
    rsft recipes cp quickstart mine.yaml
    rsft recipes validate mine.yaml                   # every fault at once, with its line
    rsft finetune mine.yaml peft.rank=8 meta=null     # keys changed on the command line; null drops a section

Relative paths count from the folder in which the command runs.
"""


def reference() -> str:
    """The page."""
    parts = [INTRODUCTION, _table([key for key in KEYS if "." not in key and key not in SECTIONS])]
    for name, section in SECTIONS.items():
        parts += [f"## {name}\n", f"{section.__doc__}\n", _table([key for key in KEYS if key.startswith(f"{name}.")])]
    return "\n".join(parts)


def _table(keys: list[str]) -> str:
    rows = [f"| `{key}` | {_escape(allowed(key))} | {_default(KEYS[key])} | {KEYS[key].description} |" for key in keys]
    return "\n".join(["| key | allowed | default | |", "|---|---|---|---|", *rows, ""])


def _default(field: FieldInfo) -> str:
    return "required" if field.is_required() else f"`{show(field.default)}`"


def _escape(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    write_text(PAGE, reference())
