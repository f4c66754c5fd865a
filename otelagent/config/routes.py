"""Rules that say which items go to a destination; see ``docs/routing.md``. Imported where there are any."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from otelagent.config.mask import is_mapping
from otelagent.config.model import Rule
from otelagent.config.parse import Invalid, suggest

__all__ = ["read_routes"]

_INT64 = 2**63


def read_routes(given: object) -> tuple[Rule, ...]:
    """The rules of one destination, any of which takes an item.

    :raises Invalid: something in them is wrong; it says which rule.
    """
    if not isinstance(given, list | tuple):
        raise Invalid("must be a list of rules", "put the rule in a list" if is_mapping(given) else "")
    if not given:
        raise Invalid("must have a rule", "leave it out to take everything")
    rules = []
    for number, rule in enumerate(given, 1):
        try:
            rules.append(_rule(rule))
        except Invalid as error:
            error.problem = f"rule {number}: {error.problem}"
            raise
    return tuple(rules)


def _rule(given: object, outer: str = "") -> Rule:
    subject = repr(outer) if outer else "it"
    if not is_mapping(given):
        raise Invalid(f"{subject} must be a mapping of conditions")
    if not given:
        raise Invalid(f"{subject} must have a condition", f"there are {', '.join(_CONDITIONS)}")
    fields: dict[str, Any] = {}
    for key, value in given.items():
        if key not in _CONDITIONS or (outer and key == outer):
            nearest = suggest(str(key), tuple(_CONDITIONS))
            hint = f"did you mean {nearest!r}?" if nearest and not outer else f"there are {', '.join(_CONDITIONS)}"
            raise Invalid(f"there is no condition {key!r}" + (f" in {outer!r}" if outer else ""), hint)
        field, read = _CONDITIONS[key]
        fields[field] = read(key, value)
    return Rule(**fields, text="" if outer else _text(given))


def _flag(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise Invalid(f"{key!r} must be true or false")
    return value


def _patterns_by_name(key: str, value: object) -> Mapping[str, tuple[str, ...]]:
    if not is_mapping(value) or not value:
        raise Invalid(f"{key!r} must be a mapping of names to what their values have to be")
    found = {}
    for name, patterns in value.items():
        if not isinstance(name, str) or not name:
            raise Invalid(f"{key!r} must have texts as keys")
        found[name] = _patterns(name, patterns)
    return MappingProxyType(found)


def _patterns(key: str, value: object) -> tuple[str, ...]:
    several = value if isinstance(value, list | tuple) else (value,)
    if not several:
        raise Invalid(f"{key!r} must be something: the list is empty", "'*' is any value")
    return tuple(_pattern(key, one) for one in several)


def _pattern(key: str, value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, float) or (isinstance(value, int) and -_INT64 <= value < _INT64):
        return repr(value)
    raise Invalid(f"{key!r} must be a text, a number, true or false, or a list of them")


def _text(given: object) -> str:
    try:
        text = json.dumps(given, ensure_ascii=False, default=dict)
        text.encode()
    except UnicodeEncodeError:
        raise Invalid("it is not UTF-8") from None
    return text


_CONDITIONS: dict[str, tuple[str, Callable[[str, object], object]]] = {
    "error": ("error", _flag),
    "name": ("name", _patterns),
    "attributes": ("attributes", _patterns_by_name),
    "resource": ("resource", _patterns_by_name),
    "unrouted": ("unrouted", _flag),
    "not": ("excluded", lambda key, value: _rule(value, key)),
}
