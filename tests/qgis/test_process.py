"""Running a command: progress, errors, cancelling."""

import sys
import time

import pytest
from rsft_qgis.process import RsftCanceledError, RsftFailedError, run_job, run_json

from tests.helpers.messages import mentions


class RecordingFeedback:
    """Records what a job reports; `stop_after` is the percentage at which the user
    stops."""

    def __init__(self, stop_after=101):
        self.percents: list[float] = []
        self.tasks: list[str] = []
        self.lines: list[str] = []
        self.stop_after = stop_after

    def isCanceled(self):
        return bool(self.percents) and self.percents[-1] >= self.stop_after

    def setProgress(self, progress):
        self.percents.append(progress)

    def setProgressText(self, text):
        self.tasks.append(text)

    def pushConsoleInfo(self, info):
        self.lines.append(info)


def python(code):
    return [
        sys.executable,
        "-u",
        "-c",
        "import json, sys, time\ndef say(**x): print(json.dumps(x))\n" + code,
    ]


def test_progress_and_result():
    code = """
print("warning: Lizenz é", file=sys.stderr)
for task in ("detecting", "classifying"):
    for done in (1, 2): say(event="progress", task=task, done=done, total=2)
say(event="done", chips=3)
"""
    feedback = RecordingFeedback()
    assert run_job(python(code), feedback).count("chips") == 3
    assert feedback.tasks == ["detecting", "classifying"] and feedback.percents == [
        50,
        100,
        50,
        100,
    ]
    assert feedback.lines == ["warning: Lizenz é"]


def test_a_run_prints_one_line_per_epoch():
    code = """
say(event="started", run="runs/a/001", recipe={"train": {"epochs": 2}})
say(event="epoch", epoch=0, train_loss=0.924, val_macro=None)
say(event="step", done=3, total=4)
say(event="epoch", epoch=1, train_loss=0.564, val_macro=0.478)
say(event="another")
say(event="done", bundle="b")
"""
    feedback = RecordingFeedback()
    assert run_job(python(code), feedback).fields == {"bundle": "b"}
    assert feedback.lines == [
        "epoch 1 of 2: loss 0.92",
        "epoch 2 of 2: loss 0.56, val macro 48 %",
    ]


def test_an_error_appears_once():
    code = """
print("a note")
say(event="error", message="no unit", location="a.tif", hint="x")
print("error: no unit\\nwhere: a.tif\\nhint:  x", file=sys.stderr)
sys.exit(1)
"""
    feedback = RecordingFeedback()
    with pytest.raises(RsftFailedError, match=r"no unit\nwhere: a\.tif\nhint: x"):
        run_job(python(code), feedback)
    assert feedback.lines == ["a note"]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            'print("Traceback"); print("MemoryError"); sys.exit(1)',
            "exit code 1:\nthe last lines of the log say why",
        ),
        ("", "exit code 0:\nit printed nothing"),
        ('say(event="done", chips=1); sys.exit(3)', "exit code 3"),
        ('print("No such option: --json"); sys.exit(2)', "update rsft"),
    ],
)
def test_failures(code, message):
    with pytest.raises(RsftFailedError) as error:
        run_job(python(code), feedback := RecordingFeedback())
    assert message in str(error.value) and not [
        line for line in feedback.lines if line in str(error.value)
    ]


def test_canceling_stops_a_silent_command():
    started = time.monotonic()
    with pytest.raises(RsftCanceledError, match="resume"):
        run_job(
            python('say(event="progress", task="t", done=1, total=2); time.sleep(60)'),
            RecordingFeedback(50),
        )
    assert time.monotonic() - started < 15


def test_a_command_that_cannot_be_started(tmp_path):
    with pytest.raises(
        RsftFailedError, match=mentions("cannot be started", "No such file")
    ):
        run_job([str(tmp_path / "rsft")], RecordingFeedback())


def test_one_json_object():
    code = 'print("note: x"); print(json.dumps({"a": {"b": 1}}, indent=2))'
    assert run_json(python(code), RecordingFeedback()) == {"a": {"b": 1}}
    for code in ('print("error: no bundle\\nhint:  x"); sys.exit(2)', 'print("{ no")'):
        with pytest.raises(RsftFailedError, match="exit code"):
            run_json(python(code), RecordingFeedback())
