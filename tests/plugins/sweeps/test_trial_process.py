"""The process of a trial."""

import pytest

from rsft.plugins.sweeps.trial_process import (
    TrialSettings,
    read_last_line,
    train_trial,
)
from rsft.study import runs
from rsft.study.outcomes import read_outcome
from rsft.utils.executor import TaskLostError, open_executor

KEYS = {"peft.rank": 4}


def break_training(folder):
    """Train a trial in this process, with a fault that nobody expects."""

    def train(*_):
        raise ValueError("odd")

    runs.train_in_folder = train
    train_trial(folder, KEYS, TrialSettings("macro"))


def test_a_process_prints_what_nobody_expects(tmp_path):
    with open_executor(jobs=1) as executor, pytest.raises(TaskLostError) as caught:
        executor.submit(break_training, tmp_path).result()
    assert caught.value.has_raised
    assert read_last_line(tmp_path / "errors.txt") == "ValueError: odd"
    assert read_last_line(tmp_path / "absent.txt") == ""
    assert read_outcome(tmp_path) is None
