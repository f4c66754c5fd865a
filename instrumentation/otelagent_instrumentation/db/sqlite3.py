"""sqlite3: one CLIENT span for each statement, script or batch.

``db.namespace`` is the name of the database file as the connection was opened, without its directory and without the
parameters of a URI, which may hold a key; ``:memory:`` for a database in memory. The convention has no page for SQLite.
Databases attached later aren't seen.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from otelagent.patching import Instrumentation, replace
from otelagent.protocols.dbapi import Driver, FactoryArgument
from otelagent.semconv.db import Peer

_FACTORY = FactoryArgument(5, "factory")
# Up to 3.10 these ask the connection for a cursor, which is traced. Since then they make the driver's own.
_SHORTCUTS = ("execute", "executemany", "executescript") if sys.version_info >= (3, 11) else ()
_KEPT_PEERS = 256


class Sqlite3(Instrumentation):
    """Gives `connect` a factory that makes traced connections: subclasses of the type asked for.

    A factory that is a function keeps what it makes: its connections aren't traced unless it calls `connect` itself.
    """

    name = "sqlite3"
    layer = "db"

    def __init__(self, scope_version: str) -> None:
        super().__init__(scope_version)
        self._peers: dict[str | None, Peer] = {}
        self._replacements: dict[Callable[..., Any], Callable[..., Any]] = {}

    @replace("sqlite3", "connect")
    @replace("sqlite3.dbapi2", "connect")
    def connect(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """One replacement for both names, which are one function."""
        replacement = self._replacements.get(original)
        if replacement is None:
            import sqlite3

            driver = Driver(
                self,
                "sqlite",
                connection=sqlite3.Connection,
                cursor=sqlite3.Cursor,
                peer=self._peer,
                cursor_factory=FactoryArgument(0, "factory"),
                connection_shortcuts=_SHORTCUTS,
            )
            replacement = self._replacements[original] = driver.connect(original, _FACTORY)
            # Pickled by name; the C module, of which the original says it is, doesn't know ours.
            replacement.__module__ = "sqlite3"
        return replacement

    def _peer(self, _connection: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Peer:
        name = namespace(args[0] if args else kwargs.get("database"))
        peer = self._peers.get(name)
        if peer is None:
            if len(self._peers) >= _KEPT_PEERS:
                self._peers.clear()
            peer = self._peers[name] = Peer("sqlite", name)
        return peer


def namespace(database: Any) -> str | None:
    """The file name of a database as given to `sqlite3.connect`; ``None`` for a temporary one."""
    path = os.fsencode(database).decode("utf-8", "replace")
    if path.startswith("file:"):
        path = unquote(path[5:].partition("?")[0].partition("#")[0])
    return os.path.basename(path) or None
