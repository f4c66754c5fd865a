"""The endpoint that is dialled, by protocol and by where it was written (OTLP exporter specification)."""

from __future__ import annotations

import pytest

from otelagent.config import load
from otelagent.errors import ConfigError

GENERIC, TRACES = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (GENERIC, "http://h:4318", "http://h:4318/v1/traces"),
        (GENERIC, "http://h:4318/", "http://h:4318/v1/traces"),
        (GENERIC, "https://h/base", "https://h/base/v1/traces"),
        (GENERIC, "https://h/base/", "https://h/base/v1/traces"),
        (GENERIC, "https://h/v1/traces", "https://h/v1/traces/v1/traces"),
        (GENERIC, "http://h?a=b#c", "http://h/v1/traces?a=b"),
        (GENERIC, "HTTP://h", "http://h/v1/traces"),
        (GENERIC, "http://[::1]:4318", "http://[::1]:4318/v1/traces"),
        (TRACES, "http://h:4318", "http://h:4318/"),
        (TRACES, "http://h:4318/", "http://h:4318/"),
        (TRACES, "http://h:4318/custom/", "http://h:4318/custom/"),
        ("OTELAGENT_ENDPOINT", "http://h:4318", "http://h:4318/v1/traces"),
        ("OTELAGENT_ENDPOINT", "http://h:4318/base/", "http://h:4318/base/v1/traces"),
        ("OTELAGENT_ENDPOINT", "http://h:4318/v1/traces", "http://h:4318/v1/traces"),
        ("OTELAGENT_ENDPOINT", "http://h/base/v1/traces/", "http://h/base/v1/traces/"),
    ],
)
def test_http(name: str, text: str, expected: str) -> None:
    config = load({}, {name: text})
    assert config.otlp.endpoint == expected
    assert config.warnings == ()


@pytest.mark.parametrize(
    ("text", "insecure", "expected"),
    [
        ("http://h:4317", None, "http://h:4317"),
        ("http://h:4317/", False, "http://h:4317"),
        ("https://h:4317", True, "https://h:4317"),
        ("h:4317", None, "https://h:4317"),
        ("h:4317", False, "https://h:4317"),
        ("h:4317", True, "http://h:4317"),
        ("h", True, "http://h:4317"),
        ("h", None, "https://h:443"),
        ("https://api.example.com", None, "https://api.example.com:443"),
        ("http://h", None, "http://h:4317"),
        ("[::1]:4317", True, "http://[::1]:4317"),
    ],
)
@pytest.mark.parametrize("name", [GENERIC, TRACES, "OTELAGENT_ENDPOINT"])
def test_grpc(name: str, text: str, insecure: bool | None, expected: str) -> None:
    config = load({"protocol": "grpc", "insecure": insecure}, {name: text})
    assert config.otlp.endpoint == expected
    assert config.warnings == ()


def test_defaults_by_protocol() -> None:
    assert load({}, {}).otlp.endpoint == "http://localhost:4318/v1/traces"
    assert load({"protocol": "grpc"}, {}).otlp.endpoint == "http://localhost:4317"


def test_the_traces_endpoint_wins_over_the_generic_and_ours_over_both() -> None:
    environ = {GENERIC: "http://generic", TRACES: "http://traces"}
    assert load({}, environ).otlp.endpoint == "http://traces/"
    assert load({"endpoint": "http://ours"}, environ).otlp.endpoint == "http://ours/v1/traces"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("http://", "has no host"),
        ("http:///v1/traces", "has no host"),
        ("http://:4318", "has no host"),
        ("http://h:port", "its port must be a number from 1 to 65535"),
        ("http://h:0", "its port must be a number from 1 to 65535"),
        ("http://h:65536", "its port must be a number from 1 to 65535"),
        ("http://h:-1", "its port must be a number from 1 to 65535"),
        ("http://my host", "must not contain spaces or control characters"),
        ("http://h\n", None),
        ("http://h\r\nx: y", "must not contain spaces or control characters"),
        ("http://[::1", "its host is malformed"),
        ("http://a<b", "its host is malformed"),
        ("ftp://h", "must start with http:// or https://"),
        ("unix:///tmp/otel.sock", "must start with http:// or https://"),
        ("localhost", "must start with http:// or https://"),
        ("http:/h", "must start with http:// or https://"),
    ],
)
@pytest.mark.parametrize("name", [GENERIC, TRACES, "OTELAGENT_ENDPOINT"])
def test_an_endpoint_that_cannot_be_dialled_is_an_error_from_everywhere(
    name: str, text: str, problem: str | None
) -> None:
    if problem is None:  # surrounding white space is no mistake
        assert load({}, {name: text}).otlp.endpoint.startswith("http://h/")
        return
    with pytest.raises(ConfigError) as caught:
        load({}, {name: text})
    assert (caught.value.setting, caught.value.source, caught.value.problem) == ("endpoint", name, problem)


@pytest.mark.parametrize("text", ["h:4317:1", "ftp://h", "http://", "dns:///h", "h:port", "u:p@h:4317", "a b"])
def test_grpc_errors(text: str) -> None:
    with pytest.raises(ConfigError):
        load({"protocol": "grpc", "endpoint": text}, {})


def test_a_port_of_the_other_protocol_is_worth_a_warning() -> None:
    (warning,) = load({"endpoint": "http://u:p@h:4317"}, {}).warnings
    assert warning == (
        "endpoint = 'http://***@h:4317' (from init()): port 4317 is usually gRPC's and the protocol is http/protobuf: "
        "use port 4318, or protocol grpc"
    )
    (warning,) = load({}, {GENERIC: "http://h:4318", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}).warnings
    assert warning == (
        f"endpoint = 'http://h:4318' (from {GENERIC}): port 4318 is usually HTTP's and the protocol is grpc: "
        "use port 4317, or protocol http/protobuf"
    )
    assert load({"endpoint": "http://h:4317", "exporter": "none"}, {}).warnings == ()


def test_a_grpc_endpoint_has_no_path() -> None:
    config = load({"endpoint": "http://h:4317/v1/traces", "protocol": "grpc"}, {})
    assert config.otlp.endpoint == "http://h:4317"
    assert config.warnings == (
        "endpoint = 'http://h:4317/v1/traces' (from init()): a gRPC endpoint has no path: it is left out",
    )
