"""Headers and tokens from files: read again when they change, and the last good one kept when they are none."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from otelagent.delivery import Accepted, Rejected, Result, Retryable, Transport
from otelagent.delivery.auth import watched
from otelagent.delivery.failures import INTERVAL_S
from otelagent.delivery.transports.grpc import GrpcTransport
from otelagent.delivery.transports.http import HttpTransport
from tests.delivery.conftest import OpenBooks
from tests.delivery.harness import FaultServer, otlp, payload, secret
from tests.support import wait_until

OK: dict[str, dict[str, Any]] = {"http": {"status": 200, "takes": True}, "grpc": {"takes": True}}
REFUSAL: dict[str, dict[str, Any]] = {"http": {"status": 401}, "grpc": {"code": "UNAUTHENTICATED"}}
REASON = {"http": "http_401", "grpc": "grpc_unauthenticated"}


@pytest.fixture(params=["http", "grpc"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def transport(server: FaultServer, protocol: str, **settings: Any) -> Transport:
    if protocol == "http":
        return HttpTransport(otlp(server.endpoint, **settings))
    return GrpcTransport(otlp(f"http://127.0.0.1:{server.port}", protocol="grpc", **settings))


def write(path: Path, text: str, age_s: int = 1) -> None:
    """Puts a file in place, as if it had been written some time ago."""
    path.write_text(text)
    now_ns = time.time_ns()
    os.utime(path, ns=(now_ns, now_ns - age_s * 10**9))


class Sender:
    """A transport, its server and what the server got."""

    def __init__(self, protocol: str, *script: dict[str, Any], **settings: Any) -> None:
        self.server = FaultServer(protocol, *(script or (OK[protocol],)))
        self.transport = transport(self.server, protocol, **settings)

    def send(self) -> Result:
        return self.transport.send(payload(), 5)

    def sent(self, name: str = "authorization") -> list[str | None]:
        """A header of each request."""
        return [request["headers"].get(name) for request in self.server.requests]

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, *_: object) -> None:
        self.transport.close()
        if self.server.running:
            self.server.stop()


def refusing_all_but(protocol: str, *accepted: str) -> dict[str, Any]:
    return {**OK[protocol], "accepts": list(accepted), "otherwise": REFUSAL[protocol]}


def test_a_token_is_sent_and_read_again_when_it_changes(tmp_path: Path, protocol: str) -> None:
    path = tmp_path / "token"
    write(path, "one\n")
    with Sender(protocol, bearer_token_file=str(path)) as sender:
        assert sender.send() == Accepted()
        write(path, "two")
        assert sender.send() == Accepted()
        sender.server.stop()
        assert sender.sent() == ["Bearer one", "Bearer two"]


def test_headers_of_a_file_go_over_those_of_the_configuration(tmp_path: Path, protocol: str) -> None:
    path = tmp_path / "headers"
    write(path, "# of the tenant\nX-Tenant: blue\n\n x-key : a:b=c \r\n")
    settings = {"headers": {"x-tenant": secret("red"), "x-more": secret("1")}, "headers_file": str(path)}
    with Sender(protocol, **settings) as sender:
        assert sender.send() == Accepted()
        write(path, "x-tenant: green")
        assert sender.send() == Accepted()
        sender.server.stop()
        assert sender.sent("x-tenant") == ["blue", "green"]
        assert sender.sent("x-key") == ["a:b=c", None]
        assert sender.sent("x-more") == ["1", "1"]


def test_a_token_that_kubernetes_swaps(tmp_path: Path) -> None:
    def put(version: str) -> None:
        (tmp_path / version).mkdir()
        write(tmp_path / version / "token", f"token-{version}")
        (tmp_path / "..data_tmp").symlink_to(version)
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")

    put("..1")
    (tmp_path / "token").symlink_to("..data/token")
    with Sender("http", bearer_token_file=str(tmp_path / "token")) as sender:
        assert sender.send() == Accepted()
        put("..2")
        assert sender.send() == Accepted()
        sender.server.stop()
        assert sender.sent() == ["Bearer token-..1", "Bearer token-..2"]


@pytest.mark.parametrize("bad", ["", "\n", "two tokens", "tök", "x" * 70_000, None])
@pytest.mark.parametrize("setting", ["bearer_token_file", "headers_file"])
def test_what_is_no_token_leaves_the_last_one(
    tmp_path: Path, setting: str, bad: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "file"
    good = {"bearer_token_file": "s3cret", "headers_file": "authorization: Bearer s3cret"}[setting]
    write(path, good)
    with caplog.at_level(logging.WARNING, "otelagent.delivery"), Sender("http", **{setting: str(path)}) as sender:
        assert sender.send() == Accepted()
        if bad is None:
            path.unlink()
        else:
            write(path, bad)
        for _ in range(3):
            assert sender.send() == Accepted()
        write(path, good.replace("s3cret", "new"))
        assert sender.send() == Accepted()
        sender.server.stop()
        assert sender.sent() == [*["Bearer s3cret"] * 4, "Bearer new"]
    (warning,) = [record.getMessage() for record in caplog.records]
    assert str(path) in warning
    assert "what was read before is still used" in warning
    assert "s3cret" not in warning
    assert INTERVAL_S == 60


def test_what_was_written_a_moment_ago_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watched, "_SETTLING_S", 60.0)  # Longer than any machine is slow.
    path = tmp_path / "token"
    write(path, "whole", age_s=120)
    with Sender("http", bearer_token_file=str(path)) as sender:
        assert sender.send() == Accepted()
        path.write_text("ha")
        assert sender.send() == Accepted()
        write(path, "half", age_s=120)
        assert sender.send() == Accepted()
        sender.server.stop()
        assert sender.sent() == ["Bearer whole", "Bearer whole", "Bearer half"]
    assert caplog.records == []


@pytest.mark.parametrize("setting", ["bearer_token_file", "headers_file"])
def test_a_file_that_comes_later(tmp_path: Path, protocol: str, setting: str, open_books: OpenBooks) -> None:
    path = tmp_path / "later"
    with Sender(protocol, **{setting: str(path)}) as sender:
        missing = sender.send()
        assert missing == Retryable("credentials", None, f"{path}: No such file or directory")
        books = open_books(sender.transport)
        books.submit(payload(3))
        wait_until(lambda: books.destination.status()["last_error"] is not None)
        write(path, "authorization: Bearer here" if setting == "headers_file" else "here")
        assert books.flush(10)
        assert books.ledger.snapshot().delivered == 3
        wait_until(lambda: len(sender.server.requests) == 1)
        assert sender.sent() == ["Bearer here"]


def test_a_refused_token_is_read_again_and_the_payload_sent_once_more(tmp_path: Path, protocol: str) -> None:
    path = tmp_path / "token"
    write(path, "old")
    with Sender(protocol, refusing_all_but(protocol, "Bearer new"), bearer_token_file=str(path)) as sender:
        assert rejected(sender.send()) == REASON[protocol]
        look = path.stat()
        # A change that no look at the file shows.
        path.write_text("new")
        os.utime(path, ns=(look.st_atime_ns, look.st_mtime_ns))
        assert sender.send() == Accepted()
        sender.server.stop()
        assert sender.sent() == ["Bearer old", "Bearer old", "Bearer new"]


def test_a_refused_token_whose_file_is_gone_may_come_back(tmp_path: Path, protocol: str) -> None:
    path = tmp_path / "token"
    write(path, "old")
    with Sender(protocol, refusing_all_but(protocol, "Bearer new"), bearer_token_file=str(path)) as sender:
        sender.send()
        path.unlink()
        assert sender.send() == Retryable("credentials", None, f"{path}: No such file or directory")
        write(path, "new")
        assert sender.send() == Accepted()


def test_credentials_that_can_not_change_are_refused_once(protocol: str) -> None:
    refusal = REFUSAL[protocol]
    with Sender(protocol, refusal, headers={"authorization": secret("Bearer old")}) as sender:
        assert rejected(sender.send()) == REASON[protocol]
        assert len(sender.server.stop()) == 1


def test_a_token_of_a_file_that_is_quoted_back_is_not_shown(tmp_path: Path, protocol: str) -> None:
    path = tmp_path / "token"
    write(path, "first-s3cret")
    text = "no access for later-s3cret"
    action = {"code": "UNAUTHENTICATED", "details": text}
    if protocol == "http":
        action = {"status": 401, "headers": {"content-type": "text/plain"}, "body": text.encode().hex()}  # type: ignore[dict-item]
    with Sender(protocol, action, bearer_token_file=str(path)) as sender:
        sender.send()
        write(path, "later-s3cret")
        result = sender.send()
        assert isinstance(result, Rejected)
        assert result.message == "no access for ***; check the credentials"


class Storm:
    """A token file that changes a hundred times a second: emptied, cut, replaced, swapped, removed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.path = directory / "token"
        write(self.path, "good")
        self.changes = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(0.01):
            (self._empty, self._cut, self._replace, self._swap, self._remove)[self.changes % 5]()
            self.changes += 1

    def _empty(self) -> None:
        self.path.write_text("")

    def _cut(self) -> None:
        self.path.write_text("go")

    def _replace(self) -> None:
        write(self._directory / "new", "good")
        (self._directory / "new").rename(self.path)

    def _swap(self) -> None:
        target = self._directory / f"target-{self.changes % 2}"
        write(target, "good")
        (self._directory / "link").symlink_to(target.name)
        (self._directory / "link").rename(self.path)

    def _remove(self) -> None:
        self.path.unlink()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()


@pytest.fixture
def storm(tmp_path: Path) -> Iterator[Storm]:
    begun = Storm(tmp_path)
    yield begun
    begun.stop()


def test_a_storm_of_changes_loses_nothing(storm: Storm, protocol: str, open_books: OpenBooks) -> None:
    with Sender(protocol, refusing_all_but(protocol, "Bearer good"), bearer_token_file=str(storm.path)) as sender:
        books = open_books(sender.transport)
        for number in range(100):
            books.submit(payload(2, f"work {number}"))
            wait_until(lambda number=number: storm.changes > number)  # type: ignore[misc]
        assert books.flush(60)
        snapshot = books.ledger.snapshot()
        assert (snapshot.delivered, snapshot.ended) == (200, 200)
        assert storm.changes >= 100


def rejected(result: Result) -> str:
    assert isinstance(result, Rejected)
    return result.reason


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_pipe_and_a_directory_are_no_files(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "token"
    make(path)
    with Sender("http", bearer_token_file=str(path)) as sender:
        assert sender.send() == Retryable("credentials", None, f"{path}: not a regular file")
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            sender.send()
        assert len(os.listdir("/proc/self/fd")) == before
