"""Every shipped collector configuration, in the real programs: valid, current, and spans come through it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import backends
from backends import BackendError, Backends, Collector, Jaeger, Program, Span, wait_for
from tests.support import backends_or_skip

pytestmark = pytest.mark.backends

FOLDER = Path(__file__).resolve().parents[2] / "collector-config"
PIPELINES = re.compile(r"^service:\n(?:.*\n)*?  pipelines:", re.MULTILINE)
VARIABLE = re.compile(r"\b(?:OTELCOL|JAEGER)_[A-Z_]+\b")
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


def configurations() -> list[Path]:
    """The YAML files that the collector or Jaeger is to run, known by their service.pipelines."""
    return sorted(path for path in FOLDER.rglob("*.yaml") if PIPELINES.search(path.read_text()))


def is_jaeger(path: Path) -> bool:
    return path.name.startswith("jaeger")


@pytest.fixture(scope="session", autouse=True)
def programs() -> None:
    backends_or_skip()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backends]:
    with Backends(tmp_path_factory.mktemp("backends")) as started:
        yield started


def program_for(path: Path, workdir: Path) -> Collector | Jaeger:
    return Jaeger(workdir, config=path) if is_jaeger(path) else Collector(workdir, config=path)


def post(url: str, body: dict[str, Any], signal_name: str = "traces") -> int:
    data = json.dumps(body).encode()
    request = urllib.request.Request(f"{url}/v1/{signal_name}", data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as response:
        return int(response.status)


def trace(trace_id: str, now: int) -> dict[str, Any]:
    """Two services, four kinds, an error with its event, a link: as OTLP/JSON written by hand."""

    def text(**attributes: str) -> list[dict[str, Any]]:
        return [{"key": key.replace("__", "."), "value": {"stringValue": value}} for key, value in attributes.items()]

    def one(number: int, parent: int, name: str, kind: int, **more: Any) -> dict[str, Any]:
        ids = {"traceId": trace_id, "spanId": f"{number:016x}"}
        if parent:
            ids["parentSpanId"] = f"{parent:016x}"
        start = now + number * 1_000_000
        times = {"startTimeUnixNano": str(start), "endTimeUnixNano": str(start + 5_000_000)}
        return {**ids, **times, "name": name, "kind": kind, **more}

    failed = one(
        4,
        3,
        "SELECT orders",
        3,
        attributes=[*text(db__system__name="postgresql"), {"key": "rows", "value": {"intValue": "3"}}],
        status={"code": 2, "message": "relation does not exist"},
        events=[
            {"timeUnixNano": str(now + 5_000_000), "name": "exception", "attributes": text(exception__type="DbError")}
        ],
        links=[{"traceId": "ff" * 16, "spanId": "ee" * 8}],
    )
    shop = [one(1, 0, "GET /Cart", 2), one(2, 1, "POST", 3)]
    bank = [one(3, 2, "POST /pay", 2), failed]
    return {
        "resourceSpans": [
            {"resource": {"attributes": text(service__name=name)}, "scopeSpans": [{"scope": {}, "spans": spans}]}
            for name, spans in (("Shop", shop), ("Bank", bank))
        ]
    }


def outline(spans: list[Span]) -> list[tuple[str, str, str, str, str]]:
    return sorted((s.trace_id, s.span_id, s.parent_id, s.kind, s.status) for s in spans)


def test_there_are_configurations() -> None:
    names = {path.name for path in configurations()}
    assert {"all-in-one.yaml", "jaeger.yaml", "collector-only.yaml"} <= names


@pytest.mark.parametrize("path", configurations(), ids=lambda path: path.stem)
def test_is_valid_and_starts_without_a_word_of_deprecation(path: Path, tmp_path: Path) -> None:
    program = program_for(path, tmp_path)
    program.validate()
    with program:
        log = program.log_text().lower()
    assert "deprecat" not in log
    assert "everything is ready" in log


def test_spans_come_back_from_file_jaeger_and_zipkin(running: Backends) -> None:
    now = time.time_ns() // 1000 * 1000
    assert post(running.collector.otlp_http, trace(TRACE_ID, now)) == 200

    written = backends.collector_spans(running.collector.file, TRACE_ID)
    assert len(written) == 4, "the file is written before the sender is answered"
    jaeger_url, zipkin_url = running.jaeger.query_url, running.zipkin.query_url

    def complete(spans: list[Span]) -> list[Span]:
        return spans if len(spans) == len(written) else []

    stored = wait_for(lambda: complete(backends.jaeger_trace(jaeger_url, TRACE_ID)), 10, what="Jaeger")
    zipped = wait_for(lambda: complete(backends.zipkin_trace(zipkin_url, TRACE_ID)), 10, what="Zipkin")

    by_id = {span.span_id: span for span in written}
    assert {span.span_id: span for span in stored} == by_id, "Jaeger loses nothing"
    assert outline(zipped) == outline(written)
    assert {len(span.trace_id) for span in zipped} == {32}
    for span in zipped:
        origin = by_id[span.span_id]
        assert (span.service, span.name) == (origin.service.lower(), origin.name.lower())
        assert (span.start_ns, span.duration_ns) == (origin.start_ns, origin.duration_ns)
        assert (span.status_message, span.events, span.links) == (origin.status_message, origin.events, origin.links)
    failed = next(span for span in zipped if span.status == "error")
    assert failed.attributes == {"db.system.name": "postgresql", "rows": "3"}

    drawing = backends.tree(stored)
    assert drawing.splitlines()[0] == f"trace {TRACE_ID} · 4 spans · 2 services · 8 ms"
    assert "ERROR 'relation does not exist'  db.system.name=postgresql  → 1 link  !DbError" in drawing


def test_traces_are_found_by_service(running: Backends) -> None:
    trace_id = "1bf7651916cd43dd8448eb211c80319d"
    post(running.collector.otlp_http, trace(trace_id, time.time_ns()))
    jaeger_url, zipkin_url = running.jaeger.query_url, running.zipkin.query_url

    def ids(traces: list[list[Span]]) -> bool:
        return trace_id in {found[0].trace_id for found in traces}

    wait_for(lambda: ids(backends.jaeger_traces(jaeger_url, "Bank")), 10, what="Jaeger's search")
    wait_for(lambda: ids(backends.zipkin_traces(zipkin_url, "Bank")), 10, what="Zipkin's search")
    assert {"Shop", "Bank"} <= set(backends.jaeger_services(jaeger_url))
    assert {"shop", "bank"} <= set(backends.zipkin_services(zipkin_url))
    assert backends.jaeger_trace(jaeger_url, "ab" * 16) == []
    assert backends.zipkin_trace(zipkin_url, "ab" * 16) == []


def test_metrics_and_logs_are_kept_in_the_file(running: Backends) -> None:
    point = {"timeUnixNano": "1", "asInt": "42"}
    metric = {"name": "answers", "gauge": {"dataPoints": [point]}}
    post(running.collector.otlp_http, {"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}, "metrics")
    record = {"timeUnixNano": "1", "body": {"stringValue": "hello"}}
    post(running.collector.otlp_http, {"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}, "logs")
    requests = backends.collector_requests(running.collector.file)
    assert {"resourceMetrics", "resourceLogs"} <= {key for request in requests for key in request}


def test_collector_comes_late_dies_and_comes_back_at_the_same_address(tmp_path: Path) -> None:
    collector = Collector(tmp_path)
    try:
        with pytest.raises(OSError, match="refused"):
            post(collector.otlp_http, trace(TRACE_ID, 1))
        collector.start()
        post(collector.otlp_http, trace(TRACE_ID, 1))
        collector.kill()
        with pytest.raises(OSError, match="refused"):
            post(collector.otlp_http, trace(TRACE_ID, 1))
        collector.start()
        post(collector.otlp_http, trace("ab" * 16, 1))
        assert {span.trace_id for span in backends.collector_spans(collector.file)} == {TRACE_ID, "ab" * 16}
    finally:
        collector.close()


def test_late_jaeger_gets_what_was_sent_before(tmp_path: Path) -> None:
    both = Backends(tmp_path)
    try:
        both.collector.start()
        post(both.collector.otlp_http, trace(TRACE_ID, time.time_ns()))
        both.jaeger.start()
        url = both.jaeger.query_url
        wait_for(lambda: len(backends.jaeger_trace(url, TRACE_ID)) == 4, 30, what="the retried request")
    finally:
        both.close()


def test_reload_by_sighup(tmp_path: Path) -> None:
    config = tmp_path / "collector.yaml"
    text = backends.COLLECTOR_ONLY.read_text()
    config.write_text(text)
    with Collector(tmp_path / "run", config=config) as collector:
        config.write_text(text.replace("${env:OTELCOL_MEMORY_LIMIT_MIB:-1024}", "777"))
        collector.send_signal(signal.SIGHUP)
        wait_for(lambda: '"limit_mib": 777' in collector.log_text() and collector.ready(), 10, what="the new limit")


def test_overlay_is_merged_over_the_configuration(tmp_path: Path) -> None:
    auth = "yaml:extensions: {bearertokenauth: {token: secret}}"
    use = "yaml:receivers: {otlp: {protocols: {http: {auth: {authenticator: bearertokenauth}}}}}"
    enable = "yaml:service: {extensions: [health_check, bearertokenauth]}"
    with (
        Collector(tmp_path, overlays=[auth, use, enable]) as collector,
        pytest.raises(OSError, match="401"),
    ):
        post(collector.otlp_http, trace(TRACE_ID, 1))


def test_failed_start_shows_the_end_of_the_log(tmp_path: Path) -> None:
    config = tmp_path / "broken.yaml"
    config.write_text("receivers: {nonsense: {}}\n")
    collector = Collector(tmp_path, config=config)
    with pytest.raises(BackendError, match=r"(?s)exited with status 1.*nonsense"):
        collector.start()
    with pytest.raises(BackendError, match="nonsense"):
        collector.validate()
    collector.close()


def test_programs_die_with_the_process_that_started_them(tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux lets a child die with its parent")
    script = f"""
        import os, signal, sys, threading
        sys.path.insert(0, {str(FOLDER)!r})
        from backends import Collector
        collector = Collector({str(tmp_path)!r})
        thread = threading.Thread(target=collector.start)
        thread.start(); thread.join()
        assert collector.ready(), "it must outlive the thread that started it"
        print(collector.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    pid = int(done.stdout)

    def gone() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except FileNotFoundError:
            return True

    wait_for(gone, 5, what="the collector's end")


def test_addresses_in_use_are_an_error_that_says_so(tmp_path: Path) -> None:
    with Collector(tmp_path) as first, pytest.raises(BackendError, match="in use"):
        Collector(tmp_path, ports={"otlp_http": first.port("otlp_http")})


@pytest.mark.parametrize("name", ["compose.yaml", "systemd/collector.env", "systemd/jaeger.env", "README.md"])
def test_variables_named_elsewhere_exist_in_a_configuration(name: str) -> None:
    known = {found for path in configurations() for found in VARIABLE.findall(path.read_text())}
    assert set(VARIABLE.findall((FOLDER / name).read_text())) <= known


def test_every_variable_is_in_the_readme() -> None:
    shipped = [path for path in configurations() if path.parent == FOLDER]
    known = {found for path in shipped for found in VARIABLE.findall(path.read_text())}
    assert known <= set(VARIABLE.findall((FOLDER / "README.md").read_text()))


def test_systemd_units(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    binaries = backends.locate()
    replacements = {
        "/usr/local/bin/otelagent-collector": str(binaries.collector),
        "/usr/local/bin/jaeger": str(binaries.jaeger),
        "/usr/bin/java": shutil.which("java") or "/bin/true",
    }
    units = []
    for unit in sorted((FOLDER / "systemd").glob("*.service")):
        text = unit.read_text()
        for old, new in replacements.items():
            text = text.replace(old, new)
        units.append(tmp_path / unit.name)
        units[-1].write_text(text)
    command = ["systemd-analyze", "verify", "--man=no", *map(str, units)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_stopped_means_gone(tmp_path: Path) -> None:
    with Backends(tmp_path) as all_three:
        programs: tuple[Program, ...] = all_three.programs
        pids = [program.pid for program in programs]
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
