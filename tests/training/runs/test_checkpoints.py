import pickle

import pytest
import torch

from rsft.errors import RsftError
from rsft.training.checkpointing import TrainingPosition, load_newest_checkpoint, save_checkpoint
from tests.helpers.messages import mentions


def test_the_last_two_are_kept(tmp_path):
    for position in (TrainingPosition(0, 9), TrainingPosition(0, 10), TrainingPosition(1, 2)):
        save_checkpoint(tmp_path, position, {"step": torch.tensor(position)})
    assert [path.name for path in sorted(tmp_path.glob("*.ckpt"))] == ["00000-0000010.ckpt", "00001-0000002.ckpt"]
    checkpoint = load_newest_checkpoint(tmp_path)
    assert checkpoint.position == (1, 2) and checkpoint.state["step"].tolist() == [1, 2]


def test_a_folder_without_checkpoints(tmp_path):
    assert load_newest_checkpoint(tmp_path / "missing") is None


class Evil:
    def __reduce__(self):
        return print, ("executed",)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", pickle.dumps(Evil(), protocol=2)])
def test_an_unreadable_file_is_refused_and_no_code_in_it_runs(tmp_path, content, capsys):
    (tmp_path / "00000-0000001.ckpt").write_bytes(content)
    with pytest.raises(RsftError, match=mentions("no checkpoint")):
        load_newest_checkpoint(tmp_path)
    torch.save({"format": 1, "position": (0, 1), "state": Evil()}, tmp_path / "00000-0000002.ckpt")
    with pytest.raises(RsftError, match=mentions("no checkpoint")):
        load_newest_checkpoint(tmp_path)
    assert "executed" not in capsys.readouterr().out


def test_a_file_of_another_format_is_refused(tmp_path):
    torch.save({"format": 0, "position": (0, 1), "state": {}}, tmp_path / "00000-0000002.ckpt")
    with pytest.raises(RsftError, match=mentions("no checkpoint")):
        load_newest_checkpoint(tmp_path)


def test_the_log_says_why_a_file_is_refused(tmp_path, caplog):
    content = {"format": 1, "position": (0, 1), "state": {}}
    torch.save(content, tmp_path / "00000-0000001.ckpt", _use_new_zipfile_serialization=False)
    with pytest.raises(RsftError, match=mentions("no checkpoint")):
        load_newest_checkpoint(tmp_path)
    assert "00000-0000001.ckpt cannot be read: it is not in the zip format" in caplog.text
