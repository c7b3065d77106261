"""Cards of the encoders of rsft, its plug-ins and other packages.

An entry point of the group "rsft.encoders" is a sequence of cards.
"""

from rsft.backbones import aconvnet, mae, simship
from rsft.backbones.card import ENCODER_GROUP, Card
from rsft.utils.registry import entry_points_of

CARDS = {card.name: card for card in (*simship.CARDS, *aconvnet.CARDS, *mae.CARDS)}
"""Cards of rsft's own encoders by name."""


def registered_cards() -> dict[str, Card]:
    """Return all cards by name: those of rsft first."""
    cards = dict(CARDS)
    for family in entry_points_of(ENCODER_GROUP).values():
        for card in family.load():
            cards.setdefault(card.name, card)
    return cards
