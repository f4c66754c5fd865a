"""The checks of the viewer, each with what makes it fail and the same after its advice was followed."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from otelagent.doctor.check import run
from otelagent.doctor.listeners import who_listens
from otelagent.doctor.receiving import CHECKS
from tests.doctor.harness import clean_environ, doctor
from tests.viewer.requests import Traces, logs
from tests.viewer.running import Viewer

PROGRAM = "import otelagent\nwith otelagent.span('work'): pass"


@pytest.fixture
def viewer() -> Iterator[Viewer]:
    with Viewer() as viewer:
        yield viewer


def found(viewer: Viewer, check: str) -> dict[str, Any]:
    """The finding of a check."""
    (one,) = [one for one in viewer.json("/api/checks")["checks"] if one["id"] == check]
    assert set(one) == {"id", "title", "status", "about", "detail", "advice"}
    return dict(one)


def traces(ahead_s: float = 0.0) -> bytes:
    request = Traces("shop")
    span = request.span("work")
    span.start_time_unix_nano = time.time_ns() + int(ahead_s * 1e9)
    span.end_time_unix_nano = span.start_time_unix_nano + 1000
    return request.body


def test_nothing_has_come_and_then_it_has(viewer: Viewer) -> None:
    nothing = found(viewer, "viewer_received")
    assert nothing["status"] == "warn"
    assert f"--endpoint={viewer.base} " in nothing["advice"]
    command = nothing["advice"].partition(": ")[2].split()
    words = [sys.executable if word == "python" else word for word in command if word != "app.py"]
    subprocess.run([*words, "-c", PROGRAM], env=clean_environ(), check=True, timeout=60, capture_output=True)
    for name in ("viewer_received", "viewer_path"):
        assert found(viewer, name)["status"] == "pass"


def test_a_wrong_path(viewer: Viewer) -> None:
    assert found(viewer, "viewer_path")["status"] == "skip"
    protobuf = {"Content_Type": "application/x-protobuf"}
    status, body = viewer.ask("/v1/traces/v1/traces", traces(), token=False, **protobuf)
    assert status == 404
    assert b"/v1/traces" in body
    doubled = found(viewer, "viewer_path")
    assert doubled["status"] == "fail"
    assert f"OTEL_EXPORTER_OTLP_ENDPOINT={viewer.base} without a path" in doubled["advice"]
    assert found(viewer, "viewer_received")["status"] == "fail"
    assert viewer.send("traces", traces())[0] == 200
    assert found(viewer, "viewer_received")["status"] == "pass"


def test_the_root_is_no_path(viewer: Viewer) -> None:
    assert viewer.ask("/", traces(), token=False, Content_Type="application/x-protobuf")[0] == 404
    assert f"{viewer.base}/v1/traces" in found(viewer, "viewer_path")["advice"]


def test_a_wrong_content_type(viewer: Viewer) -> None:
    assert found(viewer, "viewer_content_type")["status"] == "skip"
    assert viewer.send("traces", traces())[0] == 200
    assert found(viewer, "viewer_content_type")["status"] == "pass"
    assert viewer.send("traces", traces(), Content_Type="text/plain")[0] == 415
    assert found(viewer, "viewer_content_type")["status"] == "fail"
    assert viewer.send("traces", traces())[0] == 200


@pytest.mark.parametrize(
    ("body", "headers", "said"),
    [
        (b"\xff\xff", {}, "no OTLP request"),
        (b"x", {"Content_Encoding": "br"}, "Content-Encoding"),
        (b"x", {"Host": "shop.example"}, "Host header"),
    ],
    ids=["malformed", "encoding", "host"],
)
def test_what_was_turned_away_is_told(viewer: Viewer, body: bytes, headers: dict[str, str], said: str) -> None:
    assert found(viewer, "viewer_refused")["status"] == "skip"
    assert viewer.send("traces", traces())[0] == 200
    assert found(viewer, "viewer_refused")["status"] == "pass"
    assert viewer.send("traces", body, **headers)[0] >= 400
    refused = found(viewer, "viewer_refused")
    assert refused["status"] == "fail"
    assert said in refused["detail"]
    assert viewer.send("traces", traces())[0] == 200


@pytest.mark.parametrize(
    ("scheme", "protocol", "said"),
    [
        ("http", "grpc", "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"),
        ("https", "http/protobuf", "http://, not https://"),
    ],
)
def test_another_protocol_on_the_port_of_http(viewer: Viewer, scheme: str, protocol: str, said: str) -> None:
    endpoint = viewer.base.replace("http", scheme, 1)
    options = ("--no-spool", "--exit-timeout-ms=1000")
    command = ("otelagent-run", f"--endpoint={endpoint}", f"--protocol={protocol}", *options, "python", "-c", PROGRAM)
    subprocess.run(command, env=clean_environ(), check=True, timeout=60, capture_output=True)
    refused = found(viewer, "viewer_refused")
    assert refused["status"] == "fail"
    assert said in refused["advice"]
    assert doctor(f"--endpoint={viewer.base}").status("span") == "pass"
    assert found(viewer, "viewer_received")["status"] == "pass"


def test_spans_from_the_future(viewer: Viewer) -> None:
    assert found(viewer, "viewer_clock")["status"] == "skip"
    assert viewer.send("traces", traces(3600))[0] == 200
    future = found(viewer, "viewer_clock")
    assert future["status"] == "fail"
    assert "shop" in future["detail"]
    assert viewer.send("traces", traces())[0] == 200
    assert found(viewer, "viewer_clock")["status"] == "pass"


def test_the_standard_port_is_another_programs(viewer: Viewer) -> None:
    port = found(viewer, "viewer_port")
    assert port["status"] == "warn"
    assert f"OTEL_EXPORTER_OTLP_ENDPOINT={viewer.base}" in port["advice"]
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        assert f"(process {os.getpid()})" in who_listens(other.getsockname()[1])
        port_number = other.getsockname()[1]
    assert not who_listens(port_number)


def test_a_viewer_without_grpc(viewer: Viewer, tmp_path: Path) -> None:
    (tmp_path / "grpc.py").write_text("raise ImportError('it is not installed')")
    command = [sys.executable, "-m", "otelagent.cli.main", "ui", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=clean_environ(PYTHONPATH=str(tmp_path)))
    try:
        assert process.stdout is not None
        address = re.search(r"(http://127\.0\.0\.1:\d+)/\?token=(\S+)", process.stdout.readline())
        assert address is not None
        headers = {"Authorization": f"Bearer {address[2]}"}
        with urllib.request.urlopen(urllib.request.Request(f"{address[1]}/api/checks", headers=headers)) as answer:
            (grpc,) = [one for one in json.load(answer)["checks"] if one["id"] == "viewer_grpc"]
    finally:
        process.terminate()
        process.communicate(timeout=20)
    assert grpc["status"] == "warn"
    assert "pip install grpcio" in grpc["advice"]
    # Where it is installed, gRPC is taken; here on any port, which is told too.
    assert viewer.grpc.rpartition(":")[2] in found(viewer, "viewer_grpc")["detail"]


def test_on_the_standard_ports_nothing_is_to_be_set() -> None:
    usual = SimpleNamespace(http="http://127.0.0.1:4318", http_port=4318, grpc_port=4317, others={})
    ports = [check for check in CHECKS if check.id in ("viewer_port", "viewer_grpc")]
    assert [result.status for result in run(ports, usual)] == ["pass", "pass"]


def test_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "store" / "traces.db"
    path.parent.mkdir()
    with Viewer("--store", str(path)) as viewer:
        assert found(viewer, "viewer_store")["status"] == "pass"
        kept = path.rename(path.with_suffix(".away"))
        gone = found(viewer, "viewer_store")
        assert gone["status"] == "fail"
        assert str(path) in gone["detail"]
        kept.rename(path)
        assert found(viewer, "viewer_store")["status"] == "pass"


def test_log_records_of_traces_that_were_sampled_out() -> None:
    from otelagent.viewer.ingest import decode
    from otelagent.viewer.store.absent import logs_without_spans
    from otelagent.viewer.store.store import Store

    store = Store()
    try:
        request = Traces("shop")
        span = request.span("work")
        soon = int(time.time()) + 60

        def put(signal_name: str, body: bytes) -> None:
            written = store.put(decode(signal_name, body, json=False))
            assert written is not None
            written.result(20)

        put("logs", logs("hello", trace=span.trace_id))
        assert store.read(logs_without_spans, before_s=soon) == {"shop": 1}
        assert store.read(logs_without_spans, before_s=0) == {}
        put("traces", request.body)
        assert store.read(logs_without_spans, before_s=soon) == {}
    finally:
        store.close()
    (sampled,) = [check for check in CHECKS if check.id == "viewer_sampled"]

    for lacking, status in (({"shop": 1}, "warn"), ({}, "pass")):
        assert [result.status for result in run([sampled], SimpleNamespace(without_spans=lacking))] == [status]
