"""What belongs to a test: with threads, event loops, TestCases, and applications of other scopes."""

from __future__ import annotations

from tests.testing.running import Run

pytest_plugins = ["pytester"]


def test_what_earlier_tests_have_left_running_stays_theirs(run: Run) -> None:
    run.passes(
        '''
import threading

import pytest
import otelagent
from opentelemetry import context

otelagent.init()
go, done = threading.Event(), threading.Event()


def leftover(at):
    """Goes on under a span of the test that started it."""
    context.attach(at)
    with otelagent.span("begun before"):
        go.wait(30)
        with otelagent.span("begun in the second test"):
            pass
    done.set()


@pytest.fixture(scope="module")
def session():
    with otelagent.span("session") as span:
        yield span


def test_first(otelagent_spans, session):
    with otelagent.span("first"):
        threading.Thread(target=leftover, args=(context.get_current(),), daemon=True).start()
    assert [span.name for span in otelagent_spans] == ["first"]


def test_second(otelagent_spans, session):
    with otelagent.span("second"):
        go.set()
        assert done.wait(30)
    # Its parent was begun before any test and hasn't ended.
    assert otelagent_spans.tree() == "INTERNAL second"
    assert otelagent_spans.one("second").parent_id == f"{session.get_span_context().span_id:016x}"


def test_leaves_a_span_current():
    otelagent.span("never closed").__enter__()


def test_third(otelagent_spans):
    with otelagent.span("third"):
        pass
    assert otelagent_spans.tree() == "INTERNAL third"
'''
    ).assert_outcomes(passed=4)


def test_background_work_is_waited_for(run: Run) -> None:
    run.passes(
        """
import asyncio
import threading
import time

import pytest
import otelagent


def test_a_thread(otelagent_spans):
    go = threading.Event()

    def work():
        go.wait(30)
        with otelagent.span("later", {"n": 3}):
            pass

    thread = threading.Thread(target=work)
    thread.start()
    with pytest.raises(AssertionError, match="no span with name 'later'"):
        otelagent_spans.wait_for(lambda spans: spans.one("later"), timeout_s=0.05)
    go.set()
    assert otelagent_spans.wait_for(lambda spans: spans.one("later")).attributes == {"n": 3}
    assert otelagent_spans.wait_for(1) is otelagent_spans
    thread.join()
    otelagent_spans.clear()
    with pytest.raises(AssertionError, match="1 spans did not come within 0 s\\\\n0 spans"):
        otelagent_spans.wait_for(1, timeout_s=0)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_task_with_anyio(otelagent_spans, anyio_backend):
    go = asyncio.Event()

    async def work():
        await go.wait()
        with otelagent.span("in a task"):
            pass

    task = asyncio.create_task(work())
    with pytest.raises(AssertionError, match="asyncio.to_thread"):
        otelagent_spans.wait_for(1, timeout_s=0)
    waiting = asyncio.create_task(asyncio.to_thread(otelagent_spans.wait_for, 1))
    go.set()
    await waiting
    await task
    assert otelagent_spans.tree() == "INTERNAL in a task"


@pytest.mark.asyncio
async def test_tasks_with_pytest_asyncio(otelagent_spans):
    async def work(number):
        with otelagent.span(f"task {number}"):
            await asyncio.sleep(0)

    with otelagent.span("all"):
        await asyncio.gather(*(work(number) for number in (3, 1, 2)))
    lines = otelagent_spans.tree().splitlines()
    assert lines == ["INTERNAL all", "  INTERNAL task 1", "  INTERNAL task 2", "  INTERNAL task 3"]
""",
        "-o",
        "asyncio_default_fixture_loop_scope=function",
        plugins=("otelagent", "anyio", "asyncio"),
    ).assert_outcomes(passed=3)


def test_with_a_server_of_the_whole_session_and_every_installed_plugin(run: Run) -> None:
    run.passes(
        '''
import sqlite3
import threading

import httpx
import pytest
import uvicorn
from fastapi import FastAPI


@pytest.fixture(scope="session")
def address():
    app = FastAPI()

    @app.get("/items/{item}")
    def item(item: int):
        connection = sqlite3.connect(":memory:")
        connection.execute("SELECT 1").fetchall()
        connection.close()
        return {"item": item}

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.mark.parametrize("item", [1, 2])
def test_a_call_and_its_answer(otelagent_spans, address, item):
    with httpx.Client() as client:
        assert client.get(f"{address}/items/{item}").json() == {"item": item}
    server = otelagent_spans.wait_for(lambda spans: spans.one(kind="SERVER"))
    assert server.attributes["url.path"] == f"/items/{item}"
    assert otelagent_spans.tree(attributes=["http.response.status_code"]) == """\\
CLIENT GET http.response.status_code=200
  SERVER GET /items/{item} http.response.status_code=200
    CLIENT SELECT"""
''',
        "-o",
        "asyncio_default_fixture_loop_scope=function",
        plugins=(),
        PYTEST_DISABLE_PLUGIN_AUTOLOAD="",
    )


def test_between_tests_that_ask_nothing_is_kept(run: Run) -> None:
    run.passes(
        """
import logging

import otelagent
from opentelemetry.sdk._logs import LoggerProvider
from otelagent.testing.sources import SOURCES
from otelagent.testing.windows import TAP


def record():
    with otelagent.span("span"):
        logging.getLogger("app").warning("text")
    otelagent.flush()


def kept():
    return len(SOURCES._requests) + len(SOURCES.emitted) + len(TAP._windows) + len(TAP._open)


def test_asks(otelagent_spans):
    record()
    assert (len(otelagent_spans), len(otelagent_spans.logs)) == (1, 1)


def test_does_not_ask():
    before = kept()
    for _ in range(10):
        record()
    other = LoggerProvider()
    SOURCES.listen_to_logs(other)
    other.get_logger("app").emit(body="text")
    assert kept() == before


def test_asks_again(otelagent_spans):
    record()
    assert (len(otelagent_spans), len(otelagent_spans.logs)) == (1, 1)
"""
    )
