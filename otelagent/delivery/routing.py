"""Routing: which of a signal's destinations an item goes to, see ``docs/routing.md``."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from fnmatch import translate
from typing import TYPE_CHECKING, Any

from otelagent.delivery.items import HIGH, priority

if TYPE_CHECKING:
    from otelagent.config.model import Rule

__all__ = ["Router"]

# So many characters of a value are looked at, so that a value of many megabytes costs no more than a small one.
_LOOKED_AT = 4096


class Router:
    """Marks each item with the destinations that take it.

    :param routes: the rules of each destination, none for one that takes everything.
    """

    def __init__(self, routes: Sequence[Collection[Rule]]) -> None:
        self._everything = 0
        # For each destination with rules its bit, those that can be decided at once, and those that ask for `unrouted`.
        self._rules: list[tuple[int, list[_Condition], list[_Condition]]] = []
        self._keys: set[str] = set()
        self._resource_keys: set[str] = set()
        for number, rules in enumerate(routes):
            if not rules:
                self._everything |= 1 << number
                continue
            first = [self._compile(rule) for rule in rules if not _asks_for_unrouted(rule)]
            second = [self._compile(rule) for rule in rules if _asks_for_unrouted(rule)]
            self._rules.append((1 << number, first, second))
        self._resource: tuple[object, dict[str, Any]] = (None, {})

    def mark(self, item: Any, resource: Any) -> int:
        """The destinations that take an item, bit by bit, the first one's the lowest. One thread at a time calls it.

        :param item: a protobuf ``Span`` or ``LogRecord``.
        :param resource: the attributes of its resource, as protobuf has them.
        """
        seen = _Seen(item, _values(item.attributes, self._keys), self._resource_values(resource))
        mark = self._everything
        for bit, first, _ in self._rules:
            if any(condition(seen) for condition in first):
                mark |= bit
                seen.routed = True
        for bit, _, second in self._rules:
            if any(condition(seen) for condition in second):
                mark |= bit
        return mark

    def _resource_values(self, resource: Any) -> dict[str, Any]:
        if self._resource[0] is not resource:
            self._resource = (resource, _values(resource, self._resource_keys))
        return self._resource[1]

    def _compile(self, rule: Rule) -> _Condition:
        conditions: list[_Condition] = []
        if rule.error is not None:
            conditions.append(lambda seen: seen.error is rule.error)
        if rule.unrouted is not None:
            conditions.append(lambda seen: seen.routed is not rule.unrouted)
        if rule.name:
            named = _compile_patterns(rule.name)
            conditions.append(lambda seen: hasattr(seen.item, "name") and named.match_text(seen.item.name))
        for key, patterns in rule.attributes.items():
            self._keys.add(key)
            conditions.append(_in_attributes(key, _compile_patterns(patterns)))
        for key, patterns in rule.resource.items():
            self._resource_keys.add(key)
            conditions.append(_in_resource(key, _compile_patterns(patterns)))
        if rule.excluded is not None:
            excluded = self._compile(rule.excluded)
            conditions.append(lambda seen: not excluded(seen))
        return lambda seen: all(condition(seen) for condition in conditions)


class _Seen:
    """What rules ask for of one item."""

    __slots__ = ("attributes", "error", "item", "resource", "routed")

    def __init__(self, item: Any, attributes: Mapping[str, Any], resource: Mapping[str, Any]) -> None:
        self.item = item
        self.attributes = attributes
        self.resource = resource
        self.routed = False
        self.error = priority(item) == HIGH


_Condition = Callable[[_Seen], bool]


class _Patterns:
    """Texts, any of which has to match: the exact ones, and those with wildcards."""

    def __init__(self, exact: frozenset[str], wild: tuple[Callable[[str], object], ...], anything: bool) -> None:
        self._exact = exact
        self._wild = wild
        self._anything = anything

    def match_text(self, text: str) -> bool:
        """Whether a text matches."""
        text = text[:_LOOKED_AT]
        return self._anything or text in self._exact or any(match(text) for match in self._wild)

    def match(self, value: Any) -> bool:
        """Whether a protobuf ``AnyValue`` matches: of an array any of its elements."""
        return self._anything or any(self.match_text(text) for text in _texts(value))


def _compile_patterns(patterns: Sequence[str]) -> _Patterns:
    wild = [pattern for pattern in patterns if "*" in pattern or "?" in pattern]
    return _Patterns(
        frozenset(patterns) - set(wild),
        # What it makes is without backtracking over more than one wildcard: no pattern takes long. Brackets are texts.
        tuple(re.compile(translate(pattern.replace("[", "[[]"))).match for pattern in wild),
        "*" in wild,
    )


def _in_attributes(key: str, patterns: _Patterns) -> _Condition:
    return lambda seen: key in seen.attributes and patterns.match(seen.attributes[key])


def _in_resource(key: str, patterns: _Patterns) -> _Condition:
    return lambda seen: key in seen.resource and patterns.match(seen.resource[key])


def _values(attributes: Any, keys: Collection[str]) -> dict[str, Any]:
    """The values of some keys."""
    return {one.key: one.value for one in attributes if one.key in keys} if keys else {}


def _texts(value: Any) -> Iterator[str]:
    kind = value.WhichOneof("value")
    if kind == "string_value":
        yield value.string_value
    elif kind == "bool_value":
        yield "true" if value.bool_value else "false"
    elif kind in ("int_value", "double_value"):
        yield repr(getattr(value, kind))
    elif kind == "array_value":
        for element in value.array_value.values:
            if element.WhichOneof("value") != "array_value":
                yield from _texts(element)


def _asks_for_unrouted(rule: Rule) -> bool:
    return rule.unrouted is not None or (rule.excluded is not None and _asks_for_unrouted(rule.excluded))
