"""A recipe without its chip store takes the only intact store of its name, and
otherwise says what to do."""

import shutil

import pytest

from rsft.data.chips.manifest import MANIFEST
from rsft.data.chips.store import DATASET
from rsft.data.chips.store_notes import note_store
from rsft.errors import RequestError
from rsft.training.store_lookup import find_chip_store
from tests.helpers import tiny_store
from tests.helpers.messages import mentions

HEADER = """\
# Ships
# rsft weights get some_encoder
# rsft prepare cifar100-lt CIFAR100 --root data/cifar100
# rsft finetune mine.yaml
"""


@pytest.fixture
def source(tmp_path, monkeypatch):
    """Return a recipe file in the working directory, which has no chip store."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(HEADER)
    return tmp_path / "mine.yaml"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return tiny_store.make(tmp_path_factory.mktemp("tiny") / "store").root


@pytest.fixture
def make(tiny):
    """Copy a chip store to a folder and note it; return the folder."""

    def copy(root, data_set=""):
        shutil.copytree(tiny, root)
        note_store(root, data_set)
        return str(root)

    return copy


def test_a_store_in_its_folder_is_taken_without_a_word(make, source, tmp_path):
    make(tmp_path / "elsewhere/cifar100")
    make(tmp_path / "data/cifar100")
    assert find_chip_store("data/cifar100", source) == ("data/cifar100", "")


@pytest.mark.parametrize(
    ("folder", "data_set"), [("x", "cifar100-lt"), ("x", "cifar100"), ("cifar100", "")]
)
def test_the_only_store_of_the_name_is_taken(make, source, tmp_path, folder, data_set):
    root = make(tmp_path / "elsewhere" / folder, data_set)
    make(tmp_path / "others", "fusrs")
    # such as the folder with the archives
    (tmp_path / "data/cifar100").mkdir(parents=True)
    (tmp_path / "data/cifar100/cifar.tar").touch()
    path, sentence = find_chip_store("data/cifar100", source)
    assert (
        path == root
        and f"data/cifar100 is not a chip store, so this recipe reads {root} (tiny, "
        in sentence
    )


def test_a_folder_of_the_name_of_a_command_is_no_data_set(make, source, tmp_path):
    source.write_text(HEADER.replace("cifar100-lt", "folder"))
    make(tmp_path / "elsewhere/folder")
    with pytest.raises(RequestError):
        find_chip_store("data/cifar100", source)


def test_several_stores_are_listed_and_none_is_taken(make, source, tmp_path):
    roots = [make(tmp_path / "a", "cifar100-lt"), make(tmp_path / "b/cifar100")]
    with pytest.raises(
        RequestError, match=mentions(*roots, "2 stores", f"data.root={roots[0]}")
    ):
        find_chip_store("data/cifar100", source)


def test_stores_that_changed_are_named_and_not_taken(make, source, tmp_path):
    moved = make(tmp_path / "moved" / "cifar100")
    changed = make(tmp_path / "changed" / "cifar100")
    intact = make(tmp_path / "intact" / "cifar100")
    (tmp_path / "moved/cifar100").rename(tmp_path / "moved/away")
    (tmp_path / "changed/cifar100" / MANIFEST).write_bytes(b"PAR1")
    path, sentence = find_chip_store("data/cifar100", source)
    assert path == intact and all(root in sentence for root in (moved, changed))
    (tmp_path / "intact/cifar100").rename(tmp_path / "intact/away")
    faults = (
        f"not {moved}: it was moved",
        f"not {changed}: its manifest has changed",
        f"not {intact}: it was moved",
    )
    with pytest.raises(RequestError, match=mentions("does not exist", *faults)):
        find_chip_store("data/cifar100", source)


def test_without_a_store_the_commands_of_the_recipe_are_printed(source):
    with pytest.raises(RequestError) as caught:
        find_chip_store("data/cifar100", source)
    assert caught.value.location == "data/cifar100"
    commands = (
        "rsft weights get some_encoder && rsft prepare cifar100-lt CIFAR100 --root"
        " data/cifar100"
    )
    assert (
        f"run {commands}, or " in caught.value.hint
        and "finetune" not in caught.value.hint
    )
    source.write_text("seed: 0\n")
    with pytest.raises(
        RequestError, match=mentions("`rsft prepare`", "data.root=ROOT")
    ):
        find_chip_store("data/cifar100", source)


def test_a_damaged_store_in_the_folder_is_not_replaced(make, source, tmp_path):
    make(tmp_path / "elsewhere/cifar100")
    (tmp_path / "data/cifar100").mkdir(parents=True)
    (tmp_path / "data/cifar100" / DATASET).write_text("{}")
    assert find_chip_store("data/cifar100", source) == ("data/cifar100", "")
