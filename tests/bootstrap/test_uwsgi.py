"""uWSGI forks past Python, and its master runs no hook at its end: workers start over all the same, and deliver."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.support import ENGINE, free_port, wait_until

pytest.importorskip("pyuwsgi")

APPLICATION = """
import os, time
from opentelemetry import trace
{setup}
tracer = trace.get_tracer("test")
tracer.start_span("import").end()

def application(environ, start_response):
    tracer.start_span("request").end()
    time.sleep(0.01)  # other threads run then, also without --enable-threads
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
NOTICE = "without --enable-threads"
INIT = "import otelagent; otelagent.init(quiet=True)"
HOOKED = """
import uwsgi
def told(): open("told", "a").write(f"{os.getpid()}\\n")
uwsgi.post_fork_hook = told
"""


def answered(port: int) -> str:
    with urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
        body: bytes = answer.read()
    return body.decode()


def idle(stats: int) -> int:
    """How many workers have no request."""
    with socket.create_connection(("127.0.0.1", stats), timeout=10) as connection:
        told = json.loads(b"".join(iter(lambda: connection.recv(65536), b"")))
    return [worker["status"] for worker in told["workers"]].count("idle")


@pytest.mark.parametrize(
    ("launcher", "options", "setup"),
    [
        (["-m", "otelagent.cli.run"], ["--enable-threads"], HOOKED),
        (["-m", "otelagent.cli.run"], ["--enable-threads", "--lazy-apps"], ""),
        (["-m", "otelagent.cli.run"], [], ""),
        (["-m", "otelagent.cli.run"], ["--enable-threads", "--py-call-osafterfork"], ""),
        (["-m", "otelagent.cli.run"], ["--enable-threads", "--py-call-uwsgi-fork-hooks"], ""),
        ([], ["--enable-threads"], INIT),
    ],
    ids=["threads", "lazy", "no threads", "osafterfork", "fork hooks", "init"],
)
def test_workers_start_over_and_deliver(
    launcher: Sequence[str], options: Sequence[str], setup: str, tmp_path: Path
) -> None:
    (tmp_path / "application.py").write_text(APPLICATION.format(setup=setup))
    port = free_port()
    command = [str(Path(sys.executable).with_name("uwsgi")), "--http-socket", f"127.0.0.1:{port}", "--master"]
    command += ["--processes", "2", "--wsgi-file", "application.py", "--master-fifo", "fifo", *options]
    command += ["--stats", f"127.0.0.1:{(stats := free_port())}", "--die-on-term"]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL", "PYTHON"))}
    spans = tmp_path / "spans.jsonl"
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, *launcher, *command],
            cwd=tmp_path,
            env={**inherited, **ENGINE, "OTELAGENT_EXPORTER": "file", "OTELAGENT_FILE": str(spans)},
            stdout=log,
            stderr=log,
        )
    try:
        answers: Counter[str] = Counter()

        def both_answer() -> bool:
            assert process.poll() is None, (tmp_path / "log").read_text()
            try:
                answers[answered(port)] += 1
            except OSError:
                return False
            told_of_threads = bool(options) or NOTICE in (tmp_path / "log").read_text()
            return len(answers) == 2 and told_of_threads

        wait_until(both_answer)
        wait_until(lambda: idle(stats) == 2)  # else uWSGI ends them past every hook
        (tmp_path / "fifo").write_text("q")  # workers end what they are at, and then themselves
        process.wait(30)
    finally:
        process.kill()
        process.wait()
    found = [
        (resource["resource"]["attributes"], span)
        for line in spans.read_text().splitlines()
        for resource in json.loads(line)["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]
    identities = set()
    names: Counter[tuple[str, str]] = Counter()
    for attributes, span in found:
        values = {one["key"]: next(iter(one["value"].values())) for one in attributes}
        names[span["name"], str(values["process.pid"])] += 1
        if span["name"] == "request":
            identities.add(values["service.instance.id"])
    assert {pid: count for (name, pid), count in names.items() if name == "request"} == dict(answers)
    assert len(identities) == 2
    assert len({span["spanId"] for _, span in found}) == len(found)
    loaded = {pid for name, pid in names if name == "import"}
    assert loaded == (set(answers) if "--lazy-apps" in options else {str(process.pid)})
    told = (tmp_path / "told").read_text().split() if setup == HOOKED else list(answers)
    assert set(told) == set(answers)
    assert (NOTICE in (tmp_path / "log").read_text()) == (not options)


def test_no_thread_of_ours_runs_where_uwsgi_forks(tmp_path: Path) -> None:
    """One that waits for the interpreter's lock at the fork would stop the worker for ever."""
    (tmp_path / "application.py").write_text(
        "import os, threading\n"
        "open('threads', 'w').write(','.join(thread.name for thread in threading.enumerate()))\n"
        "def application(environ, start): start('200 OK', []); return [b'hello']\n"
    )
    (tmp_path / "spool").mkdir()  # what may be there is looked at from the start on
    port = free_port()
    command = ["pyuwsgi", "--master", "--workers=1", "--wsgi-file=application.py", "--die-on-term"]
    settings = {"OTELAGENT_ENDPOINT": f"http://127.0.0.1:{free_port()}", "OTELAGENT_SPOOL_DIRECTORY": "spool"}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL", "PYTHON"))}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "otelagent.cli.run"),
                str(Path(sys.executable).with_name(command[0])),
                *(*command[1:], f"--http-socket=127.0.0.1:{port}"),
            ],
            cwd=tmp_path,
            env={**inherited, **ENGINE, **settings},
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(lambda: answers(port))
    finally:
        process.terminate()
        process.wait(30)
    assert "otelagent" not in (tmp_path / "threads").read_text()


def answers(port: int) -> bool:
    try:
        return answered(port) == "hello"
    except OSError:
        return False
