import pytest

from rsft.peft.sites import Site, find_host, select_blocks, select_positions


def test_positions_come_in_forward_order():
    assert select_positions("2vq") == ("q", "v", "mlp2")


@pytest.mark.parametrize("letters", ["", "x", "q v"])
def test_unknown_positions(letters):
    with pytest.raises(ValueError, match="qkvo12"):
        select_positions(letters)


@pytest.mark.parametrize(
    ("blocks", "chosen"),
    [("all", (0, 1, 2, 3, 4, 5)), ("last:2", (4, 5)), ("every:2", (1, 3, 5)), ([5, 0, 0], (0, 5))],
)
def test_blocks(blocks, chosen):
    assert select_blocks(blocks, 6) == chosen


@pytest.mark.parametrize("blocks", ["first:2", "last:", "last:0", "last:7", [], [6], [-1]])
def test_unknown_blocks(blocks):
    with pytest.raises(ValueError, match="blocks"):
        select_blocks(blocks, 6)


def test_hosts(vit):
    query, value = (find_host(vit, Site(1, position)) for position in "qv")
    assert query.linear is value.linear is vit.blocks[1].attn.qkv
    assert (query.rows, value.rows) == (slice(0, 24), slice(48, 72))
    assert find_host(vit, Site(2, "mlp1")).linear is vit.blocks[2].mlp.fc1


def test_missing_host(vit):
    with pytest.raises(ValueError, match=r"blocks\.9\.attn\.proj"):
        find_host(vit, Site(9, "out"))
