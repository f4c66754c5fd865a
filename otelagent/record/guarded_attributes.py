"""Attributes of the stock SDK's spans and log records that are made fit as they are set."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from opentelemetry.attributes import BoundedAttributes

from otelagent.record.isolation import ISOLATED
from otelagent.record.values import (
    MAX_BYTES,
    attribute_key,
    clean,
    complain,
    complain_of,
    pairs,
    text,
    truthy,
    type_name,
)

if TYPE_CHECKING:
    from opentelemetry.util.types import AnyValue

__all__ = ["GuardedAttributes", "all_plain", "collected", "exception_attributes", "is_plain"]

_LEAST_INT, _BEYOND_INT = -(1 << 63), 1 << 63


def is_plain(key: Any, value: Any, max_length: int | None) -> bool:
    """Whether an attribute may be kept as it is, as nearly all may."""
    if type(key) is not str or not key or not key.isascii() or len(key) > MAX_BYTES:
        return False
    kind = type(value)
    if kind is str:
        return value.isascii() and len(value) <= (MAX_BYTES if max_length is None else max_length)
    if kind is int:
        return _LEAST_INT <= value < _BEYOND_INT  # type: ignore[no-any-return]
    return kind is bool or kind is float


def all_plain(attributes: Mapping[Any, Any], max_length: int | None) -> bool:
    """Whether `is_plain` holds for each: without its calls, which would be a tenth of a span's cost."""
    most = MAX_BYTES if max_length is None else max_length
    for key, value in list(attributes.items()):
        if type(key) is not str or not key or not key.isascii() or len(key) > MAX_BYTES:
            return False
        kind = type(value)
        if kind is str:
            if len(value) > most or not value.isascii():
                return False
        elif kind is int:
            if not _LEAST_INT <= value < _BEYOND_INT:
                return False
        elif kind is not bool and kind is not float:
            return False
    return True


class GuardedAttributes(BoundedAttributes):
    """Attributes that refuse a new key when full, and make fit what they can't keep as it is, counted as dropped.

    A known key gets its new value and keeps its place.
    """

    def __setitem__(self, key: str, value: AnyValue) -> None:
        self._raise_if_immutable()
        if is_plain(key, value, self.max_value_len):
            self.put(key, value)
        else:
            self.put_odd(key, value)

    def put(self, key: str, value: AnyValue) -> None:
        """Sets an attribute that is fit, or counts it when there are too many."""
        if key in self._dict or self.maxlen is None or len(self._dict) < self.maxlen:
            self._dict[key] = value
        else:
            self.dropped += 1

    def put_odd(self, key: object, value: object) -> None:
        """Sets an attribute as it can be kept."""
        fit = self.fit(key, value)
        if fit is not None:
            self.put_fit(*fit)

    def put_fit(self, key: str, value: AnyValue, whole: bool) -> None:
        """Sets what `fit` gave."""
        dropped = self.dropped
        self.put(key, value)
        if not whole:
            self.dropped = dropped + 1

    def fit(self, key: object, value: object) -> tuple[str, AnyValue, bool] | None:
        """Key and value as they can be kept, and whether nothing of them is lost; None, counted, when they can't."""
        key_text, lost_key = attribute_key(key)
        if not key_text:
            self.dropped += 1
            complain("attribute", "An attribute without a key is left out")
            return None
        if self.maxlen is not None and len(self._dict) >= self.maxlen and key_text not in self._dict:
            self.dropped += 1
            return None
        cleaned, lost = clean(value, self.max_value_len)
        lost = lost_key or lost
        if lost is not None:
            complain_of(value, "attribute", f"Attribute {key_text[:100]!r}", lost)
        return key_text, cleaned, lost is None

    def _set_items(self, attributes: Mapping[str, AnyValue]) -> None:
        self._raise_if_immutable()
        found, refused = pairs(attributes)
        for key, value in found:
            self[cast("str", key)] = cast("AnyValue", value)
        self.dropped += refused

    def clean(self) -> None:
        """Makes fit what was set while these were stock attributes."""
        if not all_plain(self._dict, self.max_value_len):
            items = list(self._dict.items())
            self._dict.clear()
            for key, value in items:
                self[key] = value


def collected(given: Sequence[object], max_count: int | None, max_length: int | None) -> GuardedAttributes:
    """Attributes of something that doesn't change any more: an event, a link.

    :param given: mappings, each of which may have another value for a key of those before it.
    """
    kept = GuardedAttributes(max_count, None, immutable=False, max_value_len=max_length)
    for attributes in given:
        if attributes is not None and truthy(attributes):
            kept._set_items(cast("Mapping[str, AnyValue]", attributes))
    kept._immutable = True
    return kept


def exception_attributes(exception: BaseException) -> dict[str, AnyValue]:
    """An exception's type, message and stack trace; without a stack trace where that can't be made."""
    described: dict[str, AnyValue] = {
        "exception.type": type_name(type(exception)),
        "exception.message": text(exception, "An exception's message"),
    }
    try:
        described["exception.stacktrace"] = "".join(traceback.format_exception(exception))
    except ISOLATED as error:
        complain("exception", "An exception's stack trace can't be made", error=error)
    return described
