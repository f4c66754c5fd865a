"""Calls of a database, by the stable database conventions.

Where this is more than the convention asks: ``db.operation.name`` and ``db.collection.name`` are read off the SQL when
it leaves no doubt about them (the convention would leave them out), and operations are written in upper case. Commit,
rollback and fetching rows are not described: they aren't queries, and the statement's span says what matters.

Source: https://opentelemetry.io/docs/specs/semconv/db/database-spans/
"""

from __future__ import annotations

import re
from typing import Any

from otelagent.semconv.call import CallDescription
from otelagent.semconv.redaction import MAX_MESSAGE_LENGTH, cut
from otelagent.semconv.sql import analyse

__all__ = ["UNKNOWN_SIZE", "Peer", "Query", "status_code"]

#: The size of a batch whose parameters come from an iterator.
UNKNOWN_SIZE = -1

_DEFAULT_PORTS = {
    "postgresql": 5432,
    "mysql": 3306,
    "mariadb": 3306,
    "microsoft.sql_server": 1433,
    "oracle.db": 1521,
    "mongodb": 27017,
    "redis": 6379,
    "cassandra": 9042,
}


class Peer:
    """The database a connection leads to. Compared by identity: make one for a connection, not one for a call.

    :ivar system: ``db.system.name``, a value of the convention's list where there is one.
    :ivar attributes: what every span of a call to it carries.
    """

    __slots__ = ("attributes", "system", "target")

    def __init__(
        self, system: str, namespace: str | None = None, address: str | None = None, port: int | None = None
    ) -> None:
        self.system = system
        if port == _DEFAULT_PORTS.get(system) or address is None:
            port = None
        self.target = namespace or (f"{address}:{port}" if port else address)
        self.attributes: dict[str, Any] = {
            "db.system.name": system,
            "db.namespace": namespace,
            "server.address": address,
            "server.port": port,
        }


class Query(CallDescription):
    """One query, command or batch of them.

    :param peer: where it goes.
    :param text: SQL, recorded without its literals; ``None`` when there is none or it can't be read.
    :param operation: the operation, where the library knows it.
    :param collection: the one collection it is about, where the library knows it.
    :param procedure: the stored procedure it calls.
    :param batch: how many operations a batch has, `UNKNOWN_SIZE` if that can't be told; ``None`` for a single query.
        One operation is no batch, none is.
    """

    kind = "client"
    complete = True

    def __init__(
        self,
        peer: Peer,
        text: str | None = None,
        *,
        operation: str | None = None,
        collection: str | None = None,
        procedure: str | None = None,
        batch: int | None = None,
    ) -> None:
        attributes = dict(peer.attributes)
        summary = ""
        if text is not None:
            statement = analyse(text, peer.system)
            summary = statement.summary
            operation = operation or statement.operation
            collection = collection or statement.collection
            attributes["db.query.text"] = statement.text or None
        elif procedure is not None:
            summary = f"{operation or 'CALL'} {procedure}"
        if batch is not None and batch != 1:
            operation = f"BATCH {operation}" if operation else "BATCH"
            summary = f"BATCH {summary}" if summary else "BATCH"
            attributes["db.operation.batch.size"] = None if batch == UNKNOWN_SIZE else batch
        attributes["db.operation.name"] = operation
        attributes["db.collection.name"] = collection
        attributes["db.stored_procedure.name"] = procedure
        attributes["db.query.summary"] = summary or None
        super().__init__(
            summary or _name(operation, collection or procedure or peer.target) or peer.system,
            {key: value for key, value in attributes.items() if value is not None},
        )

    def error_attributes(self, error: BaseException) -> dict[str, Any]:
        """``db.response.status_code``, where the driver's exception carries the database's code."""
        code = status_code(error, self.attributes["db.system.name"])
        return {} if code is None else {"db.response.status_code": code}

    def error_message(self, error: BaseException) -> str:
        """The message without the values that databases quote in it (`redact_message`)."""
        return redact_message(cut(str(error), MAX_MESSAGE_LENGTH), self.attributes.get("db.query.text", ""))


def _name(operation: str | None, target: str | None) -> str:
    return " ".join(part for part in (operation, target) if part)


def status_code(error: BaseException, system: str) -> str | None:
    """The database's own code for an error: the most specific one that the driver's exception has.

    SQLite: the name of the extended result code, as in SQLITE_CONSTRAINT_UNIQUE (Python 3.11+). MySQL and MariaDB: the
    server's number. Others: the SQLSTATE.
    """
    name = getattr(error, "sqlite_errorname", None)
    if name is not None:
        return str(name)
    if system in ("mysql", "mariadb") and not isinstance(error, OSError):
        number = getattr(error, "errno", None) or (error.args[0] if error.args else None)
        if isinstance(number, int) and number > 0:
            return str(number)
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    return state if isinstance(state, str) else None


_QUOTED = re.compile(r"\"[^\"]*\"?|'[^']*'?|`[^`]*`?")
# PostgreSQL: "LINE 1: <the statement>", "Key (email)=(a@b.c) already exists", "Failing row contains (1, a@b.c)"; a
# message that was cut may have lost the last parenthesis.
_ECHO = re.compile(r"(LINE \d+: )[^\n]*(?:\n\s*\^)?|(\)=|contains )\((?:[^\n]*\)|[^\n]*)")


def redact_message(message: str, text: str) -> str:
    """A database's error message without values.

    What it quotes stays only where it is a word of the recorded statement, so a name but never a literal.

    :param text: the statement as recorded.
    """

    def keep(quoted: re.Match[str]) -> str:
        value = quoted.group()
        inner = value[1:-1] if len(value) > 1 and value[-1] == value[0] else value[1:]
        known = inner != "" and re.search(rf"(?<!\w){re.escape(inner)}(?!\w)", text) is not None
        return value if known else f"{value[0]}?{value[0]}"

    message = _ECHO.sub(lambda found: f"{found[1]}?" if found[1] else f"{found[2]}(?)", message)
    return _QUOTED.sub(keep, message)
