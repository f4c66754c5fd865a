"""Other people's programs send to the viewer, by each of OTLP's protocols, and what they sent is there: exactly it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

import backends
from tests.viewer.running import Viewer

SENDERS = Path(__file__).parent / "senders"
SERVER, CLIENT, PRODUCER, INTERNAL = 2, 3, 4, 1


@pytest.fixture(scope="module")
def viewer() -> Iterator[Viewer]:
    with Viewer() as viewer:
        yield viewer


def sender(name: str) -> Path:
    """A sender's file. Without it: a failure in CI, a skip elsewhere."""
    try:
        return backends.locate_one(name)
    except backends.BackendError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))


def run(command: list[str], **environ: str) -> str:
    done = subprocess.run(
        command, env={**os.environ, **environ}, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def traces_of(viewer: Viewer, service: str) -> list[dict[str, Any]]:
    found = viewer.json(f"/api/traces?limit=500&service={quote(service)}")
    assert found["complete"]
    assert found["next"] is None
    listed: list[dict[str, Any]] = found["traces"]
    return listed


def spans_of(viewer: Viewer, trace_id: str) -> dict[str, dict[str, Any]]:
    """Every span of a trace in full, by its name."""
    columns = viewer.json(f"/api/traces/{trace_id}")["spans"]
    spans = [viewer.json(f"/api/traces/{trace_id}/spans/{one}") for one in columns["id"]]
    return {span["name"]: span for span in spans}


def generate(viewer: Viewer, protocol: str, signal: str, service: str, *options: str) -> None:
    """Runs telemetrygen."""
    transport = (
        ["--otlp-http", "--otlp-endpoint", viewer.base.removeprefix("http://")]
        if protocol == "http"
        else ["--otlp-endpoint", viewer.grpc]
    )
    run(
        [
            str(sender("telemetrygen")),
            signal,
            "--otlp-insecure",
            "--rate=0",
            f"--service={service}",
            *transport,
            *options,
        ]
    )


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_traces_of_telemetrygen(viewer: Viewer, protocol: str) -> None:
    service = f"telemetrygen {protocol}"
    more = ("--traces=40", "--child-spans=3", "--status-code=Error", "--span-links=1", "--workers=2")
    attributes = ("--telemetry-attributes", 'tier="gold"', "--otlp-attributes", "beta=true")
    generate(viewer, protocol, "traces", service, *more, *attributes)
    listed = traces_of(viewer, service)
    assert Counter((one["spans"], one["errors"], one["name"], one["root"]) for one in listed) == {
        (4, 4, "lets-go", True): 80
    }
    spans = spans_of(viewer, listed[0]["id"])
    assert set(spans) == {"lets-go", "okey-dokey-0", "okey-dokey-1", "okey-dokey-2"}
    root = spans.pop("lets-go")
    assert (root["kind"], root["parent"]) == (CLIENT, None)
    assert root["resource"]["attributes"] == {"service.name": service, "beta": True}
    for child in spans.values():
        assert (child["kind"], child["parent"], child["status"]) == (SERVER, root["id"], 2)
        assert child["duration"] == 123_000
        assert child["attributes"]["tier"] == "gold"
        assert "network.peer.address" in child["attributes"]
        assert len(child["links"]) == 1


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_logs_and_metrics_of_telemetrygen(viewer: Viewer, protocol: str) -> None:
    service = f"telemetrygen records {protocol}"
    url_path = ["--otlp-http-url-path=/v1/logs"] if protocol == "http" else []
    text = ["--body=out of stock", "--severity-number=17", "--severity-text=Error"]
    generate(viewer, protocol, "logs", service, "--logs=50", *text, *url_path)
    logs = viewer.json(f"/api/logs?limit=500&service={quote(service)}")["logs"]
    assert Counter((one["body"], one["severity"], one["severity_text"]) for one in logs) == {
        ("out of stock", 17, "Error"): 50
    }
    for kind in ("Gauge", "Sum", "Histogram", "ExponentialHistogram"):
        generate(viewer, protocol, "metrics", f"{service} {kind}", "--metrics=20", f"--metric-type={kind}")
        (metric,) = [one for one in viewer.json("/api/metrics")["metrics"] if one["service"] == f"{service} {kind}"]
        assert metric["kind"].replace("_", "") == kind.lower()
        (series,) = viewer.json(f"/api/metrics/{metric['id']}/points")["series"]
        assert len(series["points"]) == 20


@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json", "grpc"])
def test_opentelemetry_javascript(viewer: Viewer, protocol: str) -> None:
    packages = sender("javascript").parent
    command = ["node", str(SENDERS / "send.js"), protocol, viewer.base, f"http://{viewer.grpc}"]
    sent = json.loads(run(command, NODE_PATH=str(packages)))
    service = f"javascript {protocol}"
    (one,) = traces_of(viewer, service)
    assert (one["id"], one["name"], one["spans"], one["errors"]) == (sent[0]["trace"], "GET /checkout", 4, 1)
    spans = spans_of(viewer, one["id"])
    assert {name: (span["trace"], span["id"], span["parent"]) for name, span in spans.items()} == {
        span["name"]: (span["trace"], span["id"], span["parent"]) for span in sent
    }
    assert {name: span["kind"] for name, span in spans.items()} == {
        "GET /checkout": SERVER,
        "SELECT": CLIENT,
        "publish": PRODUCER,
        "work": INTERNAL,
    }
    root = spans["GET /checkout"]
    assert root["attributes"] == {
        "http.request.method": "GET",
        "http.response.status_code": 500,
        "ratio": 0.25,
        "ok": True,
        "tags": ["a", "ü"],
    }
    assert (root["status"], root["message"]) == (2, "no stock")
    assert root["events"][0]["attributes"]["exception.type"] == "TypeError"
    assert root["resource"]["attributes"]["service.version"] == "1.2.3"
    assert (root["scope"]["name"], root["scope"]["version"]) == ("senders", "4.5.6")
    assert spans["work"]["events"][0]["name"] == "done"
    assert spans["work"]["events"][0]["attributes"] == {"number": 7}
    (link,) = spans["work"]["links"]
    assert link == {"trace": root["trace"], "span": root["id"], "attributes": {"why": "test"}}
    if protocol == "http/json":
        (record,) = root["logs"]
        assert (record["body"], record["severity"], record["attributes"]) == ("sold out", 17, {"item": 3})
    if protocol == "http/protobuf":
        known = {one["name"]: one["id"] for one in viewer.json("/api/metrics")["metrics"] if one["service"] == service}
        assert set(known) == {"js.orders", "js.latency"}
        (series,) = viewer.json(f"/api/metrics/{known['js.orders']}/points")["series"]
        assert (series["attributes"], [point[1] for point in series["points"]]) == ({"tier": "gold"}, [3])


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_the_stock_python_exporters(viewer: Viewer, protocol: str) -> None:
    endpoint = viewer.base if protocol == "http/protobuf" else f"http://{viewer.grpc}"
    service = f"python {protocol}"
    printed = run(
        [sys.executable, str(SENDERS / "send.py")],
        OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
        OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
        OTEL_EXPORTER_OTLP_COMPRESSION="gzip",
        OTEL_SERVICE_NAME=service,
    )
    (one,) = traces_of(viewer, service)
    spans = spans_of(viewer, one["id"])
    assert {name: [span["trace"], span["id"], span["parent"]] for name, span in spans.items()} == json.loads(printed)
    assert spans["parent"]["kind"] == SERVER
    # What JavaScript's numbers can't hold is text in the API.
    assert spans["child"]["attributes"] == {"number": {"$int": str(2**60)}, "list": ["a", "b"], "ratio": 0.5}
    (record,) = spans["child"]["logs"]
    assert (record["body"], record["severity"]) == ("in the child", 13)
    (metric,) = [one for one in viewer.json("/api/metrics")["metrics"] if one["service"] == service]
    (series,) = viewer.json(f"/api/metrics/{metric['id']}/points")["series"]
    assert [point[1] for point in series["points"]] == [5]
