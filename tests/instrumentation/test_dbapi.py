from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest

from otelagent.patching import Call, Instrumentation
from otelagent.patching.wrap import wrap
from otelagent.protocols.dbapi import Driver, FactoryArgument
from otelagent.semconv.db import Peer
from tests.instrumentation.capture import Spans
from tests.support import wait_until


class FakeCursor:
    """A cursor by PEP 249 with what drivers add to it."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.rows = [(1,), (2,)]

    def execute(self, query: Any, args: Any = None) -> FakeCursor:
        if args == "fail":
            raise ValueError("no")
        return self

    def executemany(self, query: Any, args: Any) -> int:
        for one in args:
            self.execute(query, one)
        return len(list(args))

    def callproc(self, procname: str, args: Any = ()) -> Any:
        self.execute(f"CALL {procname}()")
        return args

    def __iter__(self) -> Any:
        return iter(self.rows)


class FakeConnection:
    def __init__(self, dsn: str = "", *, host: str = "db.example") -> None:
        self.host = host

    def cursor(self, name: str | None = None, cursor_factory: Any = None) -> Any:
        return (cursor_factory or FakeCursor)(self)

    def __enter__(self) -> FakeConnection:
        return self

    def __exit__(self, *exc: object) -> None:
        pass


def _peer(connection: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Peer:
    return Peer("postgresql", "shop", connection.host, 6432)


class Fake(Instrumentation):
    name = "fake"
    layer = "db"


@pytest.fixture
def driver(spans: Spans) -> Driver:
    instrumentation = Fake("0")
    instrumentation.apply()
    return Driver(
        instrumentation,
        "postgresql",
        connection=FakeConnection,
        cursor=FakeCursor,
        peer=_peer,
        cursor_factory=FactoryArgument(1, "cursor_factory", none_is_default=True),
        text=lambda cursor, query: getattr(query, "composed", None),
    )


def _connect(dsn: str = "", connection_factory: Any = None, **kwargs: Any) -> Any:
    return (connection_factory or FakeConnection)(dsn, **kwargs)


def test_a_driver_with_factories_gives_traced_subclasses(driver: Driver, spans: Spans) -> None:
    connect = driver.connect(_connect, FactoryArgument(1, "connection_factory", none_is_default=True))
    given: list[tuple[Any, ...]] = [("x",), ("x", None), ("x", FakeConnection)]
    for connection in (*(connect(*args) for args in given), connect(connection_factory=None)):
        assert isinstance(connection, FakeConnection)
        spans.clear()
        connection.cursor().execute("SELECT 1 FROM t")
        connection.cursor("named", None).execute(query="SELECT 1 FROM t", args=(1,))
        connection.cursor(cursor_factory=FakeCursor).execute("SELECT 1 FROM t")
        assert spans.names() == ["SELECT t"] * 3
        assert len(spans.all(server__address="db.example", server__port=6432, db__namespace="shop")) == 3


def test_a_method_that_uses_another_is_one_span(driver: Driver, spans: Spans) -> None:
    cursor = driver.traced_connection().cursor()
    assert cursor.executemany("INSERT INTO t VALUES (%s)", [(1,), (2,)]) == 2
    assert cursor.callproc("do_it", (1,)) == (1,)
    assert spans.names() == ["BATCH INSERT t", "CALL do_it"]
    assert spans.one("CALL do_it").attributes["db.stored_procedure.name"] == "do_it"  # type: ignore[index]


class Composed:
    composed = "SELECT a FROM t WHERE b = 'x'"


def test_queries_that_are_no_strings(driver: Driver, spans: Spans) -> None:
    cursor = driver.traced_connection().cursor()
    cursor.execute(b"SELECT a FROM t")
    cursor.execute(Composed())
    cursor.execute(object())
    cursor.execute(args="SELECT secret FROM secret", query=None)
    assert spans.names() == ["SELECT t", "SELECT t", "shop", "shop"]


def test_a_hook_on_an_async_cursor_uses_the_same_description(driver: Driver, spans: Spans) -> None:
    class AsyncCursor:
        def __init__(self, connection: Any) -> None:
            self.connection = connection

        async def execute(self, query: str) -> str:
            await asyncio.sleep(0)
            if query == "":
                raise ValueError("no")
            return "done"

    instrumentation = Fake("0")
    instrumentation.apply()
    site = instrumentation.site(lambda call: driver.describe("execute", call), "AsyncCursor.execute")
    execute = wrap(AsyncCursor.execute, site, method=True)
    cursor = AsyncCursor(driver.traced_connection())
    assert asyncio.run(execute(cursor, "SELECT a FROM t")) == "done"
    with pytest.raises(ValueError, match="no"):
        asyncio.run(execute(cursor, ""))
    assert spans.tree() == "CLIENT SELECT t\nCLIENT shop ! ValueError"


def test_a_driver_without_subclassable_types_gets_a_proxy(driver: Driver, spans: Spans) -> None:
    raw = FakeConnection()
    with driver.trace_connection(raw, "x") as connection:
        assert isinstance(connection, FakeConnection)
        cursor = connection.cursor()
        assert isinstance(cursor, FakeCursor)
        assert cursor.connection is connection
        assert cursor.execute("SELECT a FROM t") is cursor
        assert list(cursor) == [(1,), (2,)]
        assert cursor.executemany("INSERT INTO t VALUES (%s)", [(1,)]) == 1
        assert not hasattr(cursor, "executescript")
        with pytest.raises(ValueError, match="no"):
            cursor.execute("SELECT a FROM t", "fail")
    assert spans.tree() == "CLIENT SELECT t\nCLIENT INSERT t\nCLIENT SELECT t ! ValueError"
    assert len(spans.all(db__namespace="shop")) == 3


def test_a_class_of_the_application_is_not_kept_alive(driver: Driver) -> None:
    def use() -> weakref.ref[type]:
        class Own(FakeCursor):
            pass

        driver.traced_connection().cursor(cursor_factory=Own).execute("SELECT 1")
        return weakref.ref(Own)

    seen = use()
    # The traced subclass goes first, which is what the class is remembered by; none goes while another thread collects.
    wait_until(lambda: gc.collect() >= 0 and seen() is None)


def test_a_traced_class_is_not_traced_twice(driver: Driver) -> None:
    class Own(FakeCursor):
        pass

    traced = driver.cursor_class(Own)
    assert driver.cursor_class(Own) is traced
    assert driver.cursor_class(traced) is traced
    assert driver.cursor_class(driver.traced_cursor) is driver.traced_cursor
    assert driver.connection_class(driver.traced_connection) is driver.traced_connection
    assert driver.connection_class(int) is int


def test_a_connection_whose_peer_is_unknown_is_traced(spans: Spans) -> None:
    def peer(*_: Any) -> Peer:
        raise ValueError("unknown")

    instrumentation = Fake("0")
    instrumentation.apply()
    driver = Driver(
        instrumentation,
        "postgresql",
        connection=FakeConnection,
        cursor=FakeCursor,
        peer=peer,
        cursor_factory=FactoryArgument(1, "cursor_factory", none_is_default=True),
    )
    driver.traced_connection().cursor().execute("VACUUM")
    assert dict(spans.one().attributes or {}) == {
        "db.system.name": "postgresql",
        "db.query.text": "VACUUM",
        "db.query.summary": "VACUUM",
        "db.operation.name": "VACUUM",
    }
    assert driver.describe("execute", Call(driver.traced_connection().cursor(), (), {})).name == "postgresql"
