"""Base class of the parts of a contract, which are stored as JSON."""

from typing import ClassVar

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from rsft.types import JsonObject


class StoredDocument(BaseModel):
    """A frozen data model without unknown fields.

    Attributes:
        newer: fields that rsft 0.2 did not have, with their defaults. A default is not
            written, so that hashes of bundles and names of caches stay the same.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    newer: ClassVar[JsonObject] = {}

    @model_serializer(mode="wrap")
    def _leave_out_defaults(
        self, serialize: SerializerFunctionWrapHandler
    ) -> JsonObject:
        return {
            name: value
            for name, value in serialize(self).items()
            if name not in self.newer or value != self.newer[name]
        }
