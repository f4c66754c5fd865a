"""uvicorn and gunicorn, workers and reloaders: each process is traced, and the last spans arrive at any end."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.harness import Application, Bench, servers
from tests.e2e.web import Client

pytestmark = pytest.mark.backends

# Each answer names the process; the pause keeps it from taking every request there is.
ASGI = """
import asyncio, os

async def app(scope, receive, send):
    if scope["type"] == "http":
        await asyncio.sleep(0.02)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
"""
WSGI = """
import os, time

def app(environ, start_response):
    time.sleep(0.02)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""

UVICORN = ("uvicorn", "server:app", "--lifespan", "off", "--port")
GUNICORN = ("gunicorn", "server:app", "--graceful-timeout", "5", "--bind")


def uvicorn(*options: str) -> Callable[[int], list[str]]:
    return lambda port: [*UVICORN, str(port), *options]


def gunicorn(*options: str) -> Callable[[int], list[str]]:
    return lambda port: [*GUNICORN, f"127.0.0.1:{port}", *options]


# What to start, on which application, and how many workers answer.
SERVERS: dict[str, tuple[Callable[[int], list[str]], str, int]] = {
    "uvicorn": (uvicorn(), ASGI, 1),
    "uvicorn --workers": (uvicorn("--workers", "2"), ASGI, 2),
    "uvicorn --reload": (uvicorn("--reload"), ASGI, 1),
    "gunicorn sync": (gunicorn("--workers", "2"), WSGI, 2),
    "gunicorn gthread": (gunicorn("--workers", "2", "--worker-class", "gthread", "--threads", "4"), WSGI, 2),
    "gunicorn preload": (gunicorn("--workers", "2", "--preload"), WSGI, 2),
    "gunicorn uvicorn": (gunicorn("--workers", "2", "--worker-class", "uvicorn_worker.UvicornWorker"), ASGI, 2),
}
# The signal, and whether the whole process group gets it, as from a terminal.
ENDINGS = {"SIGTERM": (signal.SIGTERM, False), "Ctrl-C": (signal.SIGINT, True)}
# This worker shuts its pool down in a signal's handler. A second signal, as the parent sends one when the terminal has
# sent one already, may find it there and hang it until gunicorn kills it, with and without otelagent. Here the parent
# alone is told.
HANGS_AT_TWO_SIGNALS = "gunicorn gthread"


def serve(bench: Bench, server: str, *, run: bool) -> tuple[Application, Client]:
    command, source, workers = SERVERS[server]
    bench.write("server.py", source)
    port = bench.port()
    application = bench.start(*command(port), run=run, books=run, port=port)
    client = Client(port)
    # Both workers have their handlers in place once both have answered.
    seen: set[str] = set()

    def all_answer() -> bool:
        seen.update(answer.text for answer in client.many(["/"] * (8 if workers > 1 else 1)))
        return len(seen) == workers

    application.wait(all_answer, f"answers of {workers} workers")
    return application, client


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("server", SERVERS)
def test_every_request_answered_has_its_span_and_the_exit_code_is_the_servers(
    server: str, ending: str, collected: Bench
) -> None:
    signum, group = ENDINGS[ending]
    group = group and server != HANGS_AT_TWO_SIGNALS
    plain, _ = serve(collected, server, run=False)
    code = plain.end(signum, group=group)

    traced, client = serve(collected, server, run=True)
    assert traced.end(signum, group=group) == code, traced.output
    found = servers(collected.settle(), client)
    # The process that answered is the one that the span names.
    assert {found[answer.trace_id].resource["process.pid"] for answer in client.answered} == {
        int(answer.text) for answer in client.answered
    }
    for answer in client.answered:
        assert found[answer.trace_id].resource["process.pid"] == int(answer.text)


def touch(path: Path) -> None:
    """Give the file a new time, whatever the resolution of the file system's clock."""
    later = path.stat().st_mtime + 2
    os.utime(path, (later, later))


def test_reloaded_child_of_uvicorn_is_traced_as_well(collected: Bench) -> None:
    application, client = serve(collected, "uvicorn --reload", run=True)
    first = client.answered[-1].text
    touched_s = -math.inf

    def other_answers() -> bool:
        # The reloader may begin to watch only after the child serves.
        nonlocal touched_s
        if time.monotonic() - touched_s > 3:
            touch(collected.directory / "server.py")
            touched_s = time.monotonic()
        try:
            return client.get("/").text != first
        except OSError:
            return False

    application.wait(other_answers, "the reloaded child")
    application.end(signal.SIGINT, group=True)
    found = servers(collected.settle(), client, broken=True)
    assert {str(span.resource["process.pid"]) for span in found.values()} == {
        first,
        client.answered[-1].text,
    }
