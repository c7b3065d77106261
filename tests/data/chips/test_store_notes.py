"""The list of chip stores: what it says of a store, and when a store is no longer the
one in the list."""

import json
import os
import shutil
from pathlib import Path

import pytest

from rsft.data.chips import store_notes
from rsft.data.chips.manifest import MANIFEST
from rsft.data.chips.store import DATASET
from rsft.data.chips.store_notes import (
    find_note,
    find_notes,
    note_store,
    read_notes,
)
from rsft.errors import DataError, RequestError, RsftError
from rsft.utils.atomic_files import sha256
from tests.helpers import tiny_store
from tests.helpers.messages import mentions


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return tiny_store.make(tmp_path_factory.mktemp("tiny") / "store").root


@pytest.fixture
def store(tiny, tmp_path):
    return Path(shutil.copytree(tiny, tmp_path / "ships"))


def test_a_store_is_noted_once_and_in_readable_json(store, tmp_path, stores_of_test):
    other = Path(shutil.copytree(store, tmp_path / "more"))
    note_store(store, "fusrs")
    note_store(other, "")
    note_store(store, "fusrs")
    first, second = json.loads(stores_of_test.read_text())["stores"]
    assert (first["path"], first["data_set"]) == (str(other), "")
    assert (
        second["path"] == str(store)
        and second["data_set"] == "fusrs"
        and second["command"] == "tiny"
    )
    assert second["manifest_sha256"] == sha256(store / MANIFEST)
    assert [
        path.name for path in stores_of_test.parent.glob(f"{stores_of_test.name}*")
    ] == [stores_of_test.name]


def test_stores_are_known_by_their_data_set_and_their_folder(store, tmp_path):
    other = Path(shutil.copytree(store, tmp_path / "fusrs"))
    note_store(store, "fusrs")
    note_store(other, "")
    assert [note.path for note in find_notes("fusrs")] == [str(store), str(other)]
    assert [note.path for note in find_notes("ships")] == [str(store)]
    # not the folder of that name
    assert [note.path for note in find_notes("mine", "fusrs")] == [str(store)]
    assert find_notes("folder", "") == []


def test_a_store_that_is_another_one_now(store, tmp_path):
    note_store(store, "")
    note = find_notes("ships")[0]
    assert note.find_fault() == "" and find_note(store) == note
    (store / DATASET).rename(tmp_path / "kept.json")
    assert "not a chip store" in note.find_fault()
    (tmp_path / "kept.json").rename(store / DATASET)
    (store / MANIFEST).write_bytes(b"PAR1")
    assert "manifest has changed" in note.find_fault() and find_note(store) is None
    store.rename(tmp_path / "moved")
    assert "moved or deleted" in note.find_fault()


def test_a_store_out_of_reach(store, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    note_store(store, "")
    monkeypatch.setattr(store_notes, "sha256", refuse)
    assert (
        find_notes("ships")[0].find_fault() == "it cannot be read (Permission denied)"
    )


@pytest.mark.parametrize(
    "content", ["", "[]", '{"stores": [{"path": 3}]}', '{"stores": ', "\udcff"]
)
def test_a_damaged_list_is_neither_used_nor_overwritten(store, stores_of_test, content):
    stores_of_test.write_bytes(content.encode(errors="surrogateescape"))
    for action in (read_notes, lambda: note_store(store, "")):
        with pytest.raises(DataError, match=mentions(stores_of_test, "delete it")):
            action()
    assert stores_of_test.read_bytes() == content.encode(errors="surrogateescape")


def test_no_list_and_a_list_that_is_a_pipe(stores_of_test):
    assert read_notes() == []
    os.mkfifo(stores_of_test)
    with pytest.raises(DataError, match=mentions(stores_of_test)):
        read_notes()
    stores_of_test.unlink()


def test_the_oldest_notes_are_dropped(store, tmp_path, monkeypatch):
    monkeypatch.setattr(store_notes, "MAX_NOTES", 2)
    others = [Path(shutil.copytree(store, tmp_path / name)) for name in ("b", "c")]
    for root in (store, *others):
        note_store(root, "")
    assert [note.path for note in read_notes()] == list(map(str, others))


def test_a_user_without_a_home(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RSFT_STORES")
    monkeypatch.setattr(
        store_notes, "user_data_path", lambda name: Path("~/.local/share") / name
    )
    with pytest.raises(RequestError, match=mentions("no home", "RSFT_STORES")):
        note_store(store, "")
    assert not (tmp_path / "~").exists()


def test_a_list_that_cannot_be_written(store, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("RSFT_STORES", str(tmp_path / "file" / "stores.json"))
    with pytest.raises(RsftError, match=mentions(tmp_path / "file")):
        note_store(store, "")
