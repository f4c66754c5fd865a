"""Any value made fit for OTLP, as the native engine does it (`native/crates/python/src/values.rs`): docs/values.md.

No value is refused: what can't be kept of one is replaced by its type's name or cut, and `Lost` says why. What a
value's own code raises stays here; only what stops a program (KeyboardInterrupt) comes through.
"""

from __future__ import annotations

import logging
import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import islice
from time import time_ns
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from otelagent.record.isolation import ISOLATED
from otelagent.record.rate_limited_log import RateLimitedLog

if TYPE_CHECKING:
    from opentelemetry.util.types import AnyValue

__all__ = [
    "MAX_BYTES",
    "Lost",
    "attribute_key",
    "clean",
    "complain",
    "complain_of",
    "fit_scope",
    "pairs",
    "plain_attributes",
    "text",
    "time_of",
    "truthy",
    "type_name",
]

_log = RateLimitedLog(logging.getLogger(__name__))

# Most levels of containers: an official decoder reads 100 messages deep; a level is two of them, three in a map, and a
# request has seven around.
_MAX_DEPTH = 30
# Most elements of all containers of a value together.
_MAX_ITEMS = 10_000
# Most bytes of all texts of a value together, unless the length limit that is set is larger.
MAX_BYTES = 1 << 20
# The most that every interpreter writes out, whatever its `sys.set_int_max_str_digits`, and in no quadratic time.
_MAX_INT_BITS = 2_048
# Bytes that a character takes at most.
_CHARACTER = 4

_SURROGATE = re.compile("[\ud800-\udfff]")


class Lost(NamedTuple):
    """Why something of a value isn't there as it was."""

    reason: str
    error: BaseException | None = None


def clean(value: object, max_length: int | None) -> tuple[AnyValue, Lost | None]:
    """A value of plain types only, and what was lost of it.

    :param max_length: of each string, in characters, and byte string, in bytes; longer ones are cut, which is no loss.
    """
    cleaner = _Cleaner(max_length)
    return cleaner.value(value, 0), cleaner.lost


def text(value: object, what: str) -> str:
    """The text of a name: a string as it is, anything else as its `str()`.

    :param what: as it is called in messages.
    """
    if type(value) is str and value.isascii() and len(value) <= MAX_BYTES:
        return value
    cleaner = _Cleaner(None)
    made = cleaner.key(value)
    if cleaner.lost is not None:
        complain_of(value, "text", what, cleaner.lost)
    return made


def attribute_key(key: object) -> tuple[str, Lost | None]:
    """The key of an attribute; empty when there is none."""
    if key is None:
        return "", None
    cleaner = _Cleaner(None)
    return cleaner.key(key), cleaner.lost


def time_of(value: object, what: str) -> int:
    """A time in nanoseconds since the Unix epoch; what is none, or doesn't fit 64 bits, is now.

    :param what: as it is called in messages.
    """
    if value is None:
        return time_ns()
    try:
        given: Any = value
        number = int(float.__float__(given)) if issubclass(type(given), float) else operator.index(given)
        if 0 <= number < 1 << 64:
            return number
    except ISOLATED:
        pass
    _log.warning(
        "time", "%s (%s) is no time in nanoseconds since 1970: that of the call is taken", what, type_name(type(value))
    )
    return time_ns()


def truthy(value: object) -> bool:
    """Whether a value counts as true; one whose own code fails does."""
    try:
        return bool(value)
    except ISOLATED:
        return True


def pairs(attributes: object) -> tuple[list[tuple[object, object]], int]:
    """The pairs of a mapping of attributes, and how many of them can't be had.

    A dict is there and ends; what else has items may have them without end.
    """
    if type(attributes) is dict:
        return list(attributes.items()), 0
    found: list[tuple[object, object]] = []
    try:
        for key, value in islice(cast("Any", attributes).items(), _MAX_ITEMS + 1):
            found.append((key, value))
    except ISOLATED as error:
        _log.warning("attribute", "Attributes (%s) can't be read", type_name(type(attributes)), exc_info=error)
        return found, 1
    if len(found) > _MAX_ITEMS:
        _log.warning("attribute", "Attributes beyond the first 10000 of a mapping are left out")
        return found[:_MAX_ITEMS], 1
    return found, 0


