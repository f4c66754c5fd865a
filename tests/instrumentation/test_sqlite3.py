from __future__ import annotations

import inspect
import pickle
import sqlite3
import sqlite3.dbapi2
import sys
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from otelagent.patching.switch import SWITCH
from otelagent_instrumentation.db.sqlite3 import Sqlite3, namespace
from tests.instrumentation.capture import Applied, Spans


@pytest.fixture(autouse=True)
def applied(apply: Applied) -> Sqlite3:
    return apply(Sqlite3)


def _connection(**arguments: Any) -> sqlite3.Connection:
    connection: sqlite3.Connection = sqlite3.connect(":memory:", **arguments)
    connection.execute("CREATE TABLE t (a UNIQUE, b)")
    return connection


@pytest.fixture
def connection(spans: Spans) -> Any:
    connection = _connection()
    spans.clear()
    yield connection
    connection.close()


def test_a_statement_is_one_span_and_carries_no_literal(connection: sqlite3.Connection, spans: Spans) -> None:
    connection.cursor().execute("INSERT INTO t VALUES ('secret', ?)", (1,))
    span = spans.one()
    assert (span.name, span.kind, span.status.status_code) == ("INSERT t", SpanKind.CLIENT, StatusCode.UNSET)
    assert dict(span.attributes or {}) == {
        "db.system.name": "sqlite",
        "db.namespace": ":memory:",
        "db.operation.name": "INSERT",
        "db.collection.name": "t",
        "db.query.text": "INSERT INTO t VALUES (?, ?)",
        "db.query.summary": "INSERT t",
    }


def test_the_connection_own_methods_give_one_span_each(connection: sqlite3.Connection, spans: Spans) -> None:
    first = connection.execute("SELECT a FROM t")
    second = connection.executemany("INSERT INTO t VALUES (?, ?)", [(1, 2), (2, 3)])
    third = connection.executescript("CREATE TABLE u (c); SELECT 1")
    assert spans.names() == ["SELECT t", "BATCH INSERT t", "CREATE TABLE u SELECT"]
    spans.clear()
    for cursor in (first, second, third):
        assert isinstance(cursor, sqlite3.Cursor)
        cursor.execute("SELECT a FROM t")
    assert spans.names() == ["SELECT t"] * 3


def test_batches_tell_their_size_and_iterators_are_left_alone(connection: sqlite3.Connection, spans: Spans) -> None:
    connection.executemany("INSERT INTO t VALUES (?, 1)", [(1,), (2,)])
    connection.executemany("INSERT INTO t VALUES (?, 1)", ((n,) for n in (3, 4)))
    connection.executemany("INSERT INTO t VALUES (?, 1)", [(5,)])
    sizes = [(span.name, (span.attributes or {}).get("db.operation.batch.size")) for span in spans.all()]
    assert sizes == [("BATCH INSERT t", 2), ("BATCH INSERT t", None), ("INSERT t", None)]
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (5,)


def test_an_error_is_recorded_and_passed_on(connection: sqlite3.Connection, spans: Spans) -> None:
    connection.execute("INSERT INTO t VALUES (1, 1)")
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE constraint failed"):
        connection.execute("INSERT INTO t VALUES (1, 1)")
    span = spans.all()[-1]
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "UNIQUE constraint failed: t.a"
    attributes = span.attributes or {}
    assert attributes["error.type"] == "sqlite3.IntegrityError"
    code = "SQLITE_CONSTRAINT_UNIQUE" if sys.version_info >= (3, 11) else None
    assert attributes.get("db.response.status_code") == code
    assert [event.name for event in span.events] == ["exception"]


def test_a_malformed_statement_leaks_nothing_through_its_error(connection: sqlite3.Connection, spans: Spans) -> None:
    statement = "SELECT a FROM t WHERE a = 'hunter" + "2"
    with pytest.raises(sqlite3.OperationalError, match="hunter2"):
        connection.execute(statement)
    span = spans.one()
    assert "hunter2" not in span.to_json()
    assert span.status.description == 'unrecognized token: "?"'


