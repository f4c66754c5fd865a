"""HTTP descriptions: names, required attributes, and what must never be recorded."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelagent.semconv.http import (
    ClientRequest,
    ServerRequest,
    client_error,
    redact_query,
    redact_url,
    route_name,
    server_error,
    split_host,
)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://shop/items", "http://shop/items"),
        ("http://user:pa@ss@shop/items", "http://REDACTED:REDACTED@shop/items"),
        ("http://user@shop:8080/", "http://REDACTED@shop:8080/"),
        ("https://user:pass@shop", "https://REDACTED:REDACTED@shop"),
        ("http://shop/by@mail?to=a@b", "http://shop/by@mail?to=a@b"),
        ("http://shop?x=1@2", "http://shop?x=1@2"),
        ("http://shop/i?AWSAccessKeyId=AKIA&b=2", "http://shop/i?AWSAccessKeyId=REDACTED&b=2"),
        ("http://shop/i?b=2&X-Amz-Signature=abc#part", "http://shop/i?b=2&X-Amz-Signature=REDACTED#part"),
        ("http://shop/i?TOKEN=a&sig=b&X-Goog-Signature=c", "http://shop/i?TOKEN=REDACTED&sig=REDACTED&X-Goog-Signature=REDACTED"),
        ("http://shop/i#access_token=a&x=1", "http://shop/i#access_token=REDACTED&x=1"),
        ("http://shop/i?x=1#access_token=a", "http://shop/i?x=1#access_token=REDACTED"),
        ("http://shop/i?x=1#/cb?code=a&x=1", "http://shop/i?x=1#/cb?code=REDACTED&x=1"),
        ("http://shop/i?tokens=3&postcode=10115", "http://shop/i?tokens=3&postcode=10115"),
    ],
)  # fmt: skip
def test_urls_carry_no_credentials(url: str, expected: str) -> None:
    assert redact_url(url) == expected
    assert ClientRequest("GET", url).attributes["url.full"] == expected


@given(
    st.text(max_size=40), st.sampled_from(["password", "Code", "api_key", "signature"]), st.text("ab%+=", max_size=20)
)
def test_a_secret_value_never_survives(before: str, key: str, secret: str) -> None:
    query = f"{before}&{key}=S3CRET{secret}&after=1"
    assert "S3CRET" not in redact_query(query)
    assert redact_query(query).endswith("&after=1")


@given(st.text(max_size=200))
def test_redaction_survives_anything(text: str) -> None:
    redact_url(text)
    split_host(text)
    ClientRequest(text, text)
    ServerRequest(text, text, host=text, query=text)


@pytest.mark.parametrize(
    ("method", "name", "recorded", "original"),
    [
        ("GET", "GET", "GET", None),
        ("get", "GET", "GET", "get"),
        ("QUERY", "QUERY", "QUERY", None),
        ("BREW", "HTTP", "_OTHER", "BREW"),
        ("", "HTTP", "_OTHER", ""),
    ],
)
def test_methods(method: str, name: str, recorded: str, original: str | None) -> None:
    for description in (ClientRequest(method, "http://a/"), ServerRequest(method, "/")):
        assert description.name == name
        assert description.attributes["http.request.method"] == recorded
        assert description.attributes.get("http.request.method_original") == original


@pytest.mark.parametrize(
    ("host", "scheme", "expected"),
    [
        ("shop", "http", ("shop", 80)),
        ("shop", "https", ("shop", 443)),
        ("shop:8080", "http", ("shop", 8080)),
        ("[::1]:8080", "http", ("::1", 8080)),
        ("shop:port", "http", (None, None)),
        ("shop:99999", "http", (None, None)),
        ("[::1", "http", (None, None)),
    ],
)
def test_hosts(host: str, scheme: str, expected: tuple[Any, Any]) -> None:
    assert split_host(host, scheme) == expected


def test_a_server_request_has_what_the_convention_requires() -> None:
    request = ServerRequest(
        "GET", "/items/1", query="a=1", host="shop:8000", client=("10.0.0.1", 5), user_agent="curl", http_version="1.1"
    )
    assert request.kind == "server"
    assert request.attributes == {
        "http.request.method": "GET",
        "url.path": "/items/1",
        "url.scheme": "http",
        "url.query": "a=1",
        "server.address": "shop",
        "server.port": 8000,
        "client.address": "10.0.0.1",
        "network.peer.address": "10.0.0.1",
        "network.peer.port": 5,
        "user_agent.original": "curl",
        "network.protocol.version": "1.1",
    }


def test_which_status_is_an_error() -> None:
    assert [client_error(code) for code in (200, 304, 400, 404, 500)] == [None, None, "400", "404", "500"]
    assert [server_error(code) for code in (200, 404, 499, 500, 503)] == [None, None, None, "500", "503"]


def test_a_route_names_the_span() -> None:
    assert route_name("GET", "/items/{id}") == "GET /items/{id}"
    assert route_name("BREW", "/pot") == "HTTP /pot"


def test_names_are_those_of_the_installed_conventions() -> None:
    from opentelemetry.semconv.attributes import (
        client_attributes,
        error_attributes,
        http_attributes,
        network_attributes,
        server_attributes,
        url_attributes,
        user_agent_attributes,
    )

    modules = (
        client_attributes, error_attributes, http_attributes, network_attributes, server_attributes, url_attributes,
        user_agent_attributes,
    )  # fmt: skip
    known = {value for module in modules for value in vars(module).values() if isinstance(value, str)}
    described = {
        *ServerRequest("BREW", "/", query="a", host="h", client=("p", 1), user_agent="u", http_version="1").attributes,
        *ClientRequest("BREW", "http://h/", resend_count=1).attributes,
        "http.route", "http.response.status_code", "error.type",
    }  # fmt: skip
    assert described <= known
