"""The ledger as metrics of the application's MeterProvider: the same numbers as `status()`, with either engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support import run_program

PROGRAM = """
import json, os, otelagent
from opentelemetry import metrics
def set_up():
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader]))
    return reader
def found(reader):
    data = json.loads(reader.get_metrics_data().to_json())
    return {
        metric["name"]: [[point["value"], point["attributes"]] for point in metric["data"]["data_points"]]
        for resource in data["resource_metrics"] for scope in resource["scope_metrics"]
        if scope["scope"]["name"] == "otelagent" for metric in scope["metrics"]
    }
def spans(count):
    for number in range(count):
        with otelagent.span("work"): pass
def told(reader):
    print(json.dumps([found(reader), otelagent.status()["ledger"]]))
"""


def run(folder: Path, body: str, **environ: str) -> tuple[dict[str, Any], dict[str, Any]]:
    outcome = run_program(folder, PROGRAM + body, OTELAGENT_QUIET="true", **environ)
    assert outcome.code == 0, outcome.err
    metrics, ledger = outcome.json
    return metrics, ledger


def values(points: list[Any]) -> dict[str, int]:
    """By the error, empty where there is none."""
    return {attributes.get("error.type", ""): value for value, attributes in points}


def check(metrics: dict[str, Any], ledger: dict[str, Any], signal: str, item: str) -> None:
    """The equation holds in the metrics, and they are what the ledger says."""
    points = metrics[f"otelagent.ledger.{item}"]
    for key, book in ledger.items():
        if key.partition(":")[0] != signal:
            continue
        states: dict[str, int] = {}
        for value, attributes in points:
            if attributes["otelagent.destination"] == key:
                states[attributes["otelagent.state"]] = states.get(attributes["otelagent.state"], 0) + value
        assert states.pop("ended") + states.pop("adopted") == sum(states.values())
        for state in ("sampled_out", "filtered", "delivered", "spooled", "queued"):
            assert states[state] == book[state]


@pytest.mark.parametrize("order", ["before", "after"])
def test_what_is_delivered_and_what_waits(tmp_path: Path, order: str) -> None:
    set_up = {"before": ("reader = set_up()", ""), "after": ("", "reader = set_up()")}[order]
    metrics, ledger = run(
        tmp_path,
        f"""
{set_up[0]}
otelagent.init(exporter="file", file=os.devnull, batch_max_queue_size=100, batch_schedule_delay_ms=60000)
{set_up[1]}
spans(5)
assert otelagent.flush(10)
spans(3)
told(reader)
""",
    )
    check(metrics, ledger, "traces", "span")
    assert values(metrics["otel.sdk.exporter.span.exported"]) == {"": 5}
    assert values(metrics["otel.sdk.exporter.span.inflight"]) == {"": 0}
    assert values(metrics["otel.sdk.processor.span.processed"]) == {"": 5}
    assert values(metrics["otel.sdk.processor.span.queue.size"]) == {"": 3}
    assert values(metrics["otel.sdk.processor.span.queue.capacity"]) == {"": 100}
    assert metrics["otel.sdk.exporter.span.exported"][0][1] == {
        "otel.component.type": "otelagent_file_exporter",
        "otel.component.name": "otelagent_file_exporter/traces",
    }


def test_what_is_lost_and_what_is_on_disk(tmp_path: Path) -> None:
    metrics, ledger = run(
        tmp_path,
        """
reader = set_up()
otelagent.init(
    exporter="otlp", endpoint="http://127.0.0.1:9", batch_max_queue_size=10, batch_schedule_delay_ms=60000
)
spans(12)
otelagent.shutdown(1)
spans(1)
told(reader)
""",
        XDG_STATE_HOME=str(tmp_path),
    )
    check(metrics, ledger, "traces", "span")
    assert values(metrics["otel.sdk.exporter.span.exported"]) == {"": 0}
    assert values(metrics["otel.sdk.exporter.span.inflight"]) == {"": 10}
    assert values(metrics["otel.sdk.processor.span.processed"]) == {"": 10, "queue_full": 2, "already_shutdown": 1}
    assert ledger["traces"]["spooled"] == 10


def test_each_destination_and_the_logs_have_theirs(tmp_path: Path) -> None:
    metrics, ledger = run(
        tmp_path,
        """
import logging
reader = set_up()
otelagent.init(exporter="file", file=os.devnull, logs_exporter="file", logs_file=os.devnull, spool=False,
    destinations={"other": {"endpoint": "http://127.0.0.1:9", "signals": ["traces"]}})
spans(2)
logging.getLogger("shop").warning("hello")
otelagent.shutdown(1)
told(reader)
""",
    )
    check(metrics, ledger, "traces", "span")
    check(metrics, ledger, "logs", "log")
    exported = metrics["otel.sdk.exporter.span.exported"]
    assert {attributes["otel.component.name"]: value for value, attributes in exported} == {
        "otelagent_file_exporter/traces": 2,
        "otlp_http_exporter/traces:other": 0,
    }
    assert values(metrics["otel.sdk.exporter.log.exported"]) == {"": 1}
    # One processor, whatever the number of destinations.
    assert [value for value, _ in metrics["otel.sdk.processor.span.processed"]] == [2]
    assert len(metrics["otel.sdk.processor.span.queue.capacity"]) == 1


def test_a_program_without_metrics_does_not_import_them(tmp_path: Path) -> None:
    source = """
import sys, otelagent
otelagent.init(exporter="none")
# The stock SDK imports them itself.
assert otelagent.status()["engine"]["name"] == "sdk" or "opentelemetry.metrics" not in sys.modules
"""
    outcome = run_program(tmp_path, source, OTELAGENT_QUIET="true")
    assert outcome.code == 0, outcome.err
