"""Errors of data set classes become those of rsft."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from torchgeo.datasets import DatasetNotFoundError

from rsft.data.datasets.source_errors import translate_dataset_errors
from rsft.errors import DataError, RequestError


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (
            PermissionError(13, "Permission denied", "a.txt"),
            DataError,
            "Ships cannot be read: Permission denied",
        ),
        (
            UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"),
            DataError,
            "Ships is not UTF-8 text",
        ),
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
        translate_dataset_errors("Ships", Path("x"), "copy it"),
    ):
        raise error
