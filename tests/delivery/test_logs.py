"""Log records take the way of spans: transports, answers, JSON."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.logs.v1.logs_pb2 import SeverityNumber

from otelagent.config import load
from otelagent.delivery import Accepted, Ledger, Payload, Rejected, open_delivery, open_transport
from otelagent.delivery.otlp import read_json_response, read_response
from otelagent.delivery.signals import SIGNALS
from otelagent.delivery.transports.console import ConsoleTransport
from tests.delivery.harness import FaultServer


def request(items: int = 1) -> Payload:
    message = ExportLogsServiceRequest()
    scope = message.resource_logs.add().scope_logs.add()
    for _ in range(items):
        record = scope.log_records.add(trace_id=bytes(15) + b"\x0a", span_id=bytes(7) + b"\x0b")
        record.severity_number = SeverityNumber.SEVERITY_NUMBER_WARN
        record.body.string_value = "hello"
    return Payload("logs", message.SerializeToString(), items)


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_from_settings_to_a_collector(protocol: str) -> None:
    with FaultServer(protocol[:4], {"status": 200}) as server:
        settings = {
            "logs_exporter": "otlp",
            "endpoint": f"http://127.0.0.1:{server.port}",
            "protocol": protocol,
            "headers": "x-tenant=blue",
        }
        ledger = Ledger("logs")
        destination = open_delivery(load(settings, {}), ledger, dict)
        ledger.ended(3)
        destination.submit(request(3))
        assert destination.shutdown(time.monotonic() + 10)
        (got,) = server.stop()
    assert got["headers"]["x-tenant"] == "blue"
    assert ledger.snapshot().delivered == 3


def test_each_signal_has_its_own_place() -> None:
    config = load({"logs_exporter": "otlp", "endpoint": "http://c:1", "logs_headers": "a=b"}, {})
    traces, logs = open_transport(config), open_transport(config, "logs")
    assert (traces.describe(), logs.describe()) == ("http://c:1/v1/traces", "http://c:1/v1/logs")
    assert logs.send(Payload("traces", b"", 1), 1) == Rejected(
        "unsupported_signal", "the endpoint takes logs, not traces"
    )


def test_the_names_in_the_protocol() -> None:
    logs = SIGNALS["logs"]
    assert logs.method == "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
    assert logs.path == "/v1/logs"
    assert SIGNALS["traces"].method == "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
    for signal in SIGNALS.values():
        response = signal.message("Response")()
        assert signal.rejected in response.partial_success.DESCRIPTOR.fields_by_name
        field = response.partial_success.DESCRIPTOR.fields_by_name[signal.rejected]
        assert field.json_name == signal.rejected_in_json
        assert signal.message("Request").DESCRIPTOR.name == signal.messages + "Request"


def test_what_the_server_refused_is_counted() -> None:
    answer = ExportLogsServiceResponse()
    answer.partial_success.rejected_log_records = 2
    answer.partial_success.error_message = "why"
    assert read_response(answer.SerializeToString(), SIGNALS["logs"]) == Accepted(2, "why")
    body = json.dumps({"partialSuccess": {"rejectedLogRecords": "2", "errorMessage": "why"}}).encode()
    assert read_json_response(body, SIGNALS["logs"]) == Accepted(2, "why")


def test_the_file_has_one_request_a_line(tmp_path: Path) -> None:
    path = tmp_path / "logs.jsonl"
    transport = open_transport(load({"logs_exporter": "file", "logs_file": str(path)}, {}), "logs")
    assert transport.send(request(), 1) == Accepted()
    transport.close()
    (line,) = path.read_text().splitlines()
    (record,) = json.loads(line)["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
    assert record == {
        "severityNumber": 13,
        "body": {"stringValue": "hello"},
        "traceId": "0" * 31 + "a",
        "spanId": "0" * 15 + "b",
    }


def test_the_console_shows_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert ConsoleTransport().send(request(), 1) == Accepted()
    assert "resourceLogs" in json.loads(capsys.readouterr().out)
