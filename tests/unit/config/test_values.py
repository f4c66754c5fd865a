"""What each kind of setting takes, and the exact words for what it doesn't."""

from __future__ import annotations

from operator import attrgetter
from pathlib import Path

import pytest

from otelagent.config import Secret, load
from otelagent.config.settings import SETTINGS_BY_NAME
from otelagent.errors import ConfigError, UnknownSettingError


@pytest.mark.parametrize(
    ("settings", "environ", "message"),
    [
        ({"endpont": "x"}, {}, "endpont (from init()): there is no such setting; did you mean endpoint?"),
        ({"Sampler": "x"}, {}, "Sampler (from init()): there is no such setting; did you mean sampler?"),
        (
            {},
            {"OTELAGENT_SAMPLR": "x"},
            "OTELAGENT_SAMPLR: there is no such setting; did you mean OTELAGENT_SAMPLER?",
        ),
        (
            {},
            {"OTELAGENT_sampler": "x"},
            "OTELAGENT_sampler: there is no such setting; did you mean OTELAGENT_SAMPLER?",
        ),
        (
            {},
            {"OTELAGENT_ZZZZZZ": "x"},
            "OTELAGENT_ZZZZZZ: there is no such setting; otelagent-run --help lists them all",
        ),
        (
            {"sampler_arg": 1.5},
            {},
            "sampler_arg = 1.5 (from init()): must be a number between 0 and 1; try 1.0",
        ),
        (
            {},
            {"OTELAGENT_SAMPLER_ARG": "10%"},
            "sampler_arg = '10%' (from OTELAGENT_SAMPLER_ARG): must be a number between 0 and 1; try 0.1",
        ),
        (
            {"sampler_arg": "nan"},
            {},
            "sampler_arg = 'nan' (from init()): must be a number between 0 and 1",
        ),
        (
            {"sampler": "ratio"},
            {},
            "sampler = 'ratio' (from init()): must be one of always_on, always_off, traceidratio, "
            "parentbased_always_on, parentbased_always_off, parentbased_traceidratio; did you mean 'traceidratio'?",
        ),
        (
            {"exporter": "oltp"},
            {},
            "exporter = 'oltp' (from init()): must be one of otlp, console, file, none; did you mean 'otlp'?",
        ),
        (
            {},
            {"OTEL_TRACES_EXPORTER": "zipkin"},
            "exporter = 'zipkin' (from OTEL_TRACES_EXPORTER): otelagent does not support zipkin; "
            "send OTLP to a collector, which forwards to Zipkin",
        ),
        (
            {},
            {"OTEL_TRACES_EXPORTER": "otlp,console"},
            "exporter = 'otlp,console' (from OTEL_TRACES_EXPORTER): several exporters at once are not there yet; "
            "name one; a collector can send to several",
        ),
        (
            {},
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
            "protocol = 'http/json' (from OTEL_EXPORTER_OTLP_PROTOCOL): otelagent does not support http/json; "
            "it is not there yet; use 'http/protobuf'",
        ),
        (
            {"timeout_ms": "5s"},
            {},
            "timeout_ms = '5s' (from init()): must be a whole number of ms from 1 to 2147483647; try 5000",
        ),
        (
            {"timeout_ms": 0},
            {},
            "timeout_ms = 0 (from init()): must be a whole number of ms from 1 to 2147483647; try 10000",
        ),
        (
            {"timeout_ms": 2.5},
            {},
            "timeout_ms = 2.5 (from init()): must be a whole number of ms from 1 to 2147483647, not a float",
        ),
        ({"quiet": "maybe"}, {}, "quiet = 'maybe' (from init()): must be true or false"),
        ({"quiet": "ture"}, {}, "quiet = 'ture' (from init()): must be true or false; did you mean 'true'?"),
        ({"service_name": 7}, {}, "service_name = 7 (from init()): must be a text, not an int"),
        ({"service_name": " "}, {}, "service_name = ' ' (from init()): must not be empty"),
        (
            {"propagators": ["b3", "none"]},
            {},
            "propagators = ['b3', 'none'] (from init()): 'none' excludes the others; leave it out",
        ),
        (
            {"headers": "s3cret"},
            {},
            "headers = '***' (from init()): must have the form name=value,name2=value2",
        ),
        (
            {},
            {"OTEL_EXPORTER_OTLP_HEADERS": "api key=s3cret"},
            "headers = '***' (from OTEL_EXPORTER_OTLP_HEADERS): a header's name is malformed",
        ),
        (
            {"headers": {"x": "s3cret\r\ny: z"}},
            {},
            "headers = '***' (from init()): the value of 'x' must be a text of printable ASCII characters",
        ),
        (
            {},
            {"OTEL_EXPORTER_OTLP_CERTIFICATE": "/no/such.pem"},
            "certificate = '/no/such.pem' (from OTEL_EXPORTER_OTLP_CERTIFICATE): "
            "there is no readable file of that name",
        ),
        (
            {"excluded_urls": "/a,("},
            {},
            "excluded_urls = '/a,(' (from init()): '(' is not a regular expression: "
            "missing ), unterminated subpattern at position 0",
        ),
        (
            {"endpoint": "http://user:p/a@ss@host:x/"},
            {},
            "endpoint = 'http://***@host:x/' (from init()): its port must be a number from 1 to 65535",
        ),
        (
            {"endpoint": "localhost:4318"},
            {},
            "endpoint = 'localhost:4318' (from init()): must start with http:// or https://; "
            "try 'http://localhost:4318'",
        ),
    ],
)
def test_errors(settings: dict[str, object], environ: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(settings, environ)
    assert str(caught.value) == message
    assert caught.value.source in (*environ, "init()")
    assert "s3cret" not in repr(caught.value)


def test_an_unknown_names_value_is_never_shown() -> None:
    with pytest.raises(UnknownSettingError) as caught:
        load({}, {"OTELAGENT_HEADER": "api-key=s3cret"})
    assert "s3cret" not in str(caught.value) + repr(caught.value) + repr(vars(caught.value))


@pytest.mark.parametrize(
    ("environ", "warning"),
    [
        (
            {"OTEL_BSP_SCHEDULE_DELAY": "-1"},
            "OTEL_BSP_SCHEDULE_DELAY='-1' ignored: must be a whole number of ms from 1 to 2147483647 (try 5000); "
            "using 5000 (default)",
        ),
        (
            {"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "many"},
            "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT='many' ignored: "
            "must be a whole number of characters from 0 to 2147483647; using no limit (default)",
        ),
        (
            {"OTEL_TRACES_SAMPLER": "jaeger_remote"},
            "OTEL_TRACES_SAMPLER='jaeger_remote' ignored: must be one of always_on, always_off, traceidratio, "
            "parentbased_always_on, parentbased_always_off, parentbased_traceidratio; "
            "using parentbased_always_on (default)",
        ),
        (
            {"OTEL_EXPORTER_OTLP_COMPRESSION": "deflate"},
            "OTEL_EXPORTER_OTLP_COMPRESSION='deflate' ignored: must be one of none, gzip; using none (default)",
        ),
        (
            {"OTEL_PROPAGATORS": "b3,xray,b3"},
            "OTEL_PROPAGATORS='b3,xray,b3': 'xray' left out: "
            "must be one of tracecontext, baggage, b3, b3multi, jaeger, none",
        ),
        (
            {"OTEL_PROPAGATORS": "xray"},
            "OTEL_PROPAGATORS='xray' ignored: none of it is one of tracecontext, baggage, b3, b3multi, jaeger, none; "
            "using tracecontext, baggage (default)",
        ),
        ({"OTEL_SDK_DISABLED": "1"}, "OTEL_SDK_DISABLED='1': only 'true' is true: it counts as false"),
        (
            {"OTEL_SERVICE_NAME": "caf\udce9"},
            "OTEL_SERVICE_NAME='caf\\udce9' ignored: is not UTF-8; using unknown_service:python (default)",
        ),
    ],
)
def test_warnings(environ: dict[str, str], warning: str) -> None:
    assert load({}, environ).warnings == (warning,)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("quiet", True, True),
        ("quiet", "YES", True),
        ("quiet", "off", False),
        ("quiet", "0", False),
        ("exit_timeout_ms", 0, 0),
        ("exit_timeout_ms", " 15 ", 15),
        ("queue_max_bytes", 10**12, 10**12),
        ("log_level", "WARN", "warning"),
        ("exporter", "logging", "console"),
        ("exporter", "otlp, OTLP", "otlp"),
        ("propagators", "none", ()),
        ("propagators", ("B3", "b3", "tracecontext"), ("b3", "tracecontext")),
        ("disabled_instrumentations", "flask, ,django,flask", ("flask", "django")),
        ("disabled_instrumentations", {"b", "a"}, ("a", "b")),
        ("headers", "Authorization=Bearer%20a=b,X=1,", {"authorization": Secret("Bearer a=b"), "x": Secret("1")}),
        ("headers", "authorization=Bearer a==", {"authorization": Secret("Bearer a==")}),
        ("headers", {"X-Key": "100%20", "y": Secret("z")}, {"x-key": Secret("100%20"), "y": Secret("z")}),
        ("attribute_value_length_limit", 0, 0),
    ],
)
def test_values(name: str, value: object, expected: object) -> None:
    assert attrgetter(SETTINGS_BY_NAME[name].path)(load({name: value}, {})) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("quiet", 1),
        ("timeout_ms", True),
        ("timeout_ms", "1_000"),
        ("timeout_ms", "9" * 5000),
        ("sampler_arg", False),
        ("sampler", 1),
        ("propagators", 1),
        ("propagators", [1]),
        ("excluded_urls", [""]),
        ("headers", ["a=b"]),
        ("headers", {"a": 1}),
        ("headers", {1: "a"}),
        ("headers", {"a": "é"}),
        ("resource_attributes", {"a": ["b"]}),
        ("resource_attributes", {"": "b"}),
        ("resource_attributes", {"a": "\ud800"}),
        ("resource_attributes", 1),
        ("endpoint", 4318),
        ("endpoint", b"http://h"),
        ("certificate", 1),
        ("certificate", "a\0b"),
        ("certificate", "/"),
    ],
)
def test_wrong_values(name: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        load({name: value}, {})
    assert caught.value.setting == name
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("text", "disabled", "warns"), [("true", True, 0), ("TRUE", True, 0), ("False", False, 0), ("1", False, 1)]
)
def test_the_specifications_booleans(text: str, disabled: bool, warns: int) -> None:
    config = load({}, {"OTEL_SDK_DISABLED": text})
    assert config.enabled is not disabled
    assert len(config.warnings) == warns
    assert config.sources["enabled"].name == "OTEL_SDK_DISABLED"


def test_certificates(tmp_path: Path) -> None:
    pem = tmp_path / "a.pem"
    pem.touch()
    otlp = load({"certificate": pem, "client_certificate": str(pem), "client_key": pem}, {}).otlp
    assert otlp.certificate == otlp.client_certificate == otlp.client_key == str(pem)
    with pytest.raises(ConfigError, match="needs client_certificate too"):
        load({}, {"OTEL_EXPORTER_OTLP_CLIENT_KEY": str(pem)})


def test_secrets_are_masked_wherever_they_show() -> None:
    config = load({"headers": {"api-key": "s3cret"}, "endpoint": "https://me:s3cret@h/base?token=s3cret"}, {})
    assert config.otlp.headers["api-key"].reveal() == "s3cret"
    assert config.otlp.endpoint == "https://me:s3cret@h/base/v1/traces?token=s3cret"
    shown = "\n".join([repr(config), str(config), str(config.describe()), f"{config.otlp.headers['api-key']}"])
    assert "s3cret" not in shown
    assert config.otlp.masked_endpoint == "https://***@h/base/v1/traces?***"
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a")}) == 1
