"""The tables, and how a file is opened.

Rows have integer ids; what repeats (resources, scopes, span names) is stored once and referred to. A trace has a
summary row, kept up to date with each batch, so that the list of traces reads no spans.
"""

from __future__ import annotations

import os
import sqlite3

__all__ = ["VERSION", "WrongFile", "open_reader", "open_writer"]

VERSION = 3
"""Of the schema, kept in the file's `user_version`."""

# So that another program's database is never taken for one of ours (PRAGMA application_id).
_APPLICATION = 0x6F746C76

_TABLES = """
CREATE TABLE resource (
  id INTEGER PRIMARY KEY, service TEXT NOT NULL, attributes TEXT NOT NULL, UNIQUE (attributes, service)
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
CREATE INDEX log_arrived ON log (arrived_s);
CREATE TABLE metric (
  id INTEGER PRIMARY KEY, resource INTEGER NOT NULL, scope INTEGER NOT NULL, name TEXT NOT NULL, kind TEXT NOT NULL,
  unit TEXT NOT NULL, description TEXT NOT NULL, temporality INTEGER NOT NULL, monotonic INTEGER NOT NULL,
  UNIQUE (name, resource, scope, kind, unit)
) STRICT;
CREATE TABLE series (
  id INTEGER PRIMARY KEY, metric INTEGER NOT NULL, attributes TEXT NOT NULL, UNIQUE (metric, attributes)
) STRICT;
CREATE TABLE point (
  series INTEGER NOT NULL, time_ns INTEGER NOT NULL, value ANY, distribution TEXT, exemplars TEXT,
  PRIMARY KEY (series, time_ns)
) STRICT, WITHOUT ROWID;
CREATE INDEX point_time ON point (time_ns);
-- What can be searched by words: the names of operations, by their ids, and texts, whose rowid `words` explains.
CREATE VIRTUAL TABLE name USING fts5 (text, tokenize = 'unicode61');
CREATE VIRTUAL TABLE word USING fts5 (text, tokenize = 'unicode61');
"""

_PAGE_BYTES = 8192
_CACHE_KIB = 64 * 1024
_READ_CACHE_KIB = 16 * 1024


class WrongFile(Exception):
    """The file isn't one of ours, or of another version; the text says it with the file's name."""


def open_writer(path: str) -> sqlite3.Connection:
    """The one connection that writes; makes the file if it is missing or empty.

    :raises WrongFile: it is something else.
    :raises OSError: it can't be made or opened.
    :raises sqlite3.Error: it can't be written.
    """
    # Telemetry is its owner's alone; the files that SQLite puts beside it get the same mode.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
    try:
        connection.execute("PRAGMA busy_timeout = 5000")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        owner = connection.execute("PRAGMA application_id").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        if tables and owner != _APPLICATION:
            raise WrongFile(f"{path} is a database of another program")
        if tables and version != VERSION:
            raise WrongFile(f"{path} was written by another version (schema {version}, not {VERSION})")
        connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        connection.execute("PRAGMA wal_autocheckpoint = 2000")
        connection.execute("PRAGMA temp_store = MEMORY")
        if not tables:
            connection.executescript(
                f"BEGIN;{_TABLES}PRAGMA application_id = {_APPLICATION};PRAGMA user_version = {VERSION};COMMIT;"
            )
    except sqlite3.DatabaseError as error:
        connection.close()
        if "not a database" in str(error):
            raise WrongFile(f"{path} is no SQLite database") from None
        raise
    except BaseException:
        connection.close()
        raise
    return connection


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


def _quoted(path: str) -> str:
    from urllib.parse import quote

    return quote(path)
