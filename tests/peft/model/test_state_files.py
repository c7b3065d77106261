"""Files that are no adapters."""

import pytest
from torch import nn

from rsft.peft import (
    SSF,
    LoRA,
    attach,
    load,
)
from rsft.peft.methods.registry import method_from_dict
from tests.helpers.messages import mentions
from tests.helpers.peft_models import tiny_vit


def test_files_that_are_not_adapters(vit, tmp_path):
    path = tmp_path / "adapter.safetensors"
    with pytest.raises(FileNotFoundError):
        load(vit, path)
    attach(vit, LoRA(rank=2)).save(path)
    whole = path.read_bytes()
    narrow = tiny_vit(embed_dim=12)
    for content, network, message in (
        (whole[:-8], tiny_vit(), mentions("adapter.safetensors", "not a complete")),
        (whole.replace(b"rsft.peft", b"other.fix"), tiny_vit(), "names no method"),
        (whole, nn.Linear(2, 2), "no blocks"),
        (whole, narrow, "keys do not fit"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            load(network, path)
    attach(narrow, SSF())  # it was left as it was
    assert [file.name for file in tmp_path.iterdir()] == ["adapter.safetensors"]


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({"name": "magic"}, "unknown PEFT method 'magic'"),
        ({"name": "lora", "range": 4}, "method lora: .*range"),
    ],
)
def test_files_with_an_invalid_method_description(description, message):
    with pytest.raises(ValueError, match=message):
        method_from_dict(description)
