"""Errors of data set classes become those of rsft."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from torchgeo.datasets import DatasetNotFoundError

from rsft.data.datasets import source_errors
from rsft.data.datasets.source_errors import translate_dataset_errors
from rsft.errors import DataError, RequestError


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (
            PermissionError(13, "Permission denied", "a.txt"),
            DataError,
            "Ships cannot be read: Permission denied | a.txt",
        ),
        (OSError("odd"), DataError, "Ships cannot be read: odd | folder"),
        (ValueError("row 3 has no class"), DataError, "row 3 has no class"),
        (
            DatasetNotFoundError(SimpleNamespace(root="x")),
            RequestError,
            "the folder does not contain Ships",
        ),
    ],
)
def test_errors_of_data_sets_name_the_data_set(error, kind, words):
    with (
        pytest.raises(kind, match=re.escape(words)),
        translate_dataset_errors("Ships", Path("folder"), "copy it"),
    ):
        raise error


def test_only_data_sets_in_the_folder_are_named(tmp_path, monkeypatch):
    def archive(name, command, option, is_here):
        return SimpleNamespace(
            name=name, command=command, option=option, is_in=lambda folder: is_here
        )

    ours = archive("Ours", "ours", "--a", True)
    others = [
        archive("Exchanged", "ours", "--b", True),
        archive("Elsewhere", "others", "--c", True),
        archive("Absent", "absent", "--d", False),
    ]
    monkeypatch.setattr(source_errors, "list_archives", lambda: [ours, *others])
    with (
        pytest.raises(RequestError) as raised,
        source_errors.explain_wrong_source(ours, tmp_path),
    ):
        raise RequestError("no such data", tmp_path, "check it")
    hint = raised.value.hint
    assert "exchange --a and --b" in hint and "`rsft prepare others`" in hint
    assert "Absent" not in hint and "contains Ours" not in hint
    assert hint.endswith("check it")
