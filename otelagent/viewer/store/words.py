"""The rowids of the table of words: whose text it is that was found."""

from __future__ import annotations

__all__ = ["EXCEPTION", "KINDS", "LOG"]

KINDS = 2
LOG, EXCEPTION = range(2)
"""A row of ``log``, of ``span``: its text has the rowid ``id * KINDS + kind``."""
