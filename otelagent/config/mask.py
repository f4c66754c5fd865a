"""How values are shown: secrets never are."""

from __future__ import annotations

TYPE_CHECKING = False  # see otelagent.config.settings
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, TypeGuard

__all__ = ["SECRET_KINDS", "Secret", "display", "is_mapping", "quoted"]

MASK = "***"

SECRET_KINDS = ("headers", "secret", "parameters", "destinations")
"""The kinds of settings whose values are never shown, see `otelagent.config.settings.Setting`."""

# Shown without their user, password and query.
_URLS = ("endpoint", "url")

# Patterns are compiled, and `re` imported, at their first use, which most processes never come to.
# Everything before the last "@": a password with a raw "/" or "@" in it must not leak from a malformed URL.
_USERINFO = r"(?s)^([A-Za-z][A-Za-z0-9+.-]*://)?.*@"
# Some vendors take their token in the query.
_QUERY = r"(?s)\?.*"


class Secret:
    """A text that shows as ``***`` wherever it is printed; `reveal` gives it to the one place that sends it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself."""
        return self._text

    def __repr__(self) -> str:
        return f"Secret('{MASK}')"

    def __str__(self) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        return self._text == other._text if isinstance(other, Secret) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._text)


def display(kind: str, value: object) -> str:
    """A value as a user may see it.

    :param kind: the setting's kind, see `otelagent.config.settings.Setting`.
    """
    if value is None:
        return "(not set)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if is_mapping(value):
        if kind in SECRET_KINDS:
            return ", ".join(f"{name}={MASK}" for name in value) or "(none)"
        return ", ".join(f"{name}={item}" for name, item in value.items()) or "(none)"
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(map(str, value)) or "(none)"
    if kind in SECRET_KINDS:
        return MASK
    text = str(value)
    if kind in _URLS and ("@" in text or "?" in text):
        import re

        return re.sub(_QUERY, f"?{MASK}", re.sub(_USERINFO, rf"\1{MASK}@", text))
    return text


def is_mapping(value: object) -> TypeGuard[Mapping[Any, Any]]:
    """Whether a value is a mapping."""
    if isinstance(value, str | int | float | tuple | list):
        return False  # nearly always: what is left is worth an import
    from collections.abc import Mapping

    return isinstance(value, Mapping)


def quoted(kind: str, value: object) -> object:
    """A wrong value as an error or a warning may quote it: masked if it may hold a secret, cut if it is long."""
    if kind in SECRET_KINDS or (kind in _URLS and not isinstance(value, str | int)):
        return MASK
    if kind == "routes":
        value = str(value)
    if isinstance(value, str):
        value = display(kind, value)
        return value if len(value) <= 120 else value[:119] + "…"
    return value
