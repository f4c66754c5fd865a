"""What listens there is something else than an OTLP receiver, and the same with one."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from otelagent.doctor.listeners import who_listens
from otelagent.doctor.receiver import CHECKS
from tests.delivery.harness import FaultServer
from tests.doctor.harness import TAKES, Report, doctor
from tests.support import free_port, wait_until
from tests.viewer.running import Viewer

PROTOCOLS = pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
UNTOLD = ("protocol", "path", "credentials", "clock", "metric")


@contextmanager
def running(*command: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A program, from when it takes connections."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: who_listens(port), 60)
            yield process
        finally:
            process.kill()


def assert_no_receiver(report: Report) -> None:
    """Only that fails, what depends on it is not passed, and the advice on the span leads to it."""
    assert {one["id"] for one in report.json["checks"] if one["status"] == "fail"} == {"receiver", "span"}
    assert not [name for name in UNTOLD if report.status(name) not in ("skip", "")]
    (span,) = report.of("span")
    assert span["advice"] == "see what fails: An OTLP receiver answers"
    assert report.code == 1


@PROTOCOLS
def test_a_web_server_is_no_receiver(protocol: str, tmp_path: Path) -> None:
    port = free_port()
    words = (sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(tmp_path))
    options = (f"--endpoint=http://localhost:{port}", f"--protocol={protocol}")
    with running(*words, port=port) as server:
        report = doctor(*options)
    assert_no_receiver(report)
    said = report.said("receiver")
    assert "SimpleHTTP" in said
    assert "“Directory listing for /”" in said
    if sys.platform == "linux":
        assert f"(process {server.pid})" in said
    assert protocol == "grpc" or "501" in said
    assert "start one there instead" in said
    with FaultServer("grpc" if protocol == "grpc" else "http", {} if protocol == "grpc" else TAKES, port=port):
        report = doctor(*options)
    assert report.status("receiver") == report.status("protocol") == report.status("span") == "pass"


def test_an_application_is_no_receiver(tmp_path: Path) -> None:
    port = free_port()
    program = tmp_path / "shop.py"
    program.write_text(f"from flask import Flask\napp = Flask('shop')\napp.run(port={port})\n")
    with running(sys.executable, str(program), port=port):
        # The variable that is in force is the one to set, and another path is not advised.
        for variable in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTELAGENT_ENDPOINT"):
            report = doctor(given={variable: f"http://127.0.0.1:{port}"})
            assert_no_receiver(report)
            assert "answers 404 to /v1/traces" in report.said("receiver")
            assert f"set {variable} to where an OTLP receiver listens" in report.said("receiver")
    with Viewer() as viewer:
        report = doctor(OTEL_EXPORTER_OTLP_ENDPOINT=viewer.base)
        assert report.status("receiver") == report.status("path") == report.status("span") == "pass"


@pytest.mark.parametrize("status", [404, 405, 415, 501])
def test_what_no_receiver_answers(status: int) -> None:
    with FaultServer("http", {"status": status, "headers": {"server": "nginx/1.29\x1b[31m"}}) as server:
        for path in ("", "/otlp"):
            report = doctor(f"--endpoint=http://127.0.0.1:{server.port}{path}")
            assert_no_receiver(report)
            assert f"answers {status} to {path}/v1/traces" in report.said("receiver")
            assert "nginx/1.29" in report.said("receiver")
            assert "\x1b" not in report.said("receiver")


@pytest.mark.parametrize(
    ("title", "said"),
    [
        ("Jaeger UI", "set --endpoint=http://127.0.0.1:4318, where it takes OTLP; Jaeger: this is its page"),
        ("Prometheus Time Series", "set --endpoint to where an OTLP receiver listens; Prometheus: it takes metrics"),
        ("Zipkin", "Zipkin: it takes its own format alone"),
        ("Grafana", "such as Tempo, does"),
        ("Sign in", "or start one there instead"),
    ],
)
def test_the_page_of_something_that_shows_traces(title: str, said: str) -> None:
    """It answers everything with its page, as those do that find out in the browser what was asked for."""
    body = f"<!doctype html><html><head><title>{title}</title>".encode()
    page = {"status": 200, "headers": {"content-type": "text/html"}, "body": body.hex()}
    with FaultServer("http", page) as server:
        report = doctor(f"--endpoint=http://127.0.0.1:{server.port}")
        assert_no_receiver(report)
        assert f"“{title}”" in report.said("receiver")
        assert "text/html" in report.said("receiver")
        assert said in report.said("receiver")
        server.begin(TAKES)
        assert doctor(f"--endpoint=http://127.0.0.1:{server.port}").status("receiver") == "pass"


def test_an_answer_that_is_empty_and_a_page() -> None:
    """As of an application that answers whatever it is asked: nothing in it tells it from a receiver."""
    with FaultServer("http", {"status": 200, "headers": {"content-type": "text/html; charset=utf-8"}}) as server:
        report = doctor(f"--endpoint=http://127.0.0.1:{server.port}")
        assert (report.status("span"), report.status("receiver"), report.code) == ("pass", "warn", 0)
        assert "it may take anything" in report.said("receiver")
        server.begin({"status": 200, "headers": {"content-type": "application/x-protobuf"}})
        assert doctor(f"--endpoint=http://127.0.0.1:{server.port}").status("receiver") == "pass"


def test_a_page_for_requests_without_credentials() -> None:
    """As of a proxy that answers them itself; what it lets through is taken."""
    page = {"status": 401, "headers": {"content-type": "text/html"}, "body": b"<html>no</html>".hex()}
    with FaultServer("http", {**TAKES, "accepts": ["Bearer t"], "otherwise": page}) as server:
        endpoint = f"--endpoint=http://127.0.0.1:{server.port}"
        report = doctor(endpoint, "--headers=authorization=Bearer%20t")
        assert {one["status"] for one in report.of("receiver")} == {"pass"}, report
        assert [report.status(name) for name in ("span", "metric", "credentials")] == ["pass"] * 3
        assert [doctor(endpoint).status(name) for name in ("receiver", "credentials")] == ["skip", "fail"]


@pytest.mark.parametrize("taken", ["metrics", "logs"])
def test_a_receiver_of_other_signals(taken: str) -> None:
    with FaultServer("http", {**TAKES, "path": f"/v1/{taken}", "otherwise": {"status": 404}}) as server:
        endpoint = f"--endpoint=http://127.0.0.1:{server.port}"
        report = doctor(endpoint)
        assert {one["id"] for one in report.json["checks"] if one["status"] == "fail"} == {"span"}
        assert [report.status(name) for name in ("receiver", "protocol", "path")] == ["pass"] * 3
        assert "it takes OTLP, but no traces: give it a traces pipeline" in report.said("span")
        # The other protocol comes first.
        assert "protocol=http/protobuf" in doctor(endpoint, "--protocol=grpc").said("protocol")
        server.begin(TAKES)
        assert doctor(endpoint).status("span") == "pass"


def test_a_usual_port_where_no_page_tells() -> None:
    place = SimpleNamespace(port=9411, page_title="", who="", path="/v1/traces")
    target = SimpleNamespace(
        place=place, standing="none", reason="http_404", to_set=lambda name: "OTEL_EXPORTER_OTLP_ENDPOINT"
    )
    (finding,) = CHECKS[0].find(target)
    assert "port 9411 is usually Zipkin's" in finding.advice


@pytest.mark.parametrize("origin", ["https://127.0.0.1", "https://127.0.0.1:8443"])
def test_a_redirect_to_https(origin: str) -> None:
    with FaultServer("http", {"status": 308, "headers": {"location": f"{origin}/v1/traces"}}) as server:
        report = doctor(f"--endpoint=http://127.0.0.1:{server.port}")
    assert_no_receiver(report)
    assert f"HTTP 308 to {origin}/v1/traces" in report.said("receiver")
    assert f"set --endpoint={origin}, which is where it redirects to" in report.said("receiver")


@pytest.mark.parametrize(
    "location", ["https://127.0.0.1.evil.example/x", "https://127.0.0.1@evil.example/x", "https://127.0.0.1:port/"]
)
def test_a_redirect_to_elsewhere_is_no_advice(location: str) -> None:
    with FaultServer("http", {"status": 308, "headers": {"location": location}}) as server:
        report = doctor(f"--endpoint=http://127.0.0.1:{server.port}")
    assert_no_receiver(report)
    assert "which is where it redirects to" not in report.said("receiver")


@PROTOCOLS
def test_a_port_that_says_nothing(protocol: str) -> None:
    """It may be anything."""
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        port = silent.getsockname()[1]
        report = doctor(f"--endpoint=http://127.0.0.1:{port}", f"--protocol={protocol}", "--timeout=1")
    assert {one["id"] for one in report.json["checks"] if one["status"] == "fail"} == {"span"}
    assert report.status("scheme") == report.status("receiver") == report.status("protocol") == "skip", report
    assert not [name for name in UNTOLD if report.status(name) not in ("skip", "")]
    assert protocol == "grpc" or "--timeout waits longer" in report.said("span")


@pytest.mark.parametrize(
    ("server_protocol", "protocol"), [("http", "http/protobuf"), ("grpc", "grpc"), ("http", "grpc")]
)
def test_a_receiver_that_is_slow(server_protocol: str, protocol: str) -> None:
    fast: dict[str, Any] = TAKES if server_protocol == "http" else {}
    with FaultServer(server_protocol, {**fast, "delay_s": 5}) as server:
        options = (f"--endpoint=http://127.0.0.1:{server.port}", f"--protocol={protocol}")
        report = doctor(*options, "--timeout=1")
        assert report.status("receiver") == "skip", report
        assert "fail" not in [report.status("path"), report.status("scheme")]
        if protocol.startswith(server_protocol):
            assert {one["id"] for one in report.json["checks"] if one["status"] == "fail"} == {"span"}
            assert "--timeout waits longer" in report.said("span")
            server.begin(fast)
            assert doctor(*options).status("receiver") == "pass"


@PROTOCOLS
def test_a_port_that_speaks_neither_http_nor_grpc(protocol: str) -> None:
    with FaultServer("http", {"do": "raw", "bytes": b"-ERR unknown command\r\n".hex()}) as other:
        report = doctor(f"--endpoint=http://127.0.0.1:{other.port}", f"--protocol={protocol}")
    assert_no_receiver(report)
    assert report.status("scheme") == "skip"
    assert "neither HTTP nor gRPC" in report.said("receiver")
    with FaultServer("grpc" if protocol == "grpc" else "http", {} if protocol == "grpc" else TAKES) as server:
        report = doctor(f"--endpoint=http://127.0.0.1:{server.port}", f"--protocol={protocol}")
        assert report.status("receiver") == report.status("scheme") == "pass"


@PROTOCOLS
def test_a_grpc_server_that_takes_no_otlp(protocol: str) -> None:
    with FaultServer("grpc", {"code": "UNIMPLEMENTED"}) as server:
        options = (f"--endpoint=http://127.0.0.1:{server.port}", f"--protocol={protocol}")
        report = doctor(*options)
        assert_no_receiver(report)
        assert "speaks gRPC, and takes no OTLP" in report.said("receiver")
        server.begin({})
        assert doctor(options[0], "--protocol=grpc").status("receiver") == "pass"


@PROTOCOLS
@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
def test_what_nothing_answers_is_not_passed(host: str, protocol: str) -> None:
    report = doctor(f"--endpoint=http://{host}:{free_port()}", f"--protocol={protocol}", "--logs-exporter=otlp")
    failed = "dns" if host.startswith("no") else "connect"
    assert {one["id"] for one in report.json["checks"] if one["status"] == "fail"} == {failed, "span", "log_record"}
    for name in ("scheme", "receiver", *UNTOLD):
        assert report.status(name) in ("skip", ""), name
    title = report.of(failed)[0]["title"]
    assert {one["advice"] for name in ("span", "log_record") for one in report.of(name)} == {f"see what fails: {title}"}


def test_an_endpoint_without_a_port() -> None:
    host = "127.98.76.54"  # where nothing listens on port 80
    report = doctor(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://{host}/otlp")
    assert f"set OTEL_EXPORTER_OTLP_ENDPOINT=http://{host}:4318/otlp" in report.said("connect")


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    report = doctor("--exporter=file", f"--file={tmp_path / 'none' / 'traces.jsonl'}")
    assert report.status("span") == "fail"
    assert report.of("span")[0]["advice"] == "correct --file"
    assert doctor("--exporter=file", f"--file={tmp_path / 'traces.jsonl'}").status("span") == "pass"


@pytest.mark.parametrize(
    ("status", "advice"), [(502, "what answers is a proxy"), (503, "see its log"), (500, "see what the server logs")]
)
def test_an_answer_that_says_nothing_of_the_endpoint(status: int, advice: str) -> None:
    with FaultServer("http", {"status": status}) as server:
        report = doctor(f"--endpoint=http://127.0.0.1:{server.port}")
        assert {one["id"] for one in report.json["checks"] if one["status"] == "fail"} == {"span"}
        assert [report.status(name) for name in ("receiver", "protocol", "path")] == ["skip"] * 3
        assert advice in report.said("span")
        server.begin(TAKES)
        report = doctor(f"--endpoint=http://127.0.0.1:{server.port}")
        assert [report.status(name) for name in ("receiver", "protocol", "path", "span")] == ["pass"] * 4
