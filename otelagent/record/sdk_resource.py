"""The stock SDK's Resource, such that it follows its process through a fork."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.resources import Resource

from otelagent.record.resource import AttributeValue, process_attributes
from otelagent.record.values import plain_attributes

__all__ = ["ProcessResource"]


class ProcessResource(Resource):
    """A resource whose process-dependent attributes are renewed in place in a fork child.

    In place, because tracers and open spans hold the object itself: all that is encoded after the fork then carries the
    child's identity, whoever made the tracer. Its hash, which the stock encoder asks for once per span and the stock
    class computes by dumping JSON, is remembered.

    `merge` makes a plain Resource, a snapshot.

    :param static: attributes that a fork doesn't change.
    """

    def __init__(self, static: Mapping[str, AttributeValue]) -> None:
        fit = cast("dict[str, AttributeValue]", plain_attributes(static))
        super().__init__(fit)
        self._static = fit
        self.renew()

    def renew(self) -> None:
        """Gives the process-dependent attributes new values: the instance id at random, the pid as it is."""
        attributes = {**self._static, **process_attributes(self._static)}
        self._attributes = BoundedAttributes(attributes=attributes, immutable=True)
        self._hash = Resource.__hash__(self)

    def __eq__(self, other: object) -> bool:
        return self is other or super().__eq__(other)

    def __hash__(self) -> int:
        return self._hash
