"""Words that are looked for: the rowids of their table, and case."""

from __future__ import annotations

import string

__all__ = ["EXCEPTION", "KINDS", "LOG", "lower"]

_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)

KINDS = 2
LOG, EXCEPTION = range(2)
"""A row of ``log``, of ``span``: its text has the rowid ``id * KINDS + kind``."""


def lower(text: str) -> str:
    """As SQLite's ``lower`` does it: of the letters of ASCII alone, so that any other is found as it is written."""
    return text.translate(_LOWER)
