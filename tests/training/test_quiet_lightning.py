import logging
import warnings

import pytest

from rsft.training.quiet_lightning import quiet_lightning

LOGGER = logging.getLogger("lightning.pytorch")


def test_levels_and_filters_are_restored():
    level, filters = LOGGER.level, list(warnings.filters)
    with pytest.raises(ValueError, match="stop"), quiet_lightning():
        assert LOGGER.level == logging.ERROR and warnings.filters != filters
        raise ValueError("stop")
    assert LOGGER.level == level and warnings.filters == filters


def test_only_expected_warnings_of_lightning_are_hidden():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with quiet_lightning():
            for message in ("59 modules in eval mode", "the disk is slow"):
                warnings.warn_explicit(message, UserWarning, "trainer.py", 1, module="lightning.pytorch.trainer")
            warnings.warn_explicit("eval mode", UserWarning, "user.py", 1, module="user")
    assert [str(warning.message) for warning in caught] == ["the disk is slow", "eval mode"]
