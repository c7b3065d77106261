"""Documents of a contract: frozen, strict, and unchanged where a field is new."""

from typing import ClassVar

import pytest
from pydantic import ValidationError

from rsft.data.imagery.document import StoredDocument


class Old(StoredDocument):
    """A document that got a field after the first release."""

    newer: ClassVar[dict[str, object]] = {"margin": 0}

    side: int
    margin: int = 0


def test_a_new_field_is_written_only_with_another_value():
    assert Old(side=3).model_dump() == {"side": 3}
    assert Old(side=3, margin=2).model_dump_json() == '{"side":3,"margin":2}'
    assert Old.model_validate({"side": 3}) == Old(side=3, margin=0)


def test_unknown_fields_and_changes_are_refused():
    with pytest.raises(ValidationError, match="width"):
        Old.model_validate({"side": 3, "width": 4})
    with pytest.raises(ValidationError, match="frozen"):
        Old(side=3).side = 4
