"""Many rows into a table with few statements.

Between two statements another thread may take the interpreter's lock, and keep it for a while: with a statement for
each row the writer would mostly wait.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

__all__ = ["insert", "marks"]

_ROWS = (512, 64, 8, 1)
"""Of one statement: few sizes, so that each stays compiled; SQLite takes at most 32,766 values in one."""


def insert(
    connection: sqlite3.Connection, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]], how: str = ""
) -> None:
    """Inserts rows.

    :param how: ``OR IGNORE`` or ``OR REPLACE``.
    """
    at = 0
    for size in _ROWS:
        while len(rows) - at >= size:
            statement = _statement(table, tuple(columns), how, size)
            connection.execute(statement, tuple(chain.from_iterable(rows[at : at + size])))
            at += size


@lru_cache(256)
def _statement(table: str, columns: tuple[str, ...], how: str, rows: int) -> str:
    row = f"({marks(columns)})"
    return f"INSERT {how} INTO {table} ({', '.join(columns)}) VALUES {', '.join([row] * rows)}"


def marks(columns: Iterable[object]) -> str:
    """``?, ?`` for as many."""
    return ", ".join("?" for _ in columns)
