import pytest

from rsft.training.loggers.tensorboard import EventFile, _checksum


def read(folder):
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = loader.EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {
        tag: [(point.step, round(point.value, 4)) for point in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }


def test_tensorboard_reads_the_file(tmp_path):
    file = EventFile(tmp_path)
    file.log(0, {"train/loss": 1.5, "pace/images_per_s": 1e6})
    file.log(300, {"train/loss": -0.25})
    file.close(failed=False)
    assert read(tmp_path) == {"train/loss": [(0, 1.5), (300, -0.25)], "pace/images_per_s": [(0, 1e6)]}


def test_a_resumed_run_replaces_what_it_repeats(tmp_path):
    first, second = EventFile(tmp_path), None
    for step in (1, 2, 3):
        first.log(step, {"loss": float(step)})
    second = EventFile(tmp_path)
    second.log(2, {"loss": 20.0})
    second.log(3, {"loss": 30.0})
    assert read(tmp_path) == {"loss": [(1, 1.0), (2, 20.0), (3, 30.0)]}


def test_truncated_file_loses_one_record(tmp_path):
    file = EventFile(tmp_path)
    file.log(1, {"loss": 1.0})
    file.log(2, {"loss": 2.0})
    file.close(failed=True)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-5])
    assert read(tmp_path) == {"loss": [(1, 1.0)]}


def test_checksum_of_a_known_text():
    crc = 0xE3069283  # CRC-32C of "123456789"
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    assert _checksum(b"123456789") == masked.to_bytes(4, "little")
