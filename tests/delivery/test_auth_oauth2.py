"""Tokens by the client-credentials grant, from a token endpoint in a process of its own."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from otelagent.config.model import OAuth2
from otelagent.delivery import Accepted, Rejected, Result, Retryable, Transport
from otelagent.delivery.auth import Unavailable, oauth2
from otelagent.delivery.auth.oauth2 import ClientCredentials, client_credentials
from otelagent.delivery.failures import FailureLog
from otelagent.delivery.transports.grpc import GrpcTransport
from otelagent.delivery.transports.http import HttpTransport
from tests.delivery.conftest import OpenBooks
from tests.delivery.harness import FaultServer, TokenServer, otlp, payload, secret
from tests.support import wait_until

SECRET = "cl:ient s3cret/+&="

OK: dict[str, dict[str, Any]] = {"http": {"status": 200}, "grpc": {}}
REFUSAL: dict[str, dict[str, Any]] = {"http": {"status": 401}, "grpc": {"code": "UNAUTHENTICATED"}}
REASON = {"http": "http_401", "grpc": "grpc_unauthenticated"}


@pytest.fixture(params=["http", "grpc"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def tokens() -> Iterator[TokenServer]:
    with TokenServer(secret=SECRET) as server:
        yield server


def client(url: str, **changes: Any) -> dict[str, Any]:
    return {"token_url": url, "client_id": "shop", "client_secret": secret(SECRET), **changes}


def settings(url: str, **changes: Any) -> OAuth2:
    return otlp("http://127.0.0.1:1", oauth2=client(url, **changes)).oauth2


def source(url: str, **changes: Any) -> ClientCredentials:
    return ClientCredentials(settings(url, **changes), FailureLog("the test"))


def ask(credentials: ClientCredentials, timeout_s: float = 5.0) -> str:
    return credentials.headers(time.monotonic() + timeout_s)["authorization"]


def transport(server: FaultServer, protocol: str, url: str, **changes: Any) -> Transport:
    if protocol == "http":
        return HttpTransport(otlp(server.endpoint, oauth2=client(url, **changes)))
    endpoint = f"http://127.0.0.1:{server.port}"
    return GrpcTransport(otlp(endpoint, protocol="grpc", oauth2=client(url, **changes)))


def only(*accepted: str, protocol: str = "http") -> dict[str, Any]:
    """What a server does that takes these tokens alone."""
    return {**OK[protocol], "accepts": [f"Bearer {token}" for token in accepted], "otherwise": REFUSAL[protocol]}


def rejected(result: Result) -> str:
    assert isinstance(result, Rejected)
    return result.reason


def answer(status: int, fields: Any, **headers: str) -> dict[str, Any]:
    body = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    return {"status": status, "headers": {"content-type": "application/json", **headers}, "body": body.hex()}


def failure(script: dict[str, Any], timeout_s: float = 5.0, **changes: Any) -> Unavailable:
    """What a scripted token endpoint leads to."""
    with FaultServer("http", script) as server, pytest.raises(Unavailable) as caught:
        ask(source(server.endpoint, **changes), timeout_s)
    assert "s3cret" not in f"{caught.value!r} {caught.value}"
    return caught.value


def test_one_token_serves_many_exports(tokens: TokenServer, protocol: str) -> None:
    parameters = {"audience": secret("a&b"), "resource": secret("r")}
    with FaultServer(protocol, only("token-1", protocol=protocol)) as server:
        sending = transport(server, protocol, tokens.url, scopes=("write", "read"), parameters=parameters)
        assert [sending.send(payload(), 5) for _ in range(3)] == [Accepted()] * 3
        sending.close()
        assert sending.send(payload(), 5) == Accepted()
        sending.close()
    (request,) = tokens.stop()
    assert request["fields"] == {
        "grant_type": "client_credentials",
        "scope": "write read",
        "audience": "a&b",
        "resource": "r",
    }
    assert (request["method"], request["client"]) == ("basic", "shop")
    assert request["media"] == "application/x-www-form-urlencoded"


def test_an_endpoint_that_wants_the_secret_in_the_body(tokens: TokenServer) -> None:
    tokens.begin(secret=SECRET, method="post", lifetime_s=0)
    credentials = source(tokens.url)
    assert [ask(credentials), ask(credentials)] == ["Bearer token-1", "Bearer token-2"]
    assert [request["method"] for request in tokens.stop()] == ["basic", "post", "post"]


def test_a_token_is_renewed_before_its_end_and_used_until_then(
    tokens: TokenServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(oauth2, "_RENEWED_FROM", 0.0)
    monkeypatch.setattr(oauth2, "_RENEWED_UNTIL", 0.0)
    tokens.begin(secret=SECRET, lifetime_s=3600)
    credentials = source(tokens.url)
    assert [ask(credentials), ask(credentials)] == ["Bearer token-1", "Bearer token-2"]
    tokens.begin(secret="another", echo=True)
    with caplog.at_level(logging.WARNING, "otelagent.delivery"):
        assert [ask(credentials) for _ in range(3)] == ["Bearer token-2"] * 3
    assert len(tokens.stop()) == 3  # The third fails, and then there is none for some seconds.
    (warning,) = caplog.records
    assert "the token that is there is used while it is valid" in warning.getMessage()
    assert "s3cret" not in warning.getMessage()


def test_the_time_of_the_renewal_is_spread(tokens: TokenServer) -> None:
    tokens.begin(secret=SECRET, lifetime_s=1000)
    begun_s = time.monotonic()
    renewals_s = []
    for _ in range(10):
        credentials = source(tokens.url)
        ask(credentials)
        renewals_s.append(credentials._renew_at_s)
    taken_s = time.monotonic() - begun_s
    assert min(renewals_s) >= begun_s + 800
    assert max(renewals_s) <= begun_s + taken_s + 900
    assert max(renewals_s) - min(renewals_s) > 5


@pytest.mark.parametrize("lifetime", [0, -5, "0"])
def test_a_token_that_is_over_at_once_serves_the_try_it_was_fetched_for(tokens: TokenServer, lifetime: object) -> None:
    tokens.begin(secret=SECRET, lifetime_s=lifetime)
    credentials = source(tokens.url)
    assert [ask(credentials), ask(credentials)] == ["Bearer token-1", "Bearer token-2"]


@pytest.mark.parametrize("lifetime", ["3600", "soon", None, [], 1e300, True])
def test_other_lifetimes(tokens: TokenServer, lifetime: object) -> None:
    tokens.begin(secret=SECRET, lifetime_s=lifetime)
    credentials = source(tokens.url)
    assert ask(credentials) == "Bearer token-1"


def test_a_refused_token_is_renewed_once_and_the_payload_sent_again(tokens: TokenServer, protocol: str) -> None:
    # As if the first one had been revoked after the first request.
    script = [only(f"token-{number}", protocol=protocol) for number in (1, 2)]
    with FaultServer(protocol, *script) as server:
        sending = transport(server, protocol, tokens.url)
        assert sending.send(payload(), 5) == Accepted()
        assert sending.send(payload(), 5) == Accepted()
        assert sending.send(payload(), 5) == Accepted()
        sending.close()
        sent = [request["headers"]["authorization"] for request in server.stop()]
    assert sent == ["Bearer token-1", "Bearer token-1", "Bearer token-2", "Bearer token-2"]
    assert len(tokens.stop()) == 2


def test_a_server_that_refuses_every_token(tokens: TokenServer, protocol: str, open_books: OpenBooks) -> None:
    with FaultServer(protocol, REFUSAL[protocol]) as server:
        books = open_books(transport(server, protocol, tokens.url))
        for _ in range(3):
            books.submit(payload(2))
        assert not books.flush()
        assert dict(books.ledger.snapshot().rejected) == {REASON[protocol]: 6}
        # The first payload twice; the others once: the token of the refusal is refused too, and none is fetched soon.
        assert len(server.stop()) == 4
    assert len(tokens.stop()) == 2


def test_a_new_token_that_was_accepted_is_renewed_when_it_is_refused(tokens: TokenServer, protocol: str) -> None:
    script = [only(f"token-{number}", protocol=protocol) for number in (1, 2, 2, 3, 3)]
    with FaultServer(protocol, *script) as server:
        # Another header beside the token's.
        settings: dict[str, Any] = {"headers": {"x-tenant": secret("blue")}, "oauth2": client(tokens.url)}
        sending: Transport = HttpTransport(otlp(server.endpoint, **settings))
        if protocol == "grpc":
            sending = GrpcTransport(otlp(f"http://127.0.0.1:{server.port}", **settings))
        assert [sending.send(payload(), 5) for _ in range(3)] == [Accepted()] * 3
        sending.close()
    assert len(tokens.stop()) == 3


def test_a_new_token_is_tried_again_some_time_later(tokens: TokenServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oauth2, "_USELESS_S", 0.0)
    with FaultServer("http", REFUSAL["http"]) as server:
        sending = transport(server, "http", tokens.url)
        for _ in range(2):
            assert rejected(sending.send(payload(), 5)) == "http_401"
        sending.close()
        assert len(server.stop()) == 4
    assert len(tokens.stop()) == 3


def test_a_token_endpoint_that_is_down_keeps_the_payload(protocol: str, open_books: OpenBooks) -> None:
    with TokenServer(secret="not yet") as tokens, FaultServer(protocol, only("token-1", protocol=protocol)) as server:
        books = open_books(transport(server, protocol, tokens.url))
        books.submit(payload(3))
        wait_until(lambda: books.destination.status()["last_error"] is not None)
        error = books.destination.status()["last_error"]
        assert isinstance(error, dict)
        assert error["reason"] == "credentials"
        assert error["message"] == f"the token endpoint {tokens.url}: HTTP 401, invalid_client: unknown client"
        tokens.begin(secret=SECRET)
        assert books.flush(10)
        assert books.ledger.snapshot().delivered == 3


def test_a_renewal_that_fails_after_a_refusal_keeps_the_payload(tokens: TokenServer, protocol: str) -> None:
    with FaultServer(protocol, only("token-2", protocol=protocol)) as server:
        sending = transport(server, protocol, tokens.url)
        credentials = client_credentials(settings(tokens.url), FailureLog("the test"))
        assert ask(credentials) == "Bearer token-1"
        tokens.begin(secret="changed")
        result = sending.send(payload(), 5)
        assert isinstance(result, Retryable)
        assert result.reason == "credentials"
        tokens.begin(secret=SECRET)
        assert sending.send(payload(), 5) == Accepted()
        sending.close()


def test_the_secret_of_a_file_is_read_for_every_token(tokens: TokenServer, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    tokens.begin(secret=SECRET, lifetime_s=0)
    credentials = source(tokens.url, client_secret=None, client_secret_file=str(path))
    with pytest.raises(Unavailable, match=f"{path}: No such file or directory"):
        ask(credentials)
    path.write_text(SECRET + "\n")
    assert ask(credentials) == "Bearer token-1"
    tokens.begin(secret="renewed", lifetime_s=0)
    (tmp_path / "new").write_text("renewed")
    (tmp_path / "new").rename(path)
    wait_until(lambda: renewed(credentials))


def renewed(credentials: ClientCredentials) -> bool:
    try:
        return ask(credentials).startswith("Bearer ")
    except Unavailable:
        return False  # The file is too young.


def test_transports_with_the_same_settings_share_a_token(tokens: TokenServer) -> None:
    with FaultServer("http", OK["http"]) as http, FaultServer("grpc", OK["grpc"]) as grpc:
        both = [transport(http, "http", tokens.url), transport(grpc, "grpc", tokens.url)]
        other = transport(http, "http", tokens.url, scopes=("logs",))
        for one in (*both, other):
            assert one.send(payload(), 5) == Accepted()
            one.close()
        sent = [request["headers"]["authorization"] for request in http.stop() + grpc.stop()]
    assert sent == ["Bearer token-1", "Bearer token-2", "Bearer token-1"]


@pytest.mark.parametrize("right", [True, False])
def test_one_request_at_a_time(tokens: TokenServer, right: bool) -> None:
    tokens.begin(secret=SECRET if right else "another", delay_s=0.3, method="basic")
    credentials = source(tokens.url)
    credentials._in_body = False
    outcomes: list[str] = []

    def use() -> None:
        try:
            outcomes.append(ask(credentials, 20))
        except Unavailable as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(outcomes)) == 1
    assert len(outcomes) == 8
    assert len(tokens.stop()) == 1


@pytest.mark.parametrize(
    ("script", "told"),
    [
        (answer(200, {}), "the answer has no access_token"),
        (answer(200, {"access_token": ""}), "the answer has no access_token"),
        (answer(200, {"access_token": "two s3cret"}), "the answer has no access_token"),
        (answer(200, {"access_token": "a\r\nx: y"}), "the answer has no access_token"),
        (answer(200, {"access_token": 7}), "the answer has no access_token"),
        (answer(200, {"access_token": "s3cret", "token_type": "mac"}), "the answer's token_type isn't Bearer"),
        (answer(200, ["s3cret"]), "the answer has no access_token"),
        (answer(200, b"<html>s3cret"), "the answer has no access_token"),
        (answer(200, b"[" * 50_000), "the answer has no access_token"),
        (answer(200, b"x" * 70_000), "the answer is longer than 65536 bytes"),
        ({"do": "endless"}, "the answer is longer than 65536 bytes"),
        ({"do": "bomb", "bytes": 10**7}, "the answer is longer than 65536 bytes"),
        ({"do": "reset"}, ""),
        ({"do": "drip"}, "no answer within the time of a try"),
        ({"do": "stall"}, "no answer within the time of a try"),
        (answer(500, b""), "HTTP 500"),
        (answer(302, b"", location="http://127.0.0.1:1/"), "HTTP 302, a redirect, which isn't followed"),
        (answer(307, b"", location="http://127.0.0.1:1/"), "HTTP 307, a redirect, which isn't followed"),
    ],
)
def test_token_endpoints_that_misbehave(script: dict[str, Any], told: str) -> None:
    slow = script.get("do") in ("drip", "stall")
    begun_s = time.monotonic()
    assert told in str(failure(script, 1.0 if slow else 20.0))
    if slow:
        assert time.monotonic() - begun_s < 15  # The drip alone would take 50 s, the stall 60.


def test_an_endpoint_that_asks_for_a_wait_gets_it() -> None:
    assert failure(answer(429, {"error": "slow_down"}, **{"retry-after": "7"})).after_s == 7
    assert failure(answer(503, b"")).after_s is None


@pytest.mark.parametrize("quoted", [SECRET, "cl%3Aient+s3cret%2F%2B%26%3D", "audience-s3cret"])
def test_an_endpoint_that_quotes_the_secret_is_not_quoted(quoted: str) -> None:
    script = answer(401, {"error": "invalid_client", "error_description": f"no client with {quoted}."})
    error = failure(script, parameters={"audience": secret("audience-s3cret")})
    assert "HTTP 401, invalid_client: no client with ***" in str(error)


def test_nothing_of_it_is_in_a_repr(tokens: TokenServer) -> None:
    configured = otlp("http://h", oauth2=client(f"{tokens.url}?key=s3cret", parameters={"p": secret("s3cret")}))
    credentials = client_credentials(settings(tokens.url), FailureLog("the test"))
    ask(credentials)
    shown = f"{configured!r} {configured.oauth2!r} {credentials!r} {credentials._token!r}"
    assert "s3cret" not in shown
    assert "token-1" not in shown


def test_the_environments_proxies_are_not_used(tokens: TokenServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultServer("http", answer(200, {"access_token": "of-the-proxy"})) as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("NO_PROXY", "elsewhere")
        assert ask(source(tokens.url)) == "Bearer token-1"
        with pytest.raises(Unavailable):
            ask(source("https://localhost:1/token"))
        assert proxy.stop() == []


FORK = """
import os, sys, threading, time
from tests.delivery.test_auth_oauth2 import ask, source

credentials = source(sys.argv[1])
thread = threading.Thread(target=lambda: tokens.append(ask(credentials, 20)))
tokens = []
thread.start()
while credentials._network is None or not credentials._network.streams:
    time.sleep(0.001)
child = os.fork()
if not child:
    credentials.after_fork_in_child()
    print(ask(credentials, 20), flush=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
thread.join()
print(tokens[0])
"""


def test_a_fork_in_the_middle_of_a_request(tokens: TokenServer) -> None:
    tokens.begin(secret=SECRET, delay_s=0.5)
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", FORK, tokens.url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split("\n")) == ["", "Bearer token-1", "Bearer token-2"]