def test_types_signatures_and_pickling_are_as_before(connection: sqlite3.Connection) -> None:
    cursor = connection.cursor()
    assert isinstance(connection, sqlite3.Connection)
    assert isinstance(cursor, sqlite3.Cursor)
    assert repr(connection).startswith("<sqlite3.Connection object")
    assert repr(cursor).startswith("<sqlite3.Cursor object")
    assert type(cursor) is type(connection.cursor())
    assert cursor.connection is connection
    if sys.version_info >= (3, 11):
        assert inspect.signature(type(cursor).execute) == inspect.signature(sqlite3.Cursor.execute)
    for thing in (connection, cursor):
        with pytest.raises(TypeError, match="cannot pickle"):
            pickle.dumps(thing)
        with pytest.raises(AttributeError):
            thing.anything = 1  # type: ignore[union-attr]
    assert pickle.loads(pickle.dumps(sqlite3.connect)) is sqlite3.connect
    assert sqlite3.connect is sqlite3.dbapi2.connect
    assert sqlite3.connect.__name__ == "connect"


class Connection(sqlite3.Connection):
    """The application's own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.asked = 0

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        self.asked += 1
        return super().cursor(*args, **kwargs)


class Cursor(sqlite3.Cursor):
    """Takes format parameters, as Django's does."""

    def execute(self, query: str, params: Any = ()) -> Any:
        return super().execute(query.replace("%s", "?"), params)


@pytest.mark.filterwarnings("ignore:Passing more than 1 positional argument:DeprecationWarning")
@pytest.mark.parametrize("positional", [False, True])
def test_classes_of_the_application_keep_their_behaviour_and_are_traced(spans: Spans, positional: bool) -> None:
    if positional:
        connection = sqlite3.connect(":memory:", 5.0, 0, None, True, Connection, 64)
    else:
        connection = sqlite3.connect(":memory:", factory=Connection, isolation_level=None, cached_statements=64)
    assert isinstance(connection, Connection)
    assert type(connection).__name__ == "Connection"
    assert connection.isolation_level is None
    connection.cursor().execute("CREATE TABLE t (a)")
    asked = connection.asked
    assert asked >= 1
    cursor = connection.cursor(factory=Cursor)
    assert isinstance(cursor, Cursor)
    assert type(cursor).__name__ == "Cursor"
    assert type(cursor) is type(connection.cursor(Cursor))
    assert cursor.execute("SELECT a FROM t WHERE a = %s", (1,)).fetchall() == []
    assert spans.names() == ["CREATE TABLE t", "SELECT t"]
    connection.close()


def test_a_cursor_made_by_a_function_is_traced_where_its_type_allows(connection: Any, spans: Spans) -> None:
    cursor = connection.cursor(lambda owner: Cursor(owner))
    cursor.execute("SELECT a FROM t")
    assert isinstance(cursor, Cursor)
    connection.cursor(lambda owner: sqlite3.Cursor(owner)).execute("SELECT b FROM t")
    assert spans.names() == ["SELECT t"]


class Strict:
    def __init_subclass__(cls, *, needed: int = 0) -> None:
        if not needed:
            raise TypeError("no")


class Sealed(sqlite3.Cursor, Strict, needed=1):
    pass


def test_a_class_that_allows_no_subclass_works_untraced(connection: sqlite3.Connection, spans: Spans) -> None:
    assert connection.cursor(Sealed).execute("SELECT 1").fetchone() == (1,)
    assert type(connection.cursor(Sealed)) is Sealed
    assert spans.all() == []


def test_wrong_arguments_fail_as_before(connection: Any, spans: Spans) -> None:
    with pytest.raises(TypeError):
        connection.cursor(factory=None)
    with pytest.raises(TypeError):
        connection.cursor(int)
    with pytest.raises(TypeError):
        sqlite3.connect()  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        connection.execute()
    with pytest.raises(TypeError):
        connection.execute(5)


def test_what_else_a_connection_does_still_works(connection: sqlite3.Connection, spans: Spans) -> None:
    connection.row_factory = sqlite3.Row
    connection.text_factory = bytes
    connection.create_function("plus", 1, lambda value: value + 1)
    with connection:
        connection.execute("INSERT INTO t VALUES (1, 'x')")
    row = connection.execute("SELECT b, plus(a) AS c FROM t").fetchone()
    assert (row["b"], row["c"]) == (b"x", 2)
    connection.text_factory = str
    connection.row_factory = None
    other = sqlite3.connect(":memory:", check_same_thread=False)
    connection.backup(other)
    assert list(other.execute("SELECT a FROM t")) == [(1,)]
    assert any("CREATE TABLE t" in line for line in connection.iterdump())
    other.close()
    with pytest.raises(sqlite3.ProgrammingError):
        other.execute("SELECT 1")


