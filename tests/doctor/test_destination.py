"""Destinations that are broken, and the same after the advice was followed."""

from __future__ import annotations

from tests.delivery.harness import FaultServer
from tests.doctor.harness import doctor

TAKES = {"status": 200}


def base(server: FaultServer) -> str:
    return server.endpoint.removesuffix("/v1/traces")


def test_nothing_listens_and_then_a_collector_does() -> None:
    with FaultServer("http", TAKES) as server:
        endpoint = base(server)
        report = doctor(f"--endpoint={endpoint}", "--logs-exporter=otlp")
        assert [report.status(name) for name in ("connect", "span", "log_record", "metric")] == ["pass"] * 4, report
        assert report.code == 0
        assert [one["path"] for one in server.stop() if one["bytes"]] == ["/v1/traces", "/v1/logs", "/v1/metrics"]
    report = doctor(f"--endpoint={endpoint}")
    assert report.code == 1
    assert report.status("connect") == report.status("span") == "fail"
    assert "otelagent ui" in report.said("connect")
