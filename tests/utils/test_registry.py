"""Components are found by name, whoever provides them."""

import sys
from importlib.metadata import entry_points
from typing import ClassVar
from unittest.mock import Mock

import pytest

from rsft.utils import registry
from rsft.utils.registry import UnknownComponentError
from tests.helpers.messages import mentions

PACKAGE = {
    "registry_toys/__init__.py": "",
    "registry_toys/own.py": (
        "from toys_registry import TOYS\n\n@TOYS.register\nclass Ball:\n    name ="
        " 'ball'\n"
    ),
    "toys_registry.py": (
        "import rsft.utils.registry as r\nTOYS = r.Registry('toy', 'tests.toys',"
        " 'registry_toys')\n"
    ),
    "elsewhere.py": (
        "class Kite:\n    name = 'kite'\n\nclass Misnamed:\n    name = 'other'\n"
    ),
    "elsewhere-1.0.dist-info/METADATA": (
        "Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n"
    ),
    "elsewhere-1.0.dist-info/entry_points.txt": (
        "[tests.toys]\nkite = elsewhere:Kite\nwrong = elsewhere:Misnamed\n"
    ),
}


@pytest.fixture
def toys(tmp_path, monkeypatch):
    for name, text in PACKAGE.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    from toys_registry import TOYS

    yield TOYS
    for module in ("registry_toys", "registry_toys.own", "toys_registry", "elsewhere"):
        sys.modules.pop(module, None)


def test_builtin_and_entry_point_components_are_found(toys):
    assert toys.names() == ("ball", "kite", "wrong")
    assert "kite" in toys and "elsewhere" not in sys.modules
    assert (toys["ball"].__name__, toys["kite"].__name__) == ("Ball", "Kite")
    assert list(toys) == ["ball", "kite", "wrong"]


def test_unknown_name_lists_all_names(toys):
    with pytest.raises(UnknownComponentError) as fault:
        toys["drum"]
    assert str(fault.value) == "unknown toy 'drum'; known: ball, kite, wrong"


def test_an_entry_point_must_load_a_class_of_its_name(toys):
    with pytest.raises(ImportError, match=mentions("loads a class", "'other'")):
        toys["wrong"]


def test_duplicate_name_is_an_error(toys):
    class Ball:
        name: ClassVar[str] = "ball"

    # importing a module twice is no conflict
    assert toys.register(toys["ball"]) is toys["ball"]
    with pytest.raises(ValueError, match=mentions("'ball'", "registry_toys.own.Ball")):
        toys.register(Ball)


def test_metadata_of_packages_is_read_once(toys, monkeypatch):
    read = Mock(wraps=entry_points)
    monkeypatch.setattr("importlib.metadata.entry_points", read)
    monkeypatch.syspath_prepend("a folder that changes the search path")
    assert toys.names() == toys.names() and read.call_count == 1


def test_a_plug_in_is_one_folder_with_a_file(toys, tmp_path, monkeypatch):
    plugin = tmp_path / "plugins" / "strings"
    plugin.mkdir(parents=True)
    (plugin / "plugin.toml").write_text(
        '[entry-points."tests.toys"]\nyo-yo = "yoyo:YoYo"\n'
    )
    (tmp_path / "yoyo.py").write_text("class YoYo:\n    name = 'yo-yo'\n")
    monkeypatch.setattr(registry, "PLUGINS", plugin.parent)
    monkeypatch.syspath_prepend("another folder")
    assert toys.names() == ("ball", "yo-yo", "kite", "wrong")
    assert "yoyo" not in sys.modules
    assert toys["yo-yo"].__name__ == "YoYo"
