"""Which credentials go together, and the exact words for those that don't."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from otelagent.config import Config, Secret, load
from otelagent.errors import ConfigError

OAUTH2: dict[str, Any] = {
    "oauth2_token_url": "https://idp/token",
    "oauth2_client_id": "shop",
    "oauth2_client_secret": "s3cret",
}
OF_ENV = {f"OTELAGENT_{name.upper()}": value for name, value in OAUTH2.items()}
OF_LOGS = {f"logs_{name}": value for name, value in OAUTH2.items()}
LOGS = {"logs_exporter": "otlp"}


def test_everything_that_can_be_said(tmp_path: Path) -> None:
    pem = tmp_path / "ca.pem"
    pem.touch()
    more = {"oauth2_scopes": "a,b", "oauth2_parameters": "audience=x%3Dy,r=", "oauth2_certificate": pem}
    oauth2 = load({**OAUTH2, **more}, {}).otlp.oauth2
    assert (oauth2.token_url, oauth2.client_id, oauth2.client_secret) == ("https://idp/token", "shop", Secret("s3cret"))
    assert oauth2.scopes == ("a", "b")
    assert oauth2.parameters == {"audience": Secret("x=y"), "r": Secret("")}
    assert oauth2.certificate == str(pem)
    assert load({"oauth2_parameters": {"a": "b", "c": Secret("d")}, **OAUTH2}, {}).otlp.oauth2.parameters == {
        "a": Secret("b"),
        "c": Secret("d"),
    }


def test_files_needn_t_be_there_and_are_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ca.pem").touch()
    otlp = load({"bearer_token_file": "token", "headers_file": Path("h"), "certificate": "ca.pem"}, {}).otlp
    here = os.getcwd()
    assert (otlp.bearer_token_file, otlp.headers_file, otlp.certificate) == (
        f"{here}/token",
        f"{here}/h",
        f"{here}/ca.pem",
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {**OAUTH2, "bearer_token_file": "/t"},
            "bearer_token_file = '/t' (from init()): it and oauth2_token_url exclude each other; "
            "leave one of them out: a request has one credential",
        ),
        (
            {"headers": {"Authorization": "Bearer s3cret"}, "bearer_token_file": "/t"},
            "headers = '***' (from init()): its authorization and bearer_token_file exclude each other; "
            "leave one of them out: a request has one credential",
        ),
        (
            {"headers": "authorization=Basic s3cret", **OAUTH2},
            "headers = '***' (from init()): its authorization and oauth2_token_url exclude each other; "
            "leave one of them out: a request has one credential",
        ),
        (
            {**OAUTH2, "oauth2_client_secret_file": "/s"},
            "oauth2_client_secret = '***' (from init()): it and oauth2_client_secret_file exclude each other; "
            "leave one of them out: a request has one credential",
        ),
        (
            {"oauth2_client_secret": "s3cret"},
            "oauth2_client_secret = '***' (from init()): needs oauth2_token_url too",
        ),
        ({"oauth2_scopes": "a"}, "oauth2_scopes = ('a',) (from init()): needs oauth2_token_url too"),
        (
            {"oauth2_token_url": "https://idp/token?key=s3cret"},
            "oauth2_token_url = 'https://idp/token?***' (from init()): needs oauth2_client_id too",
        ),
        (
            {"oauth2_token_url": "https://idp", "oauth2_client_id": "shop"},
            "oauth2_token_url = 'https://idp' (from init()): "
            "needs oauth2_client_secret or oauth2_client_secret_file too",
        ),
        (
            {**OAUTH2, "oauth2_token_url": "http://idp/token"},
            "oauth2_token_url = 'http://idp/token' (from init()): "
            "must start with https://: the client's secret would be readable on its way",
        ),
        (
            {**OAUTH2, "oauth2_token_url": "http://127.0.0.1.example/"},
            "oauth2_token_url = 'http://127.0.0.1.example/' (from init()): "
            "must start with https://: the client's secret would be readable on its way",
        ),
        (
            {**OAUTH2, "oauth2_token_url": "https://idp/#s3"},
            "oauth2_token_url = 'https://idp/#s3' (from init()): must not have a fragment",
        ),
        (
            {**OAUTH2, "oauth2_token_url": "https://me:s3cret@idp/"},
            "oauth2_token_url = 'https://***@idp/' (from init()): "
            "takes no user and password; use oauth2_client_id and oauth2_client_secret",
        ),
        (
            {**OAUTH2, "oauth2_token_url": "idp/token"},
            "oauth2_token_url = 'idp/token' (from init()): must start with http:// or https://",
        ),
        (
            {"oauth2_parameters": "grant_type=password"},
            "oauth2_parameters = '***' (from init()): must not have 'grant_type'; it is client_credentials",
        ),
        (
            {"oauth2_parameters": "client_secret=s3cret"},
            "oauth2_parameters = '***' (from init()): must not have 'client_secret'; use oauth2_client_secret",
        ),
        (
            {"oauth2_parameters": {"a": 7}},
            "oauth2_parameters = '***' (from init()): must have texts as names and values",
        ),
        ({"oauth2_client_secret": 7}, "oauth2_client_secret = '***' (from init()): must be a text and not empty"),
        ({"oauth2_client_secret": " "}, "oauth2_client_secret = '***' (from init()): must be a text and not empty"),
        ({"bearer_token_file": ""}, "bearer_token_file = '' (from init()): must be the path of a file"),
        ({"headers_file": 7}, "headers_file = 7 (from init()): must be a path, not an int"),
        (
            {**LOGS, "bearer_token_file": "/t", "logs_headers": "authorization=a", "logs_bearer_token_file": "/l"},
            "logs_headers = '***' (from init()): its authorization and logs_bearer_token_file exclude each other; "
            "leave one of them out: a request has one credential",
        ),
    ],
)
def test_what_does_not_go_together(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(settings, {})
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "url", ["http://localhost:8/t", "http://127.0.0.9/t", "http://[::1]:80/t", "HTTPS://idp/t?a=b"]
)
def test_token_urls(url: str) -> None:
    assert load({**OAUTH2, "oauth2_token_url": url}, {}).otlp.oauth2.token_url == url


def ways(config: Config) -> tuple[object, ...]:
    otlp = config.logs.otlp
    return otlp.bearer_token_file, otlp.oauth2.token_url, "authorization" in otlp.headers


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"bearer_token_file": "/t"}, ("/t", None, False)),
        (OAUTH2, (None, "https://idp/token", False)),
        ({**OAUTH2, "logs_oauth2_scopes": "logs"}, (None, "https://idp/token", False)),
        ({**OAUTH2, "logs_bearer_token_file": "/l"}, ("/l", None, False)),
        ({**OAUTH2, "logs_headers": "authorization=a"}, (None, None, True)),
        (
            {"bearer_token_file": "/t", **{f"logs_{k}": v for k, v in OAUTH2.items()}},
            (None, "https://idp/token", False),
        ),
    ],
)
def test_log_records_have_the_way_they_are_given(settings: dict[str, Any], expected: tuple[object, ...]) -> None:
    config = load({**LOGS, **settings}, {})
    assert ways(config) == expected
    token_file, token_url, _ = expected
    assert (config.sources["logs_bearer_token_file"].kind == "default") == (token_file is None)
    assert (config.sources["logs_oauth2_token_url"].kind == "default") == (token_url is None)


def test_log_records_have_a_secret_of_their_own() -> None:
    oauth2 = load({**LOGS, **OAUTH2, "logs_oauth2_client_secret_file": "/s"}, {}).logs.otlp.oauth2
    assert (oauth2.client_secret, oauth2.client_secret_file, oauth2.client_id) == (None, "/s", "shop")


def test_the_environment_says_the_same() -> None:
    assert load({}, OF_ENV).otlp == load(OAUTH2, {}).otlp


def test_secrets_are_masked_wherever_they_show() -> None:
    secrets = {"oauth2_token_url": "https://idp/token?key=s3cret", "oauth2_parameters": "audience=s3cret"}
    config = load({**OAUTH2, **secrets, "oauth2_client_secret": Secret("s3cret")}, {})
    assert "s3cret" not in f"{config!r} {config} {config.describe()} {config.otlp!r} {config.otlp.oauth2!r}"
    shown = {name: value for name, value, _ in config.describe()}
    assert shown["oauth2_client_secret"] == "***"
    assert shown["oauth2_parameters"] == "audience=***"
    assert shown["oauth2_token_url"] == "https://idp/token?***"
    assert shown["oauth2_client_id"] == "shop"
    with pytest.raises(ConfigError) as caught:
        load({"oauth2_client_secret": "s3cret\ud800"}, {})
    assert "s3cret" not in str(caught.value)
