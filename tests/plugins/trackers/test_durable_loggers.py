"""The end of records of a server, without a server; test_loggers.py runs the others."""

from types import SimpleNamespace

from lightning.pytorch.loggers import WandbLogger

from rsft.plugins.trackers.durable_loggers import EventFileLogger, FinishedWandbLogger


def test_the_exit_code_of_a_record_tells_a_failed_run(monkeypatch):
    codes = []
    experiment = SimpleNamespace(finish=lambda exit_code: codes.append(exit_code))
    monkeypatch.setattr(WandbLogger, "finalize", lambda logger, status: None)
    monkeypatch.setattr(WandbLogger, "experiment", experiment)
    logger = object.__new__(FinishedWandbLogger)  # the package may be missing
    for status in ("success", "failed"):
        logger.finalize(status)
    assert codes == [0, 1]


def test_a_resumed_run_hides_the_later_steps_of_older_files(tmp_path):
    logger = EventFileLogger(tmp_path)
    logger.log_metrics({"loss": 1.0}, 5)
    logger.log_metrics({"loss": 0.5}, 6)
    # Lightning gives it to the writer of the file, which has no attribute for it
    assert logger._kwargs["purge_step"] == 5
