import pickle

import pytest
import torch

from rsft.errors import RsftError
from rsft.training.runs.checkpoints import TrainingPosition, load_newest_checkpoint, save_checkpoint


def test_the_last_two_are_kept(tmp_path):
    for position in (TrainingPosition(0, 9), TrainingPosition(0, 10), TrainingPosition(1, 2)):
        save_checkpoint(tmp_path, position, {"step": torch.tensor(position)})
    assert [path.name for path in sorted(tmp_path.glob("*.ckpt"))] == ["00000-0000010.ckpt", "00001-0000002.ckpt"]
    found = load_newest_checkpoint(tmp_path)
    assert found.position == (1, 2) and found.state["step"].tolist() == [1, 2]


def test_none_is_there(tmp_path):
    assert load_newest_checkpoint(tmp_path / "nowhere") is None


class Evil:
    def __reduce__(self):
        return print, ("executed",)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", pickle.dumps(Evil())])
def test_what_cannot_be_read_is_refused_and_never_executed(tmp_path, content, capsys):
    (tmp_path / "00000-0000001.ckpt").write_bytes(content)
    with pytest.raises(RsftError, match="no checkpoint can be read"):
        load_newest_checkpoint(tmp_path)
    torch.save({"format": 1, "position": (0, 1), "state": Evil()}, tmp_path / "00000-0000002.ckpt")
    with pytest.raises(RsftError, match="no checkpoint can be read"):
        load_newest_checkpoint(tmp_path)
    assert "executed" not in capsys.readouterr().out


def test_another_format(tmp_path):
    torch.save({"format": 0, "position": (0, 1), "state": {}}, tmp_path / "00000-0000002.ckpt")
    with pytest.raises(RsftError, match="no checkpoint can be read"):
        load_newest_checkpoint(tmp_path)
