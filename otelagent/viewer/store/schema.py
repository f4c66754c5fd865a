"""The tables, and how a file is opened.

Rows have integer ids; what repeats (resources, scopes, span names) is stored once and referred to. A trace has a
summary row, kept up to date with each batch, so that the list of traces reads no spans.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Sequence
from typing import Any

__all__ = ["VERSION", "WrongFile", "first_and_last", "open_reader", "open_writer", "rows_within"]

VERSION = 7
"""Of the schema, kept in the file's `user_version`."""

# So that another program's database is never taken for one of ours (PRAGMA application_id).
_APPLICATION = 0x6F746C76

_TABLES = """
CREATE TABLE resource (
  id INTEGER PRIMARY KEY, service TEXT NOT NULL, attributes TEXT NOT NULL, UNIQUE (attributes, service)
) STRICT;
-- The greatest rows of a trace and of a log record that refer to a resource, or greater ones.
CREATE TABLE resource_use (
  id INTEGER PRIMARY KEY, last_trace INTEGER NOT NULL, last_log INTEGER NOT NULL
) STRICT;
CREATE TABLE scope (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL, version TEXT NOT NULL, attributes TEXT NOT NULL,
  UNIQUE (name, version, attributes)
) STRICT;
-- A span's name within its service: what the page calls an operation. The empty name stands for the service.
CREATE TABLE operation (
  id INTEGER PRIMARY KEY, service TEXT NOT NULL, name TEXT NOT NULL, kind INTEGER NOT NULL,
  UNIQUE (service, name, kind)
) STRICT;
CREATE TABLE trace (
  id INTEGER PRIMARY KEY, trace_id BLOB NOT NULL, start_ns INTEGER NOT NULL, end_ns INTEGER NOT NULL,
  spans INTEGER NOT NULL, errors INTEGER NOT NULL, root INTEGER, first INTEGER NOT NULL, services TEXT NOT NULL,
  arrived_s INTEGER NOT NULL
) STRICT;
-- The rows of traces by their ids, see `trace_ids`.
CREATE TABLE trace_key (
  segment INTEGER NOT NULL, trace_id BLOB NOT NULL, trace INTEGER NOT NULL, PRIMARY KEY (segment, trace_id)
) STRICT, WITHOUT ROWID;
-- The traces that an operation occurs in: their rows as ascending 64-bit numbers, `last` is the greatest.
CREATE TABLE posting (
  id INTEGER PRIMARY KEY, operation INTEGER NOT NULL, last INTEGER NOT NULL, traces BLOB NOT NULL
) STRICT;
CREATE INDEX posting_operation ON posting (operation, last);
-- Bounds of the traces whose rows begin with these bits; they may be too wide, never too narrow.
CREATE TABLE zone (
  id INTEGER PRIMARY KEY, earliest_ns INTEGER NOT NULL, latest_ns INTEGER NOT NULL, shortest_ns INTEGER NOT NULL,
  longest_ns INTEGER NOT NULL, errors INTEGER NOT NULL
) STRICT;
-- Hashes of the attributes of a transaction's spans, ascending 32-bit numbers, and the zones that they may be in.
CREATE TABLE member (
  id INTEGER PRIMARY KEY, lowest INTEGER NOT NULL, highest INTEGER NOT NULL, hashes BLOB NOT NULL
) STRICT;
CREATE INDEX member_highest ON member (highest);
CREATE TABLE span (
  id INTEGER PRIMARY KEY, trace INTEGER NOT NULL, span_id BLOB NOT NULL, parent_id BLOB, resource INTEGER NOT NULL,
  scope INTEGER NOT NULL, operation INTEGER NOT NULL, status INTEGER NOT NULL, status_message TEXT,
  start_ns INTEGER NOT NULL, duration_ns INTEGER NOT NULL, attributes TEXT NOT NULL, events TEXT, links TEXT,
  dropped TEXT, trace_state TEXT
) STRICT;
CREATE UNIQUE INDEX span_trace ON span (trace, span_id);
-- Those that haven't ended, see `rows.RUNNING`.
CREATE INDEX span_running ON span (trace, duration_ns) WHERE duration_ns < 0;
-- Links from the other side.
CREATE TABLE link (
  trace_id BLOB NOT NULL, span_id BLOB NOT NULL, span INTEGER NOT NULL, PRIMARY KEY (trace_id, span_id, span)
) STRICT, WITHOUT ROWID;
CREATE INDEX link_span ON link (span);
CREATE TABLE log (
  id INTEGER PRIMARY KEY, trace_id BLOB, span_id BLOB, resource INTEGER NOT NULL, scope INTEGER NOT NULL,
  time_ns INTEGER NOT NULL, severity INTEGER NOT NULL, severity_text TEXT NOT NULL, event_name TEXT NOT NULL,
  body TEXT NOT NULL, attributes TEXT NOT NULL, dropped INTEGER NOT NULL, arrived_s INTEGER NOT NULL
) STRICT;
CREATE INDEX log_trace ON log (trace_id) WHERE trace_id IS NOT NULL;
CREATE INDEX log_time ON log (time_ns);
CREATE TABLE metric (
  id INTEGER PRIMARY KEY, resource INTEGER NOT NULL, scope INTEGER NOT NULL, name TEXT NOT NULL, kind TEXT NOT NULL,
  unit TEXT NOT NULL, description TEXT NOT NULL, temporality INTEGER NOT NULL, monotonic INTEGER NOT NULL,
  UNIQUE (name, resource, scope, kind, unit)
) STRICT;
CREATE INDEX metric_resource ON metric (resource);
CREATE TABLE series (
  id INTEGER PRIMARY KEY, metric INTEGER NOT NULL, attributes TEXT NOT NULL, UNIQUE (metric, attributes)
) STRICT;
CREATE TABLE point (
  series INTEGER NOT NULL, time_ns INTEGER NOT NULL, since_ns INTEGER NOT NULL, value ANY, distribution TEXT,
  exemplars TEXT, arrived_s INTEGER NOT NULL, PRIMARY KEY (series, time_ns, since_ns)
) STRICT, WITHOUT ROWID;
CREATE INDEX point_arrived ON point (arrived_s);
-- What can be searched by words: the names of operations, by their ids, and texts, whose rowid `words` explains.
CREATE VIRTUAL TABLE name USING fts5 (text, tokenize = 'unicode61');
CREATE VIRTUAL TABLE word USING fts5 (text, tokenize = 'unicode61');
"""