def plain_attributes(attributes: object) -> dict[str, AnyValue]:
    """Attributes as they can be kept, of what has no limits and counts nothing: a scope, a resource."""
    kept: dict[str, AnyValue] = {}
    for key, value in pairs(attributes)[0]:
        key_text, lost_key = attribute_key(key)
        if not key_text:
            complain("attribute", "An attribute without a key is left out")
            continue
        kept[key_text], lost = clean(value, None)
        if lost_key or lost:
            complain_of(value, "attribute", f"Attribute {key_text[:100]!r}", cast("Lost", lost_key or lost))
    return kept


def fit_scope(
    name: object, version: object, schema_url: object, attributes: object
) -> tuple[str, str | None, str | None, dict[str, AnyValue] | None]:
    """What an instrumentation scope is made of, as it can be kept."""
    what = "A part of an instrumentation scope"
    return (
        "" if name is None else text(name, what),
        None if version is None else text(version, what),
        None if schema_url is None else text(schema_url, what),
        None if attributes is None else plain_attributes(attributes),
    )


def complain_of(value: object, topic: str, what: str, lost: Lost) -> None:
    """Says of what, and why something of it is lost."""
    message = "%s (%s) isn't kept whole: %s"
    _log.warning(topic, message, what, type_name(type(value)), lost.reason, exc_info=lost.error)


def complain(topic: str, message: str, *args: object, error: BaseException | None = None) -> None:
    """Tells the application's log, of each topic once a minute."""
    _log.warning(topic, message, *args, exc_info=error)


def type_name(kind: type) -> str:
    """A class's name with its module, unless that is `builtins`."""
    name, module = _name_part(kind, "__qualname__") or "object", _name_part(kind, "__module__")
    return f"{module}.{name}" if module and module != "builtins" else name


def _name_part(kind: type, which: str) -> str | None:
    try:
        part = getattr(kind, which)
        return part if isinstance(part, str) and part.encode() else None
    except ISOLATED:
        return None


