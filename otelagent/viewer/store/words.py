"""The rowids of the table of words: whose text it is that was found."""

from __future__ import annotations

__all__ = ["EXCEPTION", "KINDS", "LOG", "OPERATION"]

KINDS = 4
OPERATION, LOG, EXCEPTION = range(3)
"""A row of ``operation``, of ``log``, of ``span``: its text has the rowid ``id * KINDS + kind``."""
