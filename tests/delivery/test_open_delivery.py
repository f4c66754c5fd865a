from __future__ import annotations

import subprocess
import sys
import time

import pytest

from otelagent.config import load
from otelagent.delivery import Ledger, open_delivery, open_transport
from tests.delivery.harness import FaultServer, payload


@pytest.mark.parametrize(
    ("settings", "name", "place"),
    [
        ({}, "HttpTransport", "http://localhost:4318/v1/traces"),
        ({"protocol": "grpc"}, "GrpcTransport", "http://localhost:4317"),
        ({"endpoint": "http://me:password@there:1234"}, "HttpTransport", "http://***@there:1234/v1/traces"),
        ({"exporter": "console"}, "ConsoleTransport", "standard output"),
        ({"exporter": "file", "file": "/tmp/x"}, "FileTransport", "/tmp/x"),
    ],
)
def test_the_configuration_chooses_the_transport(settings: dict[str, str], name: str, place: str) -> None:
    transport = open_transport(load(settings, {}))
    assert type(transport).__name__ == name
    assert transport.describe() == place


def test_no_exporter_has_no_transport() -> None:
    with pytest.raises(ValueError, match="exporter=none"):
        open_transport(load({"exporter": "none"}, {}))


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_from_settings_to_a_collector(protocol: str) -> None:
    with FaultServer(protocol[:4], {"status": 200}) as server:
        settings = {"endpoint": f"http://127.0.0.1:{server.port}", "protocol": protocol, "headers": "x-tenant=blue"}
        ledger = Ledger("traces")
        destination = open_delivery(load(settings, {}), ledger, dict)
        ledger.ended(3)
        destination.submit(payload(3))
        assert destination.shutdown(time.monotonic() + 10)
        requests = server.stop()
    assert requests[0]["headers"]["x-tenant"] == "blue"
    snapshot = ledger.snapshot()
    assert snapshot.balanced
    assert snapshot.delivered == 3


def test_what_costs_start_up_time_comes_with_the_first_payload() -> None:
    program = """
import sys
from otelagent.config import load
from otelagent.delivery import Ledger, open_delivery
for settings in [{}, {"protocol": "grpc"}, {"exporter": "console"}, {"exporter": "file", "file": "x"}]:
    open_delivery(load(settings, {}), Ledger("traces"), dict)
heavy = {"httpx", "httpcore", "grpc", "google.protobuf", "opentelemetry", "ssl", "certifi", "importlib.metadata"}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == "[]\n"
