"""A validation share set aside, a long tail made."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from rsft.data.datasets.image_folder import LabeledFile
from rsft.data.prepare._resampling import check_val_share, hold_out, subsample_long_tail
from rsft.errors import RequestError

FILES = [LabeledFile(Path(f"{label}{index}"), label, "train") for label in "ab" for index in range(20)]


def test_each_class_gives_its_share() -> None:
    kept, aside = hold_out(FILES, 0.25, seed=0)
    assert Counter((file.label, file.split) for file in kept + aside) == {
        **{(label, "train"): 15 for label in "ab"},
        **{(label, "val"): 5 for label in "ab"},
    }
    assert {file.path for file in kept + aside} == {file.path for file in FILES}


def test_the_tail_follows_the_order_of_the_classes() -> None:
    assert Counter(file.label for file in subsample_long_tail(FILES, ("b", "a"), 4, seed=0)) == {"b": 20, "a": 5}


def test_no_sample_is_no_fault() -> None:
    assert hold_out([], 0.5, seed=0) == ([], []) and subsample_long_tail([], ("a",), 4, seed=0) == []


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_what_is_no_share_is_refused(share: float) -> None:
    with pytest.raises(RequestError, match="--val"):
        check_val_share(share)
