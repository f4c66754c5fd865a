"""Wrong settings, wrong addresses, hostile headers: a clear word or a counted drop, nothing for the application."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable
from typing import Any

import pytest

from backends import Span
from tests.e2e.harness import Bench, Protocol, Sink, Stack
from tests.e2e.web import raw

PROGRAM = """
import sys
import otelagent

with otelagent.span("work"):
    pass
print("the application ran", otelagent.status()["state"])
"""

WITH_INIT = """
import sys
import otelagent

try:
    otelagent.init(**{sys.argv[1]: sys.argv[2]})
except otelagent.ConfigError as error:
    print(f"ConfigError {error.setting}: {error}")
"""

# --- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--servce-name=x"], "unknown option --servce-name; did you mean --service-name?"),
        (
            ["--endpoint", "ftp://host"],
            "endpoint = 'ftp://host' (from --endpoint): must start with http:// or https://",
        ),
        (["--sampler", "allways_on"], "sampler = 'allways_on' (from --sampler): must be one of"),
        (["--batch-schedule-delay-ms=5s"], "batch_schedule_delay_ms = '5s' (from --batch-schedule-delay-ms): must be"),
        (["--endpoint", "--quiet"], "--endpoint needs a value: --endpoint=…"),
    ],
)
def test_wrong_option_stops_the_launcher(options: list[str], message: str, bench: Bench) -> None:
    bench.write("program.py", PROGRAM)
    code, output = bench.run("python", "program.py", options=options)
    assert code == 2
    assert output.startswith(f"otelagent-run: {message}"), output
    assert len(output.splitlines()) == 1
    assert bench.spans() == []


WRONG_VARIABLES = [
    (
        "OTELAGENT_SERVCE_NAME",
        "x",
        "OTELAGENT_SERVCE_NAME: there is no such setting; did you mean OTELAGENT_SERVICE_NAME?",
    ),
    (
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "collector",
        "endpoint = 'collector' (from OTEL_EXPORTER_OTLP_ENDPOINT): must start",
    ),
    ("OTELAGENT_PROTOCOL", "http2", "protocol = 'http2' (from OTELAGENT_PROTOCOL): must be one of"),
]


@pytest.mark.parametrize(("variable", "value", "message"), WRONG_VARIABLES)
def test_wrong_variable_is_reported_and_the_command_runs_untraced(
    variable: str, value: str, message: str, bench: Bench
) -> None:
    bench.write("program.py", PROGRAM)
    bench.sink.environ["OTELAGENT_EXPORTER"] = "otlp"
    code, output = bench.run("python", "program.py", **{variable: value})
    said, ran = output.splitlines()
    assert (code, ran) == (0, "the application ran DISABLED")
    assert said.startswith(f"otelagent-run: {message}"), said
    assert said.endswith("running the command without telemetry")
    assert bench.books == {}


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("servce_name", "x", "servce_name (from init()): there is no such setting; did you mean service_name?"),
        ("endpoint", "collector", "endpoint = 'collector' (from init()): must start with http:// or https://; try"),
        ("headers", "authorization", "headers = "),
    ],
)
def test_wrong_keyword_is_the_one_thing_init_raises(setting: str, value: str, message: str, bench: Bench) -> None:
    bench.write("program.py", WITH_INIT)
    bench.sink.environ["OTELAGENT_EXPORTER"] = "otlp"
    code, output = bench.run("python", "program.py", setting, value, run=False)
    assert code == 0
    assert output.startswith(f"ConfigError {setting}: {message}"), output
    assert bench.books == {}


# --- destinations ---------------------------------------------------------------------------------------------------


def lost(bench: Bench, environ: dict[str, str]) -> tuple[dict[str, Any], str]:
    """Runs the program into a destination that takes nothing: its ledger, and what it wrote."""
    bench.write("program.py", PROGRAM)
    bench.sink.environ = environ | {"OTELAGENT_EXIT_TIMEOUT_MS": "3000", "OTELAGENT_SPOOL": "false"}
    code, output = bench.run("python", "program.py")
    assert code == 0
    assert "the application ran RUNNING" in output
    assert "Traceback" not in output
    assert bench.settle(all_delivered=False) == []
    (book,) = bench.books.values()
    ledger = book["ledger"]["traces"]
    assert (ledger["ended"], ledger["delivered"], ledger["queued"]) == (1, 0, 0)
    assert sum(ledger["dropped"].values()) + sum(ledger["rejected"].values()) == 1
    return ledger, output


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_unreachable_collector_costs_a_counted_drop_and_two_lines(protocol: Protocol, bench: Bench) -> None:
    endpoint = f"http://127.0.0.1:{bench.port()}"
    ledger, output = lost(
        bench,
        {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol, "OTELAGENT_QUIET": "1"},
    )
    assert ledger["dropped"] == {"shutdown": 1}
    telemetry = [line for line in output.splitlines() if line.startswith(f"otelagent: telemetry to {endpoint}")]
    assert len(telemetry) == 2
    assert "refused" in telemetry[0]
    assert "it is kept in memory and tried again while the process runs" in telemetry[0]
    assert "not delivered in time" in telemetry[1]


@pytest.mark.backends
@pytest.mark.parametrize(
    ("protocol", "hint"),
    [
        ("http/protobuf", "the port looks like gRPC: set protocol=grpc, or use the OTLP/HTTP port, usually 4318"),
        ("grpc", "set protocol=http/protobuf, or use the OTLP/gRPC port, usually 4317"),
    ],
)
def test_wrong_protocol_on_the_collectors_port_is_named(
    protocol: Protocol, hint: str, open_bench: Callable[[Sink], Bench], stack: Stack
) -> None:
    collector = stack.collector
    wrong = collector.otlp_grpc if protocol == "http/protobuf" else collector.otlp_http
    bench = open_bench(Sink(collector.file, {}))
    _, output = lost(bench, {"OTEL_EXPORTER_OTLP_ENDPOINT": wrong, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol})
    assert hint in output


# --- headers --------------------------------------------------------------------------------------------------------

ASGI = """
import json
from fastapi import FastAPI, Request
from opentelemetry import trace

