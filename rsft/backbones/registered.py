"""Cards of the encoders of rsft, its plug-ins and other packages.

An entry point of the group "rsft.encoders" is a sequence of cards.
"""

from rsft.backbones import aconvnet, mae, simship
from rsft.backbones.card import ENCODER_GROUP, Card
from rsft.utils.registry import entry_points_of


def registered_cards() -> dict[str, Card]:
    """Return the cards by name: those of rsft first."""
    cards = [*simship.CARDS, *aconvnet.CARDS, *mae.CARDS]
    for family in entry_points_of(ENCODER_GROUP).values():
        cards += family.load()
    return {card.name: card for card in cards}