_PAGE_BYTES = 8192
_JOURNAL_PAGES = 2000
"""Of the write-ahead log, when it is written back: 16 MiB."""
_CACHE_KIB = 64 * 1024
_READ_CACHE_KIB = 16 * 1024


class WrongFile(Exception):
    """The file isn't one of ours, of another version, damaged or in use; the text says it with the file's name."""


def open_writer(path: str) -> sqlite3.Connection:
    """The one connection that writes; makes the file if it is missing or empty. A file that is refused stays as it is.

    :raises WrongFile: it is something else, or can't be read or written.
    :raises OSError: it can't be made.
    """
    fresh = _check_header(path)
    # Telemetry is its owner's alone; the files that SQLite puts beside it get the same mode.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    connection = None
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
        connection.execute("PRAGMA busy_timeout = 5000")
        if fresh:
            # Before the journal is: so that the header of a file that has tables always says whose they are.
            connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
            connection.executescript(
                f"BEGIN;{_TABLES}PRAGMA application_id = {_APPLICATION};PRAGMA user_version = {VERSION};COMMIT;"
            )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_JOURNAL_PAGES}")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("SELECT count(*) FROM trace_key WHERE segment < 0").fetchone()
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        damaged = ": it is damaged" if "malformed" in str(error) else ""
        raise WrongFile(f"{path} can't be opened ({error}){damaged}") from None
    return connection


def _check_header(path: str) -> bool:
    """Whether the file has yet to be made; nothing is opened that could write.

    Source: SQLite's database file format, "The Database Header".
    """
    try:
        with open(path, "rb") as file:
            header = file.read(100)
    except FileNotFoundError:
        return True
    except OSError as error:
        raise WrongFile(f"{path} can't be read: {error.strerror}") from None
    if not header:
        return True
    if not header.startswith(b"SQLite format 3\0") or len(header) < 100:
        raise WrongFile(f"{path} is no SQLite database")
    version, owner = int.from_bytes(header[60:64], "big"), int.from_bytes(header[68:72], "big")
    if owner != _APPLICATION:
        raise WrongFile(f"{path} is a database of another program")
    if version != VERSION:
        raise WrongFile(f"{path} was written by another version (schema {version}, not {VERSION}): name another file")
    return False


def open_reader(path: str) -> sqlite3.Connection:
    """A connection that only reads, from any thread, one at a time.

    :raises sqlite3.Error: it can't be opened.
    """
    connection = sqlite3.connect(
        f"file:{_quoted(path)}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA query_only = ON")
    connection.execute(f"PRAGMA cache_size = -{_READ_CACHE_KIB}")
    connection.execute("PRAGMA busy_timeout = 2000")
    return connection


def first_and_last(connection: sqlite3.Connection, table: str) -> tuple[int, int]:
    """The lowest and the highest id of a table; 1 and 0 if it is empty."""
    # In one query they would be looked for in all of the table.
    low = connection.execute(f"SELECT coalesce(min(id), 1) FROM {table}").fetchone()[0]
    high = connection.execute(f"SELECT coalesce(max(id), 0) FROM {table}").fetchone()[0]
    return low, high


def rows_within(
    connection: sqlite3.Connection, seconds: float, sql: str, values: Sequence[Any]
) -> tuple[list[tuple[Any, ...]], bool]:
    """The rows that a query finds in that time, and whether they are all."""
    until_s = time.monotonic() + seconds
    connection.set_progress_handler(lambda: time.monotonic() > until_s, 10_000)
    found: list[tuple[Any, ...]] = []
    try:
        found.extend(connection.execute(sql, values))
    except sqlite3.OperationalError as error:
        if "interrupted" not in str(error):
            raise
        return found, False
    finally:
        connection.set_progress_handler(None, 0)
    return found, True


def _quoted(path: str) -> str:
    from urllib.parse import quote

    return quote(path)
