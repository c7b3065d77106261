"""Skip a test without the plug-ins that it uses."""

import pytest

from rsft.utils.registry import PLUGINS
from tests.helpers.style import ROOT

PAGE = (ROOT / "docs/reference/plugins.md").read_text("utf-8")


def needs_plugin(*names):
    """Return the mark of a test that is skipped if the folder of a plug-in is deleted.

    The page of plug-ins stays and knows the name.
    """
    for name in names:
        assert f"`rsft/plugins/{name}/`" in PAGE, f"{name} is no plug-in"
    deleted = [name for name in names if not (PLUGINS / name).is_dir()]
    return pytest.mark.skipif(bool(deleted), reason=f"deleted: {', '.join(deleted)}")


OPENVINO = pytest.param("openvino", marks=needs_plugin("exports"))
"""The format in a list of formats of a parametrized test."""
