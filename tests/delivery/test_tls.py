from __future__ import annotations

import shutil
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from otelagent.delivery import Accepted, Result, Retryable, Transport
from otelagent.delivery.transports.grpc import GrpcTransport
from otelagent.delivery.transports.http import HttpTransport
from tests.delivery.certificates import Authority
from tests.delivery.harness import otlp, payload

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make certificates")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`ca.pem`, and `server` and `client` certificates with keys that it has signed."""
    directory = tmp_path_factory.mktemp("certificates")
    authority = Authority(directory)
    for name in ("server", "client"):
        authority.sign(name)
    return directory


class Accepting(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


class Quiet(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None: ...  # A refused handshake.


@pytest.fixture(params=[False, True], ids=["TLS", "mutual TLS"])
def mutual(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def http_port(certificates: Path, mutual: bool) -> Iterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    if mutual:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(certificates / "ca.pem")
    with Quiet(("127.0.0.1", 0), Accepting) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture
def grpc_port(certificates: Path, mutual: bool) -> Iterator[int]:
    from concurrent import futures

    import grpc

    def read(name: str) -> bytes:
        return (certificates / name).read_bytes()

    credentials = grpc.ssl_server_credentials(
        [(read("server.key"), read("server.pem"))], read("ca.pem") if mutual else None, require_client_auth=mutual
    )
    server = grpc.server(futures.ThreadPoolExecutor(1))
    export: Any = grpc.unary_unary_rpc_method_handler(lambda request, context: b"", None, None)
    service = "opentelemetry.proto.collector.trace.v1.TraceService"
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Export": export}),))
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    yield port
    server.stop(None).wait()


def send(transport: Transport) -> Result:
    try:
        return transport.send(payload(), 5)
    finally:
        transport.close()


def settings(certificates: Path, *, mutual: bool) -> dict[str, Any]:
    client = {"client_certificate": str(certificates / "client.pem"), "client_key": str(certificates / "client.key")}
    return {"certificate": str(certificates / "ca.pem"), **(client if mutual else {})}


def test_http(http_port: int, certificates: Path, mutual: bool) -> None:
    endpoint = f"https://127.0.0.1:{http_port}/v1/traces"
    assert send(HttpTransport(otlp(endpoint, **settings(certificates, mutual=mutual)))) == Accepted()
    unknown = send(HttpTransport(otlp(endpoint)))
    assert isinstance(unknown, Retryable)
    assert "CERTIFICATE_VERIFY_FAILED" in unknown.message
    plain = send(HttpTransport(otlp(endpoint.replace("https:", "http:"))))
    assert isinstance(plain, Retryable)
    assert plain.reason == "connection"
    if mutual:
        assert isinstance(send(HttpTransport(otlp(endpoint, certificate=str(certificates / "ca.pem")))), Retryable)


def test_grpc(grpc_port: int, certificates: Path, mutual: bool) -> None:
    endpoint = f"https://127.0.0.1:{grpc_port}"
    assert send(GrpcTransport(otlp(endpoint, **settings(certificates, mutual=mutual)))) == Accepted()
    unknown = send(GrpcTransport(otlp(endpoint)))
    assert isinstance(unknown, Retryable)
    assert unknown.reason == "grpc_unavailable"
    if mutual:
        assert isinstance(send(GrpcTransport(otlp(endpoint, certificate=str(certificates / "ca.pem")))), Retryable)
