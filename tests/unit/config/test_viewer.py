"""What a viewer on this machine, which ``otelagent-run --ui`` tells of, changes in the settings."""

from __future__ import annotations

import json

import pytest

from otelagent.config import Config, load
from otelagent.config.settings import VIEWER_VARIABLE

VIEWER = "http://127.0.0.1:4319"


def loaded(**environ: str) -> Config:
    return load({}, {VIEWER_VARIABLE: VIEWER, **environ})


def places(config: Config, signal: str) -> dict[str, str]:
    """By destination, the main one with an empty name."""
    return {name: config.export(signal, name).otlp.endpoint for name in config.destination_names(signal)}


def test_everything_goes_there_at_once() -> None:
    config = loaded()
    assert places(config, "traces") == {"": f"{VIEWER}/v1/traces"}
    assert places(config, "logs") == {"": f"{VIEWER}/v1/logs"}
    assert config.batch.schedule_delay_ms == config.logs.batch.schedule_delay_ms == 250
    assert str(config.sources["endpoint"]) == str(config.sources["logs_exporter"]) == "--ui"
    assert config.warnings == ()


def test_what_is_set_stays() -> None:
    config = loaded(OTEL_LOGS_EXPORTER="none", OTEL_BSP_SCHEDULE_DELAY="4000")
    assert places(config, "logs") == {}
    assert config.batch.schedule_delay_ms == 4000


@pytest.mark.parametrize("variable", ["OTELAGENT_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"])
def test_an_endpoint_that_is_set_keeps_its_spans_and_gets_no_logs_it_did_not_get_before(variable: str) -> None:
    config = loaded(**{variable: "http://collector:4318", "OTEL_EXPORTER_OTLP_HEADERS": "api-key=secret"})
    assert places(config, "traces") == {"": "http://collector:4318/v1/traces", "ui": f"{VIEWER}/v1/traces"}
    assert places(config, "logs") == {"": f"{VIEWER}/v1/logs"}
    assert config.otlp.headers
    assert not config.export("traces", "ui").otlp.headers
    assert not config.logs.otlp.headers


def test_logs_that_go_somewhere_go_there_too() -> None:
    config = loaded(OTEL_EXPORTER_OTLP_ENDPOINT="http://collector:4318", OTEL_LOGS_EXPORTER="otlp")
    assert places(config, "logs") == {"": "http://collector:4318/v1/logs", "ui": f"{VIEWER}/v1/logs"}


@pytest.mark.parametrize(("mine", "others"), [("TRACES", "logs"), ("LOGS", "traces")])
def test_each_signal_goes_its_own_way(mine: str, others: str) -> None:
    config = loaded(OTEL_LOGS_EXPORTER="otlp", **{f"OTEL_EXPORTER_OTLP_{mine}_ENDPOINT": "http://collector:4318/x"})
    signal = mine.lower()
    assert places(config, signal) == {"": "http://collector:4318/x", "ui": f"{VIEWER}/v1/{signal}"}
    assert places(config, others) == {"": f"{VIEWER}/v1/{others}"}


@pytest.mark.parametrize("exporter", ["console", "file"])
def test_another_exporter_stays(exporter: str) -> None:
    config = loaded(OTELAGENT_EXPORTER=exporter)
    assert config.traces.exporter == exporter
    assert places(config, "traces")["ui"] == f"{VIEWER}/v1/traces"
    assert places(config, "logs") == {"": f"{VIEWER}/v1/logs"}


def test_where_there_is_no_exporter_nothing_is_sent() -> None:
    assert places(loaded(OTEL_TRACES_EXPORTER="none"), "traces") == {}


def test_a_protocol_without_an_endpoint_does_not_count() -> None:
    config = loaded(OTELAGENT_PROTOCOL="grpc", OTEL_EXPORTER_OTLP_HEADERS="api-key=secret")
    assert config.otlp.protocol == "http/protobuf"
    assert places(config, "traces") == {"": f"{VIEWER}/v1/traces"}


def test_other_destinations_stay() -> None:
    others = json.dumps({"ui": {"endpoint": "http://errors:4318", "signals": ["traces"]}})
    config = loaded(OTELAGENT_DESTINATIONS=others, OTELAGENT_ENDPOINT="http://collector:4318")
    assert places(config, "traces") == {
        "": "http://collector:4318/v1/traces",
        "ui": "http://errors:4318/v1/traces",
        "otelagent-ui": f"{VIEWER}/v1/traces",
    }
