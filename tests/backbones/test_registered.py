"""Encoders of another package are found by their names."""

from dataclasses import replace

from rsft.backbones import registered, simship
from rsft.backbones.loading import find_card, names


class Family:
    def load(self):
        return (replace(simship.CARDS[0], name="toy_vit"), simship.CARDS[0])


def test_a_sequence_of_cards_is_an_entry_point(monkeypatch):
    monkeypatch.setattr(registered, "entry_points_of", lambda group: {"toy": Family()})
    assert list(registered.registered_cards()) == [*registered.CARDS, "toy_vit"]
    assert find_card("toy_vit").size == simship.SIZE
    assert "toy_vit" in names()
