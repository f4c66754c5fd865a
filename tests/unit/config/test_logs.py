"""Where log records go: settings of their own, the traces' where there are none, and nothing by default."""

from __future__ import annotations

from typing import Any

import pytest

from otelagent.config import load
from otelagent.config.settings import SETTINGS
from otelagent.errors import ConfigError


def test_nothing_is_exported_by_default() -> None:
    assert load({}, {}).logs.exporter == "none"
    assert load({}, {"OTEL_LOGS_EXPORTER": "otlp"}).logs.exporter == "otlp"
    with pytest.raises(ConfigError, match="several exporters"):
        load({}, {"OTEL_LOGS_EXPORTER": "otlp,console"})


@pytest.mark.parametrize(
    ("settings", "environ", "expected"),
    [
        ({}, {}, "http://localhost:4318/v1/logs"),
        ({"protocol": "grpc"}, {}, "http://localhost:4317"),
        ({"endpoint": "http://c:4318"}, {}, "http://c:4318/v1/logs"),
        ({"endpoint": "http://c:4318/base/v1/traces"}, {}, "http://c:4318/base/v1/logs"),
        ({"endpoint": "http://c:4318", "logs_endpoint": "http://l:4318/v1/logs"}, {}, "http://l:4318/v1/logs"),
        ({"endpoint": "http://c:4318"}, {"OTELAGENT_LOGS_ENDPOINT": "http://l:4318"}, "http://c:4318/v1/logs"),
        ({}, {"OTELAGENT_ENDPOINT": "http://c", "OTELAGENT_LOGS_ENDPOINT": "http://l"}, "http://l/v1/logs"),
        ({}, {"OTELAGENT_ENDPOINT": "http://c", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://l"}, "http://c/v1/logs"),
        ({}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, "http://c/v1/logs"),
        ({}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c/v1/traces"}, "http://c/v1/traces/v1/logs"),
        ({}, {"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://l/own"}, "http://l/own"),
        ({}, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://t/own"}, "http://localhost:4318/v1/logs"),
        ({"endpoint": "there:4317", "insecure": True, "protocol": "grpc"}, {}, "http://there:4317"),
        ({"endpoint": "http://c:4317", "protocol": "grpc", "logs_protocol": "http/protobuf",
          "logs_endpoint": "http://c:4318"}, {}, "http://c:4318/v1/logs"),
    ],
)  # fmt: skip
def test_the_endpoint(settings: dict[str, Any], environ: dict[str, str], expected: str) -> None:
    config = load({"logs_exporter": "otlp", **settings}, environ)
    assert config.logs.otlp.endpoint == expected
    assert config.export("logs").otlp is config.logs.otlp


def test_our_own_settings_for_traces_serve_log_records_too() -> None:
    given = {"headers": "a=b", "timeout_ms": 7, "compression": "gzip", "protocol": "grpc"}
    config = load({**given, "logs_timeout_ms": 8}, {"OTEL_EXPORTER_OTLP_LOGS_HEADERS": "c=d"})
    assert config.logs.otlp.headers.keys() == {"a"}
    assert (config.logs.otlp.timeout_ms, config.logs.otlp.compression, config.logs.otlp.protocol) == (8, "gzip", "grpc")
    assert config.sources["logs_compression"].name == "init()"


def test_the_specifications_settings_for_traces_do_not() -> None:
    environ = {
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "key=secret",
        "OTEL_EXPORTER_OTLP_HEADERS": "general=1",
        "OTEL_BSP_MAX_QUEUE_SIZE": "10",
        "OTEL_BLRP_MAX_QUEUE_SIZE": "20",
        "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "1",
        "OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT": "2",
    }
    config = load({"logs_exporter": "otlp"}, environ)
    assert config.otlp.headers.keys() == {"key"}
    assert config.logs.otlp.headers.keys() == {"general"}
    assert (config.batch.max_queue_size, config.logs.batch.max_queue_size) == (10, 20)
    assert config.logs.batch.max_export_batch_size == 20
    assert (config.limits.attribute_count, config.logs.attribute_count) == (1, 2)


@pytest.mark.parametrize(
    "environ",
    [
        {"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "nowhere"},
        {"OTEL_EXPORTER_OTLP_LOGS_HEADERS": "bad header"},
        {"OTEL_EXPORTER_OTLP_LOGS_CERTIFICATE": "/nowhere"},
        {"OTEL_EXPORTER_OTLP_LOGS_PROTOCOL": "http/json"},
        {"OTEL_EXPORTER_OTLP_LOGS_TIMEOUT": "soon"},
    ],
)
def test_a_mistake_counts_only_where_log_records_go(environ: dict[str, str]) -> None:
    assert load({}, environ).warnings == ()
    (variable,) = environ
    if variable.endswith("TIMEOUT"):  # the one that going on without does no harm
        assert variable in load({"logs_exporter": "otlp"}, environ).warnings[0]
        return
    with pytest.raises(ConfigError, match=variable):
        load({"logs_exporter": "otlp"}, environ)


def test_every_setting_of_the_exporter_has_one_for_log_records() -> None:
    rows = {setting.name: setting for setting in SETTINGS}
    exporter = [setting for setting in SETTINGS if setting.path.startswith("otlp.")]
    assert len(exporter) == 18
    for setting in exporter:
        logs = rows[f"logs_{setting.name}"]
        assert logs.general == setting.name
        assert logs.otel == tuple(variable.replace("_TRACES_", "_LOGS_") for variable in setting.otel)
        assert (logs.kind, logs.default, logs.choices) == (setting.kind, setting.default, setting.choices)
