from __future__ import annotations

import gzip
import logging
import socket
import threading
import time
import tracemalloc
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from otelagent.delivery import Accepted, Limits, Payload, Rejected, Result, Retryable
from otelagent.delivery.transports.http import HttpTransport
from tests.delivery.harness import FaultServer, otlp, partial_success, payload, secret

HTML = b"<html><body>Please log in</body></html>"
# An HTTP/2 SETTINGS frame: what a gRPC server says first.
HTTP2_SETTINGS = "000006040000000000000400004000"


def exchange(*script: dict[str, Any], timeout_s: float = 5.0, **settings: Any) -> tuple[Result, list[dict[str, Any]]]:
    """What one payload came to, and the requests that the server got."""
    with FaultServer("http", *script) as server:
        transport = HttpTransport(otlp(server.endpoint, **settings))
        try:
            result = transport.send(payload(5), timeout_s)
        finally:
            transport.close()
        return result, server.stop()


def answer(status: int, body: bytes = b"", **headers: str) -> dict[str, Any]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return {"status": status, "body": body.hex(), "headers": named}


@pytest.mark.parametrize(
    ("action", "kind", "reason"),
    [
        *[(answer(status), Retryable, f"http_{status}") for status in (429, 502, 503, 504)],
        *[
            (answer(status), Rejected, f"http_{status}")
            for status in (400, 401, 403, 404, 405, 408, 413, 415, 422, 500, 501, 505, 599)
        ],
        *[(answer(status, location="http://127.0.0.1:1/"), Rejected, "redirect") for status in (301, 302, 307, 308)],
        (answer(304), Rejected, "redirect"),
        (answer(307, location="https://[/"), Rejected, "redirect"),
        (answer(200, HTML, content_type="text/html"), Rejected, "malformed_response"),
        (answer(200, HTML), Rejected, "malformed_response"),
        (answer(200, b"{}{", content_type="application/json"), Rejected, "malformed_response"),
        (answer(200, b'{"error":"no"}', content_type="application/json"), Rejected, "malformed_response"),
        (answer(200, b"[]", content_type="application/json"), Rejected, "malformed_response"),
        (
            answer(200, b'{"partialSuccess":{"rejectedSpans":1e999}}', content_type="application/json"),
            Rejected,
            "malformed_response",
        ),
        (answer(200, b"\x1f\x8bnot gzip", content_encoding="gzip"), Rejected, "malformed_response"),
        (answer(200, b"?", content_encoding="br"), Rejected, "malformed_response"),
        ({"do": "reset"}, Retryable, "connection"),
        ({"do": "reset_in_body"}, Retryable, "connection"),
        ({"do": "raw", "bytes": b"SSH-2.0-OpenSSH_9.6\r\n".hex()}, Retryable, "connection"),
    ],
)
def test_failures_are_told_apart(action: dict[str, Any], kind: type, reason: str) -> None:
    result, requests = exchange(action)
    assert isinstance(result, kind)
    assert not isinstance(result, Accepted)
    assert result.reason == reason
    assert len(requests) == 1


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (answer(200), Accepted()),
        (answer(202), Accepted()),
        (answer(204), Accepted()),
        (answer(200, content_type="text/html"), Accepted()),
        (answer(200, b"\x0a\x00"), Accepted()),
        (answer(200, partial_success(3, "too\nold")), Accepted(3, "too old")),
        (answer(200, partial_success(0, "slow down")), Accepted(0, "slow down")),
        (answer(200, partial_success(-7)), Accepted()),
        (answer(200, gzip.compress(partial_success(2)), content_encoding="gzip"), Accepted(2)),
        (answer(200, b"{}", content_type="application/json"), Accepted()),
        (
            answer(200, b'{"partialSuccess":{"rejectedSpans":"2"}}', content_type="application/json; charset=utf-8"),
            Accepted(2),
        ),
    ],
)
def test_successes(action: dict[str, Any], expected: Result) -> None:
    assert exchange(action)[0] == expected


def http_date(offset_s: float) -> str:
    return formatdate(time.time() + offset_s, usegmt=True)


@pytest.mark.parametrize("form", ["seconds", "date", "date of a server an hour behind"])
def test_retry_after(form: str) -> None:
    headers = {
        "seconds": {"retry-after": "30"},
        "date": {"retry-after": http_date(30)},
        "date of a server an hour behind": {"date": http_date(-3600), "retry-after": http_date(-3570)},
    }[form]
    result, _ = exchange({"status": 503, "headers": headers})
    assert isinstance(result, Retryable)
    assert result.after_s is not None
    assert 20 <= result.after_s <= 31


def test_the_request_is_otlp() -> None:
    headers = {"x-tenant": secret("blue"), "user-agent": secret("someone else")}
    result, requests = exchange(answer(200), headers=headers)
    assert result == Accepted()
    sent = requests[0]
    assert sent["path"] == "/v1/traces"
    assert bytes.fromhex(sent["body"]) == payload(5).body
    assert sent["headers"]["content-type"] == "application/x-protobuf"
    assert sent["headers"]["user-agent"].startswith("OTel-OTLP-Exporter-Python-otelagent/")
    assert sent["headers"]["x-tenant"] == "blue"
    assert "content-encoding" not in sent["headers"]