def test_a_span_made_inside_a_function_of_the_application_is_a_child(connection: Any, spans: Spans) -> None:
    def inner(value: int) -> int:
        with spans.tracer.start_as_current_span("inner"):
            return value

    connection.create_function("plus", 1, inner)
    connection.execute("SELECT plus(1)").fetchone()
    assert spans.tree() == "CLIENT SELECT\n  INTERNAL inner"


@pytest.mark.parametrize(
    ("database", "name"),
    [
        (":memory:", ":memory:"),
        ("", None),
        ("/srv/alice/shop.db", "shop.db"),
        (b"shop.db", "shop.db"),
        (Path("/srv/shop.db"), "shop.db"),
        ("file:/srv/shop%20one.db?key=secret&mode=ro#x", "shop one.db"),
        ("file::memory:?cache=shared", ":memory:"),
    ],
)
def test_the_namespace_is_the_file_name_alone(database: Any, name: str | None) -> None:
    assert namespace(database) == name


def test_a_uri_is_opened_and_not_recorded(spans: Spans, tmp_path: Path) -> None:
    connection = sqlite3.connect(f"file:{tmp_path}/shop.db?mode=rwc", uri=True)
    connection.execute("SELECT 1")
    connection.close()
    assert spans.one(db__namespace="shop.db")
    assert str(tmp_path) not in spans.one().to_json()


def test_nothing_is_recorded_while_off_suppressed_or_unsampled(connection: Any, spans: Spans) -> None:
    SWITCH.recording = False
    connection.execute("SELECT 1")
    SWITCH.recording = True
    token = context_api.attach(context_api.set_value(context_api._SUPPRESS_INSTRUMENTATION_KEY, True))
    connection.execute("SELECT 1")
    context_api.detach(token)
    with TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False).get_tracer("x").start_as_current_span("x"):
        connection.execute("SELECT 1")
    assert spans.all() == []
    with spans.tracer.start_as_current_span("parent"):
        connection.execute("SELECT 1")
    assert spans.parent(spans.one("SELECT")) is spans.one("parent")


def test_undo_restores_the_function_and_silences_open_connections(spans: Spans) -> None:
    instrumentation = Sqlite3("0")
    before = sqlite3.connect
    instrumentation.apply()
    instrumentation.apply()
    connection = _connection()
    instrumentation.undo()
    assert sqlite3.connect is before
    spans.clear()
    cursor = connection.execute("SELECT a FROM t")
    connection.cursor().execute("SELECT a FROM t")
    assert cursor.fetchall() == []
    assert spans.all() == []
    instrumentation.apply()
    connection.execute("SELECT a FROM t")
    assert spans.names() == ["SELECT t"]
    instrumentation.undo()
    connection.close()


def test_sqlalchemy_works_on_it(spans: Spans) -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy")
    engine = sqlalchemy.create_engine("sqlite://")
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("CREATE TABLE t (a)"))
        connection.execute(sqlalchemy.text("INSERT INTO t VALUES (:a)"), [{"a": 1}, {"a": 2}])
        assert connection.execute(sqlalchemy.text("SELECT a FROM t WHERE a = :a"), {"a": 2}).all() == [(2,)]
    engine.dispose()
    assert [name for name in spans.names() if "PRAGMA" not in name] == ["CREATE TABLE t", "BATCH INSERT t", "SELECT t"]


async def _use_aiosqlite(aiosqlite: Any) -> list[Any]:
    async with aiosqlite.connect(":memory:") as connection:
        await connection.execute("CREATE TABLE t (a)")
        await connection.executemany("INSERT INTO t VALUES (?)", [(1,), (2,)])
        async with connection.execute("SELECT a FROM t") as cursor:
            return [row async for row in cursor]


def test_aiosqlite_works_on_it(spans: Spans) -> None:
    import asyncio

    aiosqlite = pytest.importorskip("aiosqlite")
    assert asyncio.run(_use_aiosqlite(aiosqlite)) == [(1,), (2,)]
    assert spans.names() == ["CREATE TABLE t", "BATCH INSERT t", "SELECT t"]


def test_the_tracer_is_the_one_of_the_module(connection: sqlite3.Connection, spans: Spans) -> None:
    connection.execute("SELECT 1")
    scope = spans.one().instrumentation_scope
    assert scope is not None
    assert scope.name == "otelagent_instrumentation.db.sqlite3"
    assert trace.get_current_span() is trace.INVALID_SPAN
