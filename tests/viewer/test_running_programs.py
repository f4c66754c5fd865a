"""Spans that are open in a real process: seen while they are, whole when they have ended, lost when it was killed."""

from __future__ import annotations

import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otelagent.viewer.process import Running, find_or_start, stop
from tests.support import wait_until
from tests.viewer.programs import RUN, ask, environment, program, start

PROGRAM = """
    import sys, otelagent
    with otelagent.span("order", {"order.id": "A-1"}) as order:
        with otelagent.span("reserve"):
            pass
        with otelagent.span("pay"):
            order.set_attribute("order.state", "paying")
            sys.stdin.readline()
    otelagent.shutdown(30)
    print(__import__("json").dumps(otelagent.status()["ledger"]["traces"]))
"""


pytestmark = pytest.mark.usefixtures("engine")


@pytest.fixture
def viewer() -> Iterator[Running]:
    yield find_or_start(0)
    stop()


def traces(viewer: Running) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ask(viewer, "/api/traces")["traces"]
    return found


def running(viewer: Running, spans: int) -> dict[str, Any] | None:
    """The trace in which so many run."""
    return next((one for one in traces(viewer) if one["running"] == spans), None)


def spans(viewer: Running, trace: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By name."""
    ids = ask(viewer, f"/api/traces/{trace['id']}")["spans"]["id"]
    details = [ask(viewer, f"/api/traces/{trace['id']}/spans/{one}") for one in ids]
    return {one["name"]: one for one in details}


def test_a_span_is_seen_while_it_is_open(tmp_path: Path, viewer: Running) -> None:
    process = start(*RUN, *program(tmp_path, PROGRAM))
    trace = wait_until(lambda: running(viewer, 2))
    assert trace["name"] == "order"
    seen = wait_until(lambda: now if len(now := spans(viewer, trace)) == 3 else None)
    assert {name: one["state"] for name, one in seen.items()} == {
        "order": "running",
        "reserve": "ended",
        "pay": "running",
    }
    assert seen["order"]["attributes"] == {"order.id": "A-1", "order.state": "paying"}
    assert seen["pay"]["parent"] == seen["order"]["id"]

    out, err = process.communicate("\n", timeout=60)
    assert process.returncode == 0, err
    ledger = json.loads(out)
    # What was told meanwhile is no item of the books.
    assert ledger["balanced"]
    assert ledger["ended"] == ledger["delivered"] == 3
    (trace,) = traces(viewer)
    assert (trace["spans"], trace["running"], trace["lost"]) == (3, 0, 0)
    ended = spans(viewer, trace)
    assert {one["state"] for one in ended.values()} == {"ended"}
    assert trace["duration"] == ended["order"]["duration"] > ended["pay"]["duration"] >= 500_000_000
    assert ended["order"]["id"] == seen["order"]["id"]
    assert ended["order"]["start"] == seen["order"]["start"]


def test_with_its_process_it_is_lost(tmp_path: Path) -> None:
    options = json.dumps({"port": 0, "lost_after_s": 7.0})
    starting = subprocess.Popen(
        [sys.executable, "-m", "otelagent.viewer", options], stdout=subprocess.PIPE, env=environment()
    )
    try:
        starting.communicate(timeout=60)
        viewer = find_or_start(0)
        assert not viewer.started_here
        process = start(*RUN, *program(tmp_path, PROGRAM))
        trace = wait_until(lambda: running(viewer, 2))
        assert traces(viewer)[0]["duration"] >= 500_000_000  # Sooner it isn't told of.
        process.kill()
        process.communicate(timeout=60)
        wait_until(lambda: traces(viewer)[0]["lost"] == 2)
        assert ask(viewer, f"/api/traces/{trace['id']}")["duration"] >= 500_000_000
        (found,) = ask(viewer, "/api/traces?min_ms=500")["traces"]
        assert found == traces(viewer)[0]
        assert ask(viewer, f"/api/traces/{trace['id']}")["states"] == {"0": "lost", "2": "lost"}
    finally:
        stop()


def test_a_child_tells_of_its_own(tmp_path: Path, viewer: Running) -> None:
    forks = """
        import os, sys, otelagent
        with otelagent.span("parent"):
            if not (child := os.fork()):
                with otelagent.span("child"):
                    sys.stdin.readline()
                otelagent.shutdown(30)
                os._exit(0)
            os.waitpid(child, 0)
            sys.stdin.readline()
        otelagent.shutdown(30)
    """
    process = start(*RUN, *program(tmp_path, forks))
    trace = wait_until(lambda: running(viewer, 2))
    seen = spans(viewer, trace)
    assert seen["child"]["parent"] == seen["parent"]["id"]
    pids = {name: one["resource"]["attributes"]["process.pid"] for name, one in seen.items()}
    assert pids["parent"] != pids["child"]
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    wait_until(lambda: running(viewer, 1))
    assert {name: one["state"] for name, one in spans(viewer, trace).items()} == {"parent": "running", "child": "ended"}
    _, err = process.communicate("\n", timeout=60)
    assert process.returncode == 0, err
    (trace,) = traces(viewer)
    assert (trace["spans"], trace["running"]) == (2, 0)


def test_under_gevent_nothing_waits_for_it(tmp_path: Path, viewer: Running) -> None:
    pytest.importorskip("gevent")
    green = """
        from gevent import monkey; monkey.patch_all()
        import gevent, otelagent
        from gevent.fileobject import FileObject
        ticks = []
        def tick():
            while True:
                ticks.append(1)
                gevent.sleep(0.01)
        gevent.spawn(tick)
        with otelagent.span("green"):
            FileObject(0, "r", close=False).readline()
        otelagent.shutdown(30)
        print(len(ticks))
    """
    process = start(*RUN, *program(tmp_path, green))
    wait_until(lambda: running(viewer, 1))
    out, err = process.communicate("\n", timeout=60)
    assert process.returncode == 0, err
    assert int(out) > 10
    assert traces(viewer)[0]["running"] == 0


def test_a_collector_is_asked_and_told_nothing(tmp_path: Path) -> None:
    asked: list[str] = []
    ends: list[int] = []

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(405)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                ends.extend(span.end_time_unix_nano for scope in resource.scope_spans for span in scope.spans)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            run = [sys.executable, "-m", "otelagent.cli.run", "--running-spans"]
            process = start(*run, f"--endpoint=http://127.0.0.1:{server.server_port}", *program(tmp_path, PROGRAM))
            wait_until(lambda: asked)
            _, err = process.communicate("\n", timeout=60)
            assert process.returncode == 0, err
        finally:
            server.shutdown()
            serving.join()
    assert asked == ["/v1/traces"]
    assert len(ends) == 3
    assert all(ends)
