from __future__ import annotations

import socket
import time
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from otelagent.delivery import Accepted, Payload, Rejected, Result, Retryable
from otelagent.delivery.transports.grpc import GrpcTransport
from otelagent.threads import Thread
from tests.delivery.harness import FaultServer, otlp, partial_success, payload, secret, status_details


def exchange(*script: dict[str, Any], timeout_s: float = 5.0, **settings: Any) -> tuple[Result, list[dict[str, Any]]]:
    """What one payload came to, and the requests that the server got."""
    with FaultServer("grpc", *script) as server:
        transport = GrpcTransport(otlp(f"http://127.0.0.1:{server.port}", **settings))
        try:
            result = transport.send(payload(5), timeout_s)
        finally:
            transport.close()
        return result, server.stop()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("CANCELLED", Retryable),
        ("DEADLINE_EXCEEDED", Retryable),
        ("ABORTED", Retryable),
        ("OUT_OF_RANGE", Retryable),
        ("UNAVAILABLE", Retryable),
        ("DATA_LOSS", Retryable),
        ("RESOURCE_EXHAUSTED", Rejected),
        ("UNKNOWN", Rejected),
        ("INVALID_ARGUMENT", Rejected),
        ("NOT_FOUND", Rejected),
        ("ALREADY_EXISTS", Rejected),
        ("PERMISSION_DENIED", Rejected),
        ("UNAUTHENTICATED", Rejected),
        ("FAILED_PRECONDITION", Rejected),
        ("UNIMPLEMENTED", Rejected),
        ("INTERNAL", Rejected),
    ],
)
def test_failures_are_told_apart(code: str, kind: type) -> None:
    result, requests = exchange({"code": code})
    assert isinstance(result, kind)
    assert not isinstance(result, Accepted)
    assert result.reason == f"grpc_{code.lower()}"
    assert len(requests) == 1


@pytest.mark.parametrize(
    ("code", "details", "expected"),
    [
        ("RESOURCE_EXHAUSTED", status_details(0, 50_000_000), Retryable("grpc_resource_exhausted", 0.05, "scripted")),
        ("RESOURCE_EXHAUSTED", status_details(30), Retryable("grpc_resource_exhausted", 30.0, "scripted")),
        ("RESOURCE_EXHAUSTED", status_details(-5), Retryable("grpc_resource_exhausted", 0.0, "scripted")),
        ("UNAVAILABLE", status_details(30), Retryable("grpc_unavailable", 30.0, "scripted")),
        ("INTERNAL", status_details(30), Rejected("grpc_internal", "scripted")),
        (
            "RESOURCE_EXHAUSTED",
            Status(message="x").SerializeToString().hex(),
            Rejected("grpc_resource_exhausted", "scripted"),
        ),
        ("RESOURCE_EXHAUSTED", b"\xff\xff garbage".hex(), Rejected("grpc_resource_exhausted", "scripted")),
        # A RetryInfo whose own bytes are broken.
        (
            "RESOURCE_EXHAUSTED",
            Status(details=[AnyMessage(type_url="type.googleapis.com/google.rpc.RetryInfo", value=b"\xff\xff")])
            .SerializeToString()
            .hex(),
            Rejected("grpc_resource_exhausted", "scripted"),
        ),
    ],
)
def test_retry_info(code: str, details: str, expected: Result) -> None:
    assert exchange({"code": code, "status_details": details})[0] == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", Accepted()),
        (b"\x0a\x00", Accepted()),
        (partial_success(3, "too\nold"), Accepted(3, "too old")),
        (partial_success(0, "slow down"), Accepted(0, "slow down")),
        (b"<html>", Rejected("malformed_response", "the answer is no OTLP response")),
    ],
)
def test_successes(body: bytes, expected: Result) -> None:
    assert exchange({"body": body.hex()})[0] == expected


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_the_request_is_otlp(compression: str) -> None:
    result, requests = exchange({}, headers={"X-Tenant": secret("blue")}, compression=compression)
    assert result == Accepted()
    assert bytes.fromhex(requests[0]["body"]) == payload(5).body
    assert requests[0]["headers"]["x-tenant"] == "blue"
    assert requests[0]["headers"]["user-agent"].startswith("OTel-OTLP-Exporter-Python-otelagent/")


def test_a_try_ends_at_its_deadline() -> None:
    with FaultServer("grpc", {"delay_s": 30}) as server:
        transport = GrpcTransport(otlp(f"http://127.0.0.1:{server.port}"))
        begun = time.monotonic()
        result = transport.send(payload(), 0.5)
        took = time.monotonic() - begun
        transport.close()
    assert isinstance(result, Retryable)
    assert result.reason == "grpc_deadline_exceeded"
    assert 0.45 <= took < 1.0


def test_a_server_that_comes_back_is_found_at_the_next_try() -> None:
    with socket.create_server(("127.0.0.1", 0)) as placeholder:
        port = placeholder.getsockname()[1]
    transport = GrpcTransport(otlp(f"http://127.0.0.1:{port}"))
    for _ in range(5):
        down = transport.send(payload(), 2)
        assert isinstance(down, Retryable)
        assert down.reason == "grpc_unavailable"
    with FaultServer("grpc", {}, port=port):
        begun = time.monotonic()
        assert transport.send(payload(), 5) == Accepted()
        assert time.monotonic() - begun < 1.0
        transport.close()


def test_an_http_port_is_named() -> None:
    with FaultServer("http", {"status": 404}) as server:
        transport = GrpcTransport(otlp(f"http://127.0.0.1:{server.port}"))
        result = transport.send(payload(), 5)
        transport.close()
    assert isinstance(result, Retryable)
    assert "set protocol=http/protobuf, or use the OTLP/gRPC port, usually 4317" in result.message


@pytest.mark.parametrize(("name", "value"), [("x", "secret\nvalue"), ("x", "sëcret"), ("a b", "secret"), ("x-bin", "")])
def test_an_illegal_header_is_rejected_without_quoting_it(name: str, value: str) -> None:
    result, requests = exchange({}, headers={name: secret(value)})
    assert result == Rejected("invalid_request", f"the header {name!r} is no valid gRPC metadata")
    assert requests == []


def test_a_server_that_quotes_a_secret_is_not_quoted() -> None:
    script = {"code": "UNAUTHENTICATED", "details": "no access for very-secret-token"}
    result, _ = exchange(script, headers={"x-api-key": secret("very-secret-token")})
    assert result == Rejected("grpc_unauthenticated", "no access for ***; check the credentials")


def test_too_large_a_request_is_not_sent() -> None:
    transport = GrpcTransport(otlp("http://127.0.0.1:1"))
    result = transport.send(Payload("traces", bytes(64 * 1024 * 1024 + 1), 7), 1)
    assert isinstance(result, Rejected)
    assert result.reason == "too_large"


def test_a_missing_certificate_may_come_later() -> None:
    result = GrpcTransport(otlp("https://127.0.0.1:1", certificate="/nowhere/ca.pem")).send(payload(), 1)
    assert isinstance(result, Retryable)
    assert result.reason == "certificate"


def test_the_environment_has_no_say(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert exchange({})[0] == Accepted()


def test_at_the_end_of_the_interpreter_a_call_needs_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    with FaultServer("grpc", {"code": "INTERNAL"}, {}) as server:
        transport = GrpcTransport(otlp(f"http://127.0.0.1:{server.port}"))
        monkeypatch.setattr(Thread, "start", refuse)
        assert transport.send(payload(), 5) == Rejected("grpc_internal", "scripted")
        assert transport.send(payload(), 5) == Accepted()
        transport.close()