def test_gzip() -> None:
    result, requests = exchange(answer(200), compression="gzip")
    assert result == Accepted()
    assert requests[0]["headers"]["content-encoding"] == "gzip"
    assert gzip.decompress(bytes.fromhex(requests[0]["body"])) == payload(5).body


def test_one_connection_serves_many_payloads_and_a_closed_one_is_noticed() -> None:
    with FaultServer("http", answer(200), answer(503), answer(200), answer(400, HTML), answer(200)) as server:
        transport = HttpTransport(otlp(server.endpoint))
        for _ in range(5):
            transport.send(payload(), 5)
        transport.close()
        assert transport.send(payload(), 5) == Accepted()
        transport.close()
        peers = [request["peer"] for request in server.stop()]
    assert len(set(peers[:5])) == 1
    assert peers[5] != peers[0]


def test_the_environment_has_no_say(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert exchange(answer(200))[0] == Accepted()


def test_credentials_do_not_follow_a_redirect_and_do_not_show() -> None:
    token = "Bearer very-secret-token"
    with FaultServer("http", answer(200)) as elsewhere:
        redirect = answer(307, location=f"http://127.0.0.1:{elsewhere.port}/v1/traces?key=secret")
        result, _ = exchange(redirect, headers={"authorization": secret(token)})
        assert elsewhere.stop() == []
    assert isinstance(result, Rejected)
    assert result.reason == "redirect"
    assert "secret" not in repr(result)


def test_a_server_that_quotes_a_secret_is_not_quoted() -> None:
    body = Status(message="no access for very-secret-token\nat all").SerializeToString()
    result, _ = exchange(answer(401, body), headers={"x-api-key": secret("very-secret-token")})
    assert result == Rejected("http_401", "no access for *** at all; check the credentials")


def test_a_password_in_the_endpoint_is_sent_and_not_shown() -> None:
    with FaultServer("http", answer(200)) as server:
        transport = HttpTransport(otlp(server.endpoint.replace("127", "me:pass%2Fword@127", 1)))
        assert transport.send(payload(), 5) == Accepted()
        transport.close()
        assert "pass" not in transport.describe()
        assert server.stop()[0]["headers"]["authorization"] == "Basic bWU6cGFzcy93b3Jk"


@pytest.mark.parametrize(
    "action",
    [{"do": "stall"}, {"do": "drip"}, {"do": "drip", "status": 503}, {"do": "drip_head"}],
    ids=["stall", "drip", "drip error", "drip head"],
)
def test_a_try_ends_at_its_deadline_however_the_server_drags_it(action: dict[str, Any]) -> None:
    begun = time.monotonic()
    result, _ = exchange(action, timeout_s=1.0)
    assert isinstance(result, Retryable)
    assert result.reason == ("http_503" if "status" in action else "timeout")
    # The rest is the server's start and end.
    assert 1.0 <= time.monotonic() - begun < 2.5


def test_the_deadline_is_exact() -> None:
    with FaultServer("http", {"do": "drip"}) as server:
        transport = HttpTransport(otlp(server.endpoint))
        transport.send(Payload("metrics", b"", 1), 1)  # Nothing is imported or opened by this.
        HttpTransport(otlp("http://127.0.0.1:1")).send(payload(), 1)
        begun = time.monotonic()
        transport.send(payload(), 0.5)
        took = time.monotonic() - begun
        transport.close()
    assert 0.45 <= took <= 0.55


def test_a_server_that_reads_nothing_ends_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        transport = HttpTransport(otlp(f"http://127.0.0.1:{deaf.getsockname()[1]}/"))
        begun = time.monotonic()
        result = transport.send(Payload("traces", bytes(32 * 1024 * 1024), 1), 0.5)
        transport.close()
    assert isinstance(result, Retryable)
    assert result.reason == "timeout"
    assert time.monotonic() - begun < 1.5


@pytest.mark.parametrize(
    "action",
    [{"do": "endless"}, {"do": "bomb", "bytes": 256 * 1024 * 1024}],
    ids=["endless", "gzip bomb"],
)
def test_an_answer_is_cut_at_4_mib(action: dict[str, Any]) -> None:
    exchange(answer(200))  # What imports allocate is not the answer's.
    tracemalloc.start()
    try:
        result, _ = exchange(action, timeout_s=20.0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert result == Rejected("malformed_response", "the answer is longer than 4194304 bytes")
    assert peak < 10 * 1024 * 1024


def test_an_answer_that_goes_on_after_its_gzip_is_cut_there() -> None:
    begun = time.monotonic()
    result, _ = exchange({"do": "endless_after_gzip"}, timeout_s=20.0)
    assert result == Rejected("malformed_response", "the answer goes on after the end of its gzip")
    assert time.monotonic() - begun < 5


def test_too_large_a_request_is_not_sent() -> None:
    transport = HttpTransport(otlp("http://127.0.0.1:1/v1/traces"))
    result = transport.send(Payload("traces", bytes(64 * 1024 * 1024 + 1), 7), 1)
    assert isinstance(result, Rejected)
    assert result.reason == "too_large"


def test_other_signals_are_not_sent_to_the_traces_url() -> None:
    result = HttpTransport(otlp("http://127.0.0.1:1/v1/traces")).send(Payload("metrics", b"", 1), 1)
    assert result == Rejected("unsupported_signal", "the endpoint takes traces, not metrics")


@pytest.mark.parametrize(
    ("endpoint", "headers", "reason"),
    [
        ("http://127.0.0.1:1/", {}, "connection"),
        ("http://no-such-host.invalid:4318/", {}, "connection"),
        ("http://127.0.0.1:1/", {"x": "line\nbreak-secret"}, "connection"),
        ("http://127.0.0.1:1/", {"näme": "secret"}, "invalid_request"),
        ("http://[::1/", {}, "invalid_request"),
    ],
)
def test_what_cannot_be_sent(endpoint: str, headers: dict[str, str], reason: str) -> None:
    transport = HttpTransport(otlp(endpoint, headers={name: secret(value) for name, value in headers.items()}))
    result = transport.send(payload(), 2)
    transport.close()
    assert not isinstance(result, Accepted)
    assert result.reason == reason
    assert "secret" not in result.message


def test_an_illegal_header_is_rejected_without_quoting_it() -> None:
    result, requests = exchange(answer(200), headers={"x-api-key": secret("secret\nvalue")})
    assert result == Rejected("invalid_request", "the endpoint or a header is no valid HTTP")
    assert requests == []


def test_a_missing_certificate_may_come_later() -> None:
    transport = HttpTransport(otlp("https://127.0.0.1:1/", certificate="/nowhere/ca.pem"))
    result = transport.send(payload(), 1)
    assert isinstance(result, Retryable)
    assert result.reason == "certificate"
    assert "/nowhere/ca.pem: No such file or directory" in result.message


@pytest.mark.parametrize("setting", ["certificate", "client_certificate"])
def test_certificates_that_are_none_are_named(tmp_path: Path, setting: str) -> None:
    path = tmp_path / "bad.pem"
    path.write_text("no certificate")
    result = HttpTransport(otlp("https://127.0.0.1:1/", **{setting: str(path)})).send(payload(), 1)
    assert isinstance(result, Retryable)
    assert f"can't load the certificates: {path}: [" in result.message


@pytest.mark.parametrize(
    ("sent", "hint"),
    [(HTTP2_SETTINGS, "set protocol=grpc"), (b"\x15\x03\x01\x00\x02\x02\x46".hex(), "use an https:// endpoint")],
)
def test_another_protocol_on_the_port_is_named(sent: str, hint: str) -> None:
    result, _ = exchange({"do": "raw", "bytes": sent})
    assert isinstance(result, Retryable)
    assert hint in result.message


def test_a_real_grpc_port_is_named() -> None:
    with FaultServer("grpc", {}) as server:
        transport = HttpTransport(otlp(f"http://127.0.0.1:{server.port}/v1/traces"))
        result = transport.send(payload(), 5)
        transport.close()
    assert isinstance(result, Retryable)
    assert "set protocol=grpc, or use the OTLP/HTTP port, usually 4318" in result.message


def test_a_plaintext_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer_in_plaintext() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer_in_plaintext)
        thread.start()
        result = HttpTransport(otlp(f"https://127.0.0.1:{server.getsockname()[1]}/v1/traces")).send(payload(), 5)
        thread.join()
    assert result == Retryable("connection", None, "the port doesn't speak TLS: use an http:// endpoint")


def test_own_requests_stay_out_of_the_log(caplog: pytest.LogCaptureFixture, open_books: Any) -> None:
    caplog.set_level(logging.DEBUG)
    with FaultServer("http", answer(200)) as server:
        books = open_books(HttpTransport(otlp(server.endpoint)))
        books.submit(payload(3))
        assert books.flush()
        assert books.shutdown()
    assert caplog.records == []


def test_end_to_end_through_an_outage(open_books: Any) -> None:
    outage = [answer(503), {"do": "reset"}, answer(429), {"do": "drip"}]
    with FaultServer("http", *outage, answer(200), answer(200, partial_success(2)), answer(400), answer(200)) as server:
        books = open_books(HttpTransport(otlp(server.endpoint)), limits=Limits(try_timeout_s=0.5))
        books.submit(*[payload(5) for _ in range(4)])
        assert not books.flush(10)
        assert books.flush(10)
        requests = server.stop()
    snapshot = books.ledger.snapshot()
    assert (snapshot.ended, snapshot.delivered) == (20, 13)
    assert dict(snapshot.rejected) == {"partial_success": 2, "http_400": 5}
    assert len(requests) == 8
