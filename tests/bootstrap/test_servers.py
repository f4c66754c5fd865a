"""uvicorn and gunicorn under `otelagent-run`: every process of theirs delivers, and ends as it would have."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from tests.bootstrap.workbench import START_LINE, Outcome, Workbench
from tests.support import free_port

ASGI = """
async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})
"""
WSGI = """
def app(environ, start_response):
    start_response("200 OK", [])
    return [b"ok"]
"""

UVICORN = [sys.executable, "-m", "uvicorn", "server:app", "--log-level", "warning", "--lifespan", "off", "--port"]
GUNICORN = [sys.executable, "-m", "gunicorn", "server:app", "--log-level", "warning", "--bind"]

# What to start, on which application, how many processes have an agent once it serves.
SERVERS: dict[str, tuple[Callable[[int], list[str]], str, int]] = {
    "uvicorn": (lambda port: [*UVICORN, str(port)], ASGI, 1),
    "uvicorn --workers": (lambda port: [*UVICORN, str(port), "--workers", "2"], ASGI, 3),
    "uvicorn --reload": (lambda port: [*UVICORN, str(port), "--reload"], ASGI, 2),
    "gunicorn sync": (lambda port: [*GUNICORN, f"127.0.0.1:{port}", "--workers", "2"], WSGI, 3),
    "gunicorn gthread": (lambda port: [*GUNICORN, f"127.0.0.1:{port}", "--threads", "2"], WSGI, 2),
    "gunicorn --preload": (lambda port: [*GUNICORN, f"127.0.0.1:{port}", "--preload"], WSGI, 2),
    "gunicorn gevent": (lambda port: [*GUNICORN, f"127.0.0.1:{port}", "--worker-class", "gevent"], WSGI, 2),
    "gunicorn uvicorn": (
        lambda port: [*GUNICORN, f"127.0.0.1:{port}", "--worker-class", "uvicorn.workers.UvicornWorker"],
        ASGI,
        2,
    ),
}
ENDINGS = {
    "SIGTERM": (os.kill, signal.SIGTERM),
    "SIGTERM to the group": (os.killpg, signal.SIGTERM),
    "Ctrl-C": (os.killpg, signal.SIGINT),
}


def serve(bench: Workbench, server: str, ending: str, traced: bool) -> Outcome:
    command, application, processes = SERVERS[server]
    bench.write("server.py", application)
    port = free_port()
    process = bench.start(*command(port), options=[] if traced else None)
    _await(process, lambda: _answers(port))
    if traced:
        _await(process, lambda: len(bench.journal) >= processes)
    else:
        time.sleep(0.5)
    time.sleep(0.3)  # a worker that has been started may not have set its handlers yet
    kill, sent = ENDINGS[ending]
    kill(process.pid, sent)
    return bench.end(process)


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return connection.recv(100).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def _await(process: subprocess.Popen[str], happens: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not happens():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the server does not answer"
        time.sleep(0.02)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("server", SERVERS)
def test_every_process_of_a_server_delivers(bench: Workbench, server: str, ending: str) -> None:
    pytest.importorskip(server.split()[0])
    if server == "gunicorn gevent":
        pytest.importorskip("gevent")
    if server == "gunicorn uvicorn":
        pytest.importorskip("uvicorn.workers")
    if (server, ending) == ("gunicorn gthread", "Ctrl-C"):
        pytest.skip("one in ten of these hangs in gunicorn, without otelagent too")
    plain = serve(bench, server, ending, traced=False)
    traced = serve(bench, server, ending, traced=True)
    assert traced.returncode == plain.returncode
    assert traced.own_lines == [START_LINE]
    assert len(traced.journal) == SERVERS[server][2]
    assert traced.lost() == {}


def test_a_reloaded_application_delivers_and_is_traced_again(bench: Workbench) -> None:
    pytest.importorskip("uvicorn")
    source = bench.write("server.py", ASGI)
    port = free_port()
    process = bench.start(*UVICORN, str(port), "--reload")
    _await(process, lambda: _answers(port))
    time.sleep(1)  # the modification time must differ
    source.write_text(ASGI + "# changed\n")
    _await(process, lambda: len(bench.journal) == 3)
    _await(process, lambda: _answers(port))
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGINT)
    outcome = bench.end(process)
    assert outcome.own_lines == [START_LINE]
    assert outcome.lost() == {}