class _Cleaner:
    """Makes one value."""

    def __init__(self, max_length: int | None) -> None:
        self.lost: Lost | None = None
        self._max_length = max_length
        self._bytes_left = max(MAX_BYTES, _CHARACTER * (max_length or 0))
        self._items_left = _MAX_ITEMS
        # Whether there is no room for more.
        self._full = False
        # The containers around what is being made.
        self._path: list[int] = []

    def value(self, value: Any, depth: int) -> AnyValue:
        kind = type(value)
        if value is None or kind is bool or kind is float:
            return cast("AnyValue", value)
        try:
            if kind is str:
                return self._cut(value, self._max_length)
            if issubclass(kind, int):
                return self._int(value)
            if issubclass(kind, float):
                return float.__float__(value)
            if issubclass(kind, bytes):
                return self._bytes(bytes.__getitem__(value, slice(self._bytes_wanted())))
            if issubclass(kind, str):
                return self._cut(value, self._max_length)
            if issubclass(kind, (bytearray, memoryview)):
                return self._bytes(self._head_of_buffer(value))
            if kind is list or kind is tuple:
                return self._array(value, depth)
            return self._other(value, kind, depth)
        except ISOLATED as error:
            return self._replace(value, Lost("its own code raised", error))

    def key(self, key: Any) -> str:
        """The text of a key or a name."""
        try:
            return self._cut(key if issubclass(type(key), str) else self._text_of(key), None)
        except ISOLATED as error:
            self._lose(Lost("its own code raised", error))
            return _replacement(key)

    def _other(self, value: Any, kind: type, depth: int) -> AnyValue:
        if not issubclass(kind, dict) and isinstance(value, (Sequence, AbstractSet)):
            return self._array(value, depth)
        if isinstance(value, Mapping):
            return self._map(value, depth)
        # An array or a scalar of numpy's, or what behaves like one.
        if hasattr(kind, "dtype") and hasattr(kind, "ndim") and hasattr(kind, "item"):
            if operator.index(value.ndim) > 0:
                return self._array(value, depth)
            dtype_kind = getattr(value.dtype, "kind", None)
            if isinstance(dtype_kind, str) and dtype_kind and dtype_kind in "biuf":
                number = value.item()
                if type(number) in (bool, float) or (type(number) is int and -(1 << 63) <= number < 1 << 63):
                    return cast("AnyValue", number)
        return self._cut(self._text_of(value), self._max_length)

    def _int(self, number: int) -> AnyValue:
        number = int.__index__(number)
        if -(1 << 63) <= number < 1 << 63:
            return number
        if number.bit_length() > _MAX_INT_BITS:
            return self._replace(number, Lost("an int is too long"))
        return self._cut(str(number), self._max_length)

    def _bytes_wanted(self) -> int:
        # One more than there is room for tells that there are more.
        left = self._bytes_left + 1
        return left if self._max_length is None else min(self._max_length, left)

    def _bytes(self, head: bytes) -> bytes:
        kept = head[: self._bytes_left]
        self._took(len(kept), len(kept) < len(head))
        return kept

    def _head_of_buffer(self, value: bytearray | memoryview) -> bytes:
        view, most = memoryview(value), self._bytes_wanted()
        if view.nbytes > most:
            try:
                # Items of one dimension, if it isn't contiguous: each has a byte at least.
                view = (view.cast("B") if view.c_contiguous else view)[:most]
            except (TypeError, ValueError, NotImplementedError):
                pass
        return view.tobytes()[:most]

    def _took(self, size: int, cut: bool) -> None:
        self._bytes_left -= size
        if cut:
            self._full = True
            self._lose(Lost("it is too large"))

    def _cut(self, string: str, limit: int | None) -> str:
        # The type's own methods: a subclass may have others.
        length = str.__len__(string)
        wanted = length if limit is None else min(limit, length)
        most = min(wanted, self._bytes_left)
        head = str.__getitem__(string, slice(most))
        size = most
        if not head.isascii():
            try:
                encoded = head.encode()
            except UnicodeEncodeError:
                head = _SURROGATE.sub("\ufffd", head)
                encoded = head.encode()
            size = len(encoded)
            if size > self._bytes_left:
                head = encoded[: self._bytes_left].decode(errors="ignore")
                self._took(len(head.encode()), True)
                return head
        self._took(size, most < wanted)
        return head

    def _text_of(self, value: object) -> str:
        kind = type(value)
        if issubclass(kind, int) and int.bit_length(cast("int", value)) > _MAX_INT_BITS:
            self._lose(Lost("an int is too long"))
            return _replacement(value)
        if kind.__str__ is not object.__str__ or kind.__repr__ is not object.__repr__:
            return str(value)
        self._lose(Lost("its class doesn't say how it is written"))
        return _replacement(value)

    def _lose(self, lost: Lost) -> None:
        self.lost = self.lost or lost

    def _replace(self, value: object, lost: Lost) -> str:
        self._lose(lost)
        return _replacement(value)[: self._max_length]

    def _enter(self, value: object, depth: int) -> str | None:
        # What stands for a container that may not be looked into.
        del self._path[depth:]
        if depth >= _MAX_DEPTH:
            return self._replace(value, Lost("it nests too deep"))
        if id(value) in self._path:
            return self._replace(value, Lost("it contains itself"))
        self._path.append(id(value))
        return None

    def _another(self) -> bool:
        # Whether there is room for one more element.
        if not self._full and not self._items_left:
            self._full = True
            self._lose(Lost("it has too many elements"))
        self._items_left -= 1
        return not self._full

    def _array(self, value: Iterable[Any], depth: int) -> AnyValue:
        items = iter(value)
        replaced = self._enter(value, depth)
        if replaced is not None:
            return replaced
        kept = []
        for item in items:
            if not self._another():
                break
            kept.append(self.value(item, depth + 1))
        return tuple(kept)

    def _map(self, mapping: Mapping[Any, Any], depth: int) -> AnyValue:
        replaced = self._enter(mapping, depth)
        if replaced is not None:
            return replaced
        items: Iterable[tuple[Any, Any]] = islice(mapping.items(), self._items_left + 1)
        if type(mapping) is dict:
            items = list(items)  # Because a value's own code may change it.
        kept: dict[str, AnyValue] = {}
        for key, value in items:
            if not self._another():
                break
            key_text = self.key(key)
            if self._full:
                break
            if not key_text:
                self._lose(Lost("a key of it is empty"))
                continue
            # Of keys with the same text, the last one's value takes the place of the first.
            if key_text in kept:
                self._lose(Lost("keys of it have the same text"))
            kept[key_text] = self.value(value, depth + 1)
        return kept


def _replacement(value: object) -> str:
    name = type_name(type(value))
    return f"<{name if len(name) <= 200 else 'object'} object>"
