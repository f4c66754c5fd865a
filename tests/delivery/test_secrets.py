"""Credentials that a server quotes back never reach the application's log."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from otelagent.delivery import Rejected, Result
from otelagent.delivery.otlp import clean_text, secrets_in
from otelagent.delivery.transports.grpc import GrpcTransport
from otelagent.delivery.transports.http import HttpTransport
from tests.delivery.harness import FaultServer, otlp, payload, secret

BASIC = base64.b64encode(b"reader:pass/word").decode()


def refused(protocol: str, quoted: str, userinfo: str, headers: dict[str, str]) -> Result:
    """What a payload came to at a server that refuses it with `quoted`."""
    http = protocol == "http"
    action: dict[str, Any] = {"code": "UNAUTHENTICATED", "details": quoted}
    if http:
        action = {"status": 401, "body": quoted.encode().hex(), "headers": {"content-type": "text/plain"}}
    with FaultServer(protocol, action) as server:
        endpoint = f"http://{userinfo}127.0.0.1:{server.port}/v1/traces"
        settings = otlp(endpoint, headers={name: secret(value) for name, value in headers.items()})
        transport = HttpTransport(settings) if http else GrpcTransport(settings)
        try:
            return transport.send(payload(), 5)
        finally:
            transport.close()


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize(
    ("quoted", "userinfo", "headers"),
    [
        ("invalid token s3cr3t-abc", "", {"authorization": "Bearer s3cr3t-abc"}),
        ("invalid header Bearer s3cr3t-abc", "", {"authorization": "Bearer s3cr3t-abc"}),
        (f"bad credentials: Basic {BASIC}", "", {"authorization": f"Basic {BASIC}"}),
        ("no user reader with pass/word", "", {"authorization": f"Basic {BASIC}"}),
        (f"bad credentials: Basic {BASIC}", "reader:pass%2Fword@", {}),
        (f"bad credentials: {BASIC.rstrip('=')}", "reader:pass%2Fword@", {}),
        ("no user reader with pass/word or pass%2Fword", "reader:pass%2Fword@", {}),
        ("no session s3cr3t-abc", "", {"cookie": "session=s3cr3t-abc; theme=dark"}),
    ],
)
def test_a_server_that_quotes_a_part_of_a_credential_is_not_quoted(
    protocol: str, quoted: str, userinfo: str, headers: dict[str, str]
) -> None:
    result = refused(protocol, quoted, userinfo, headers)
    assert isinstance(result, Rejected)
    assert "***" in result.message
    for part in ("s3cr3t-abc", BASIC.rstrip("="), "reader", "pass/word", "pass%2Fword"):
        assert part not in result.message
    assert "check the credentials" in result.message


def test_the_words_around_a_credential_stay() -> None:
    secrets = secrets_in({"authorization": "Bearer s3cr3t-abc"}, "http://shop:4318/v1/traces")
    assert clean_text("invalid Bearer token s3cr3t-abc", secrets) == "invalid Bearer token ***"


def test_a_vendors_token_in_the_query_of_the_endpoint_is_a_secret() -> None:
    secrets = secrets_in({}, "http://shop/v1/traces?api-key=s3cr3t%2Fabc")
    assert clean_text("no key s3cr3t/abc in ?api-key=s3cr3t%2Fabc", secrets) == "no key *** in ?***"


def test_a_credential_that_holds_another_leaves_nothing() -> None:
    secrets = secrets_in({"x-user": "reader", "x-token": "reader-s3cr3t"}, "http://shop/")
    assert clean_text("reader-s3cr3t of reader", secrets) == "*** of ***"


@pytest.mark.parametrize("value", ["Basic", "Basic ", "Basic !!!!", "Basic /////w==", " ", "="])
def test_a_malformed_credential_is_no_failure(value: str) -> None:
    secrets_in({"authorization": value}, "http://@shop/")