app = FastAPI()

@app.get("/seen")
async def seen(request: Request):
    context = trace.get_current_span().get_span_context()
    return {"headers": len(request.headers), "state": context.trace_state.to_header()}
"""

WSGI = """
import sys
from flask import Flask, request
from opentelemetry import trace

app = Flask(__name__)

@app.get("/seen")
def seen():
    context = trace.get_current_span().get_span_context()
    return {"headers": len(request.headers), "state": context.trace_state.to_header()}
"""

WSGIREF = """
from wsgiref.simple_server import make_server
from app import app
import sys

make_server("127.0.0.1", int(sys.argv[1]), app).serve_forever()
"""

SERVERS: dict[str, tuple[str, str]] = {
    "uvicorn h11": (ASGI, "uvicorn app:app --http h11 --port {port}"),
    "uvicorn httptools": (ASGI, "uvicorn app:app --http httptools --port {port}"),
    "gunicorn": (WSGI, "gunicorn app:app --bind 127.0.0.1:{port}"),
    "werkzeug": (WSGI, "flask run --port {port}"),
    "wsgiref": (WSGI, "python server.py {port}"),
}

VALID = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER = "00-1af7651916cd43dd8448eb211c80319c-c7ad6b7169203331-01"

# Each makes a new root: there is no single valid traceparent.
NEW_ROOTS: dict[str, list[bytes]] = {
    "no header": [],
    "empty": [b"traceparent:"],
    "words": [b"traceparent: not a traceparent"],
    "upper case": [b"traceparent: " + VALID.upper().encode()],
    "zero trace id": [b"traceparent: 00-" + b"0" * 32 + b"-b7ad6b7169203331-01"],
    "zero span id": [b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-" + b"0" * 16 + b"-01"],
    "version ff": [b"traceparent: ff" + VALID[2:].encode()],
    "too short": [b"traceparent: " + VALID[:-1].encode()],
    "version 00 and more": [b"traceparent: " + VALID.encode() + b"-00"],
    "not ASCII": [b"traceparent: 00-\xff\xfe" + VALID[5:].encode()],
    "two": [b"traceparent: " + VALID.encode(), b"traceparent: " + OTHER.encode()],
    "the same twice": [b"traceparent: " + VALID.encode()] * 2,
    "6,000 characters": [b"traceparent: " + VALID.encode() + b"a" * 6000],
    "broken baggage": [b"baggage: ===;;;,,,%zz=%", b"baggage: \x80=\xff"],
    "fifty of them": [b"traceparent: " + VALID.encode()] * 50,
}

# With a valid traceparent each of these costs the tracestate or a part of it, no more.
STATES: dict[str, tuple[list[bytes], str]] = {
    "one": ([b"tracestate: a=1,b=2"], "a=1,b=2"),
    "duplicate key in one header": ([b"tracestate: a=1,b=2,a=3"], "a=1,b=2"),
    "duplicate key in two headers": ([b"tracestate: a=1,b=2", b"tracestate: a=3,c=4"], "a=1,b=2,c=4"),
    "malformed": ([b"tracestate: a=1,="], ""),
    "too many": ([b"tracestate: " + ",".join(f"k{n}=v" for n in range(33)).encode()], ""),
}


def send(port: int, headers: list[bytes]) -> tuple[int, bytes]:
    """One raw request on a connection of its own: the status, 0 if the server hung up without one, and the body."""
    lines = [b"GET /seen HTTP/1.1", b"Host: localhost", b"Connection: close", *headers, b"", b""]
    answer = raw(port, b"\r\n".join(lines))
    match = re.match(rb"HTTP/1\.[01] (\d{3})", answer)
    return (int(match[1]) if match else 0), answer.partition(b"\r\n\r\n")[2]


def start(bench: Bench, server: str, *, run: bool) -> tuple[Any, int]:
    source, command = SERVERS[server]
    bench.write("app.py", source)
    bench.write("server.py", WSGIREF)
    port = bench.port()
    return bench.start(*command.format(port=port).split(), run=run, books=run, port=port), port


@pytest.mark.parametrize("server", SERVERS)
def test_headers_of_any_kind_cost_at_most_the_context_they_carry(server: str, bench: Bench) -> None:
    huge = [
        [name + b": " + b"a" * size] for size in (5_000, 60_000, 1_000_000) for name in (b"traceparent", b"tracestate")
    ]
    huge += [[b"traceparent: " + VALID.encode(), b"baggage: " + b"a=" + b"b" * 1_000_000]]

    plain, port = start(bench, server, run=False)
    untraced = [send(port, headers)[0] for headers in [*NEW_ROOTS.values(), *huge]]
    plain.end()

    traced, port = start(bench, server, run=True)
    statuses = [send(port, headers)[0] for headers in [*NEW_ROOTS.values(), *huge]]
    small = len(NEW_ROOTS)
    assert statuses[:small] == untraced[:small], "a server refuses what it refuses, and nothing else"
    # Whether a huge header is too much for a server may depend on the pieces in which it arrives.
    assert {*statuses[small:], *untraced[small:]} <= {0, 200, 400, 431}
    answers = [send(port, [b"traceparent: " + VALID.encode(), *headers])[1] for headers, _ in STATES.values()]
    assert [json.loads(answer)["state"] for answer in answers] == [state for _, state in STATES.values()]
    traced.end()
    assert "Traceback" not in traced.output
    # What the application logs is its own: one line of otelagent's at the start.
    assert len([line for line in traced.output.splitlines() if "otelagent" in line]) == 1

    spans = bench.settle()
    assert {span.kind for span in spans} == {"server"}
    children = [span for span in spans if span.parent_id]
    assert {(span.trace_id, span.parent_id) for span in children} == {(VALID[3:35], VALID[36:52])}
    answered = [status for status in statuses if status == 200]
    assert len([span for span in spans if answered_200(span)]) == len(answered) + len(STATES)
    assert len(children) == len(STATES) + len([status for status in statuses[-1:] if status == 200])
    roots = [span for span in spans if not span.parent_id]
    assert len({span.trace_id for span in roots}) == len(roots)
    assert VALID[3:35] not in {span.trace_id for span in roots}


def answered_200(span: Span) -> bool:
    return bool(span.attributes.get("http.response.status_code") == 200)


def test_unusual_requests_give_bounded_names(bench: Bench) -> None:
    application, port = start(bench, "werkzeug", run=True)
    unknown = secrets.token_hex(4).upper()
    for line in (f"{unknown} /seen HTTP/1.1", "GET /%ff%fe?%zz=1 HTTP/1.1", "GET //seen//" + "x" * 5000 + " HTTP/1.1"):
        raw(port, line.encode() + b"\r\nHost: \xff:\xff\r\nConnection: close\r\n\r\n")
    application.end()
    spans = bench.settle()
    assert sorted(span.name for span in spans) == ["GET", "GET", "HTTP"]
    assert {span.attributes["http.request.method"] for span in spans} == {"GET", "_OTHER"}
