"""Settings of the documentation site: `make docs` builds it with Sphinx into docs/_build/html.

Pages are Markdown (MyST). The notebooks of docs/tutorials run while the site is built; their outputs are stored in
docs/_build and nowhere else. The reference of the commands is written from the commands at each build.
"""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path

import myst_nb.core.render
from nbformat import NotebookNode

from rsft import __version__

DOCS = Path(__file__).parent
COMMANDS = DOCS / "reference" / "commands.md"

project = "rsft"
author = copyright = "the rsft maintainers"
version = release = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build", "results/quality"]
nitpicky = False  # types of other packages have no pages here
suppress_warnings = [
    "myst.header"
]  # generated command pages begin sections at different depths

myst_heading_anchors = (
    4  # links such as data.md#groups work here and on the repository's host
)
myst_enable_extensions = ["dollarmath", "colon_fence"]
nb_execution_mode = os.environ.get(
    "RSFT_DOCS_NOTEBOOKS", "cache"
)  # "off" builds without running notebooks
nb_execution_timeout = 900
nb_execution_raise_on_error = True
nb_execution_in_temp = True
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # attributes of a docstring do not repeat those of the class

html_theme = "pydata_sphinx_theme"
html_title = "rsft"
html_theme_options = {
    "navbar_align": "left",
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_static_path = ["_static"]
html_css_files = ["rsft.css"]
html_show_sphinx = False


def join_pieces(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Join consecutive pieces of an output: IPython passes on what a command prints in pieces of 100 bytes.

    It replaces the function of myst-nb, which puts a line break between two pieces.
    """
    joined: list[NotebookNode] = []
    for output in outputs:
        last = joined[-1] if joined else {}
        if output["output_type"] == "stream" and last.get("name") == output["name"]:
            last["text"] += output["text"]
        else:
            joined.append(NotebookNode(output))
    return joined


myst_nb.core.render.coalesce_streams = join_pieces


def write_commands() -> None:
    """Write the page of all commands with their options, as `--help` explains them."""
    import typer.main
    from typer.cli import get_docs_for_click

    from rsft.cli import build_app

    command = typer.main.get_command(build_app())
    context = typer.Context(command, info_name="rsft")
    with contextlib.redirect_stdout(io.StringIO()):
        text = get_docs_for_click(obj=command, ctx=context, name="rsft")
    COMMANDS.write_text(text.replace("# `rsft`\n", "# Commands\n", 1), "utf-8")


write_commands()
