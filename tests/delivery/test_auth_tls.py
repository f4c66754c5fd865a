"""Certificates that change on disk: the next connection has the new ones, and the last good ones stay meanwhile."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from otelagent.delivery import Accepted, Retryable, Transport
from otelagent.delivery.auth import Unavailable
from otelagent.delivery.auth.oauth2 import ClientCredentials
from otelagent.delivery.failures import FailureLog
from otelagent.delivery.transports.grpc import GrpcTransport
from otelagent.delivery.transports.http import HttpTransport
from tests.delivery.certificates import Authority
from tests.delivery.conftest import OpenBooks
from tests.delivery.harness import FaultServer, otlp, payload, secret
from tests.support import wait_until

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make certificates")

OK: dict[str, dict[str, Any]] = {"http": {"status": 200}, "grpc": {}}


@pytest.fixture(params=["http", "grpc"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Files:
    """The certificates of an agent, in places of their own, as a rotation would replace them."""

    def __init__(self, made: Path) -> None:
        (made / "agent").mkdir()
        self.authorities = [Authority(made, f"authority-{number}") for number in range(2)]
        self.servers = [authority.sign(f"server-{n}") for n, authority in enumerate(self.authorities)]
        self.clients = [self.authorities[0].sign(f"client-{number}") for number in range(2)]
        self.ca, self.certificate, self.key = (made / "agent" / name for name in ("ca", "certificate", "key"))
        put(self.ca, self.authorities[0].certificate)
        self.put_client(0)

    def put_client(self, number: int) -> None:
        certificate, key = self.clients[number]
        put(self.certificate, certificate)
        put(self.key, key)

    @property
    def settings(self) -> dict[str, str]:
        return {
            "certificate": str(self.ca),
            "client_certificate": str(self.certificate),
            "client_key": str(self.key),
        }


def put(path: Path, source: Path | str) -> None:
    """Puts a file in place, as if it had been written some time ago."""
    path.write_text(source if isinstance(source, str) else source.read_text())
    now_ns = time.time_ns()
    os.utime(path, ns=(now_ns, now_ns - 10**9))


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture
def server(files: Files, protocol: str) -> Iterator[FaultServer]:
    tls = (*files.servers[0], files.authorities[0].certificate)
    with FaultServer(protocol, OK[protocol], tls=tls) as started:
        yield started


def transport(protocol: str, port: int, files: Files) -> Transport:
    if protocol == "http":
        return HttpTransport(otlp(f"https://127.0.0.1:{port}/v1/traces", **files.settings))
    return GrpcTransport(otlp(f"https://127.0.0.1:{port}", protocol="grpc", **files.settings))


def connections(requests: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(request["client"], str(request["peer"])) for request in requests]


def test_a_new_client_certificate_is_for_the_next_connection(
    files: Files, server: FaultServer, protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    sending = transport(protocol, server.port, files)
    with caplog.at_level(logging.WARNING, "otelagent.delivery"):
        assert [sending.send(payload(), 10) for _ in range(2)] == [Accepted()] * 2
        # The two files of a rotation never come at once: between them, they don't belong together.
        put(files.certificate, files.clients[1][0])
        assert [sending.send(payload(), 10) for _ in range(2)] == [Accepted()] * 2
        put(files.key, files.clients[1][1])
        assert [sending.send(payload(), 10) for _ in range(2)] == [Accepted()] * 2
        sending.close()
    told = connections(server.stop())
    assert [client for client, _ in told] == [*["client-0"] * 4, *["client-1"] * 2]
    assert len({peer for _, peer in told}) == 2
    (warning,) = [record.getMessage() for record in caplog.records]
    assert f"can't load the certificates: {files.certificate} or {files.key}" in warning


@pytest.mark.parametrize("bad", ["", "no certificate", "half", "missing"])
@pytest.mark.parametrize("name", ["ca", "certificate", "key"])
def test_files_that_are_none_leave_the_last_ones(
    files: Files, server: FaultServer, protocol: str, name: str, bad: str
) -> None:
    sending = transport(protocol, server.port, files)
    assert sending.send(payload(), 10) == Accepted()
    path: Path = getattr(files, name)
    good = path.read_text()
    if bad == "missing":
        path.unlink()
    else:
        put(path, good[: len(good) // 2] if bad == "half" else bad)
    assert sending.send(payload(), 10) == Accepted()
    sending.close()  # A connection made now has them too.
    assert sending.send(payload(), 10) == Accepted()
    put(path, good)
    assert sending.send(payload(), 10) == Accepted()
    sending.close()
    assert {client for client, _ in connections(server.stop())} == {"client-0"}


def test_a_new_authority_is_trusted(files: Files, protocol: str, open_books: OpenBooks) -> None:
    tls = (*files.servers[1], files.authorities[0].certificate)
    with FaultServer(protocol, OK[protocol], tls=tls) as server:
        books = open_books(transport(protocol, server.port, files))
        books.submit(payload(3))
        wait_until(lambda: books.destination.status()["last_error"] is not None)
        assert server.requests == []
        put(files.ca, files.authorities[1].certificate)
        assert books.flush(20)
        assert books.ledger.snapshot().delivered == 3


def test_certificates_that_come_later(files: Files, server: FaultServer, protocol: str) -> None:
    key = files.key.read_text()
    files.key.unlink()
    sending = transport(protocol, server.port, files)
    missing = sending.send(payload(), 10)
    assert missing == Retryable(
        "certificate", None, f"can't load the certificates: {files.key}: No such file or directory"
    )
    put(files.key, key)
    assert sending.send(payload(), 10) == Accepted()
    sending.close()


def test_a_key_may_be_in_the_file_of_its_certificate(files: Files, server: FaultServer, protocol: str) -> None:
    put(files.certificate, files.certificate.read_text() + files.key.read_text())
    settings = {**files.settings, "client_key": None}
    endpoint = f"https://127.0.0.1:{server.port}"
    if protocol == "http":
        sending: Transport = HttpTransport(otlp(f"{endpoint}/v1/traces", **settings))
    else:
        sending = GrpcTransport(otlp(endpoint, protocol="grpc", **settings))
    assert sending.send(payload(), 10) == Accepted()
    sending.close()


def test_an_encrypted_key_fails_and_asks_nobody(files: Files) -> None:
    import subprocess

    encrypted = files.key.with_name("encrypted")
    convert = ["openssl", "pkey", "-in", str(files.key), "-aes128", "-passout", "pass:x", "-out", str(encrypted)]
    subprocess.run(convert, check=True, capture_output=True)
    put(files.key, encrypted)
    result = HttpTransport(otlp("https://127.0.0.1:1/", **files.settings)).send(payload(), 1)
    assert isinstance(result, Retryable)
    assert result.reason == "certificate"


def test_the_token_endpoint_has_an_authority_of_its_own(files: Files) -> None:
    body = b'{"access_token": "a"}'.hex()
    with FaultServer("http", {"status": 200, "body": body}, tls=files.servers[1]) as server:
        fields = {"token_url": server.endpoint, "client_id": "shop", "client_secret": secret("s3cret")}

        def ask(certificate: Path) -> str:
            settings = otlp("http://h", oauth2={**fields, "certificate": str(certificate)}).oauth2
            return ClientCredentials(settings, FailureLog("x")).headers(time.monotonic() + 10)["authorization"]

        with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
            ask(files.authorities[0].certificate)
        with pytest.raises(Unavailable, match="No such file"):
            ask(files.ca.with_name("missing"))
        assert ask(files.authorities[1].certificate) == "Bearer a"
