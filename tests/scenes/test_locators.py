"""Sources that say of which class the objects of a scene are."""

import pytest

from rsft.scenes.locators import (
    LOCATORS,
    Locator,
    NothingInSceneError,
    describe_locators,
)


def test_every_locator_has_an_option_with_its_help():
    described = describe_locators()
    assert list(described) == list(LOCATORS)
    for name, text in described.items():
        locator = LOCATORS[name]
        assert text == locator.help and locator.title and issubclass(locator, Locator)


def test_a_locator_must_locate():
    class Toy(Locator):
        """A locator without its method."""

        name, title, help = "toy", "Toy", "x"

    with pytest.raises(TypeError, match="locate"):
        Toy()


def test_nothing_in_a_scene_is_a_wrong_request():
    assert NothingInSceneError("no message").exit_code == 2
