"""`otelagent doctor` before the real collector: broken as users break it, and mended as it says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import backends
from backends import COLLECTOR_ONLY, Collector, wait_for
from tests.doctor.harness import doctor
from tests.support import backends_or_skip

pytestmark = pytest.mark.backends

AUTHENTICATED = """yaml:
extensions: {{bearertokenauth: {{filename: {tokens}}}}}
receivers: {{otlp: {{protocols: {{http: {{auth: {{authenticator: bearertokenauth}}}},
  grpc: {{auth: {{authenticator: bearertokenauth}}}}}}}}}}
service: {{extensions: [health_check, bearertokenauth]}}
"""

Start = Callable[..., Collector]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a collector with overlays."""
    backends_or_skip()
    started: list[Collector] = []

    def one(*overlays: str, config: Path = COLLECTOR_ONLY) -> Collector:
        collector = Collector(tmp_path / f"collector-{len(started)}", overlays=overlays, config=config)
        started.append(collector)
        collector.__enter__()
        return collector

    yield one
    for collector in started:
        collector.__exit__(None, None, None)


def arrived(collector: Collector) -> set[str]:
    """The names of the doctor's spans that the collector has."""
    return {span.name for span in backends.collector_spans(collector.file)}


def test_all_is_well(start: Start) -> None:
    collector = start()
    for endpoint, protocol in ((collector.otlp_http, "http/protobuf"), (collector.otlp_grpc, "grpc")):
        report = doctor(f"--endpoint={endpoint}", f"--protocol={protocol}", "--logs-exporter=otlp")
        assert report.code == 0, report
        assert report.status("span") == report.status("log_record") == "pass"
    wait_for(lambda: arrived(collector) == {"otelagent doctor"}, 20, what="the doctor's span")


def test_the_collectors_other_port(start: Start) -> None:
    collector = start()
    report = doctor(f"--endpoint={collector.otlp_grpc}")
    assert report.status("protocol") == "fail", report
    assert "protocol=grpc" in report.said("protocol")
    assert doctor(f"--endpoint={collector.otlp_grpc}", "--protocol=grpc").status("protocol") == "pass"
    report = doctor(f"--endpoint={collector.otlp_http}", "--protocol=grpc")
    assert report.status("protocol") == "fail", report
    assert "protocol=http/protobuf" in report.said("protocol")
    assert doctor(f"--endpoint={collector.otlp_http}").status("protocol") == "pass"


def test_a_doubled_path_at_the_collector(start: Start) -> None:
    collector = start()
    report = doctor(OTEL_EXPORTER_OTLP_ENDPOINT=f"{collector.otlp_http}/v1/traces")
    assert report.status("path") == report.status("span") == "fail"
    assert f"set OTEL_EXPORTER_OTLP_ENDPOINT={collector.otlp_http}, to which" in report.said("path")
    report = doctor(OTEL_EXPORTER_OTLP_ENDPOINT=collector.otlp_http)
    assert report.status("path") == report.status("span") == "pass"


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_the_collector_wants_a_token(protocol: str, start: Start, tmp_path: Path) -> None:
    tokens, mine = tmp_path / "tokens", tmp_path / "mine"
    tokens.write_text("right-token\n")
    collector = start(AUTHENTICATED.format(tokens=tokens))
    endpoint = collector.otlp_grpc if protocol == "grpc" else collector.otlp_http
    options = (f"--endpoint={endpoint}", f"--protocol={protocol}")
    report = doctor(*options)
    assert report.status("credentials") == "fail", report
    assert "--bearer-token-file" in report.said("credentials")
    mine.write_text("right-token")
    report = doctor(*options, f"--bearer-token-file={mine}")
    assert report.status("credentials") == report.status("span") == "pass"


def without_pipelines(directory: Path, begin: str, end: str) -> Path:
    """The configuration without the pipelines from one, and up to another."""
    whole = COLLECTOR_ONLY.read_text()
    config = directory / f"without-{begin}.yaml"
    first, after = (whole.index(f"    {one}:\n      receivers") for one in (begin, end))
    config.write_text(whole[:first] + whole[after:])
    return config


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_collector_without_a_pipeline_for_traces(protocol: str, start: Start, tmp_path: Path) -> None:
    without = start(config=without_pipelines(tmp_path, "traces", "metrics"))
    at = {"http/protobuf": without.otlp_http, "grpc": without.otlp_grpc}
    report = doctor(f"--endpoint={at[protocol]}", f"--protocol={protocol}")
    assert {one["id"] for one in report.json["checks"] if one["status"] == "fail"} == {"span"}, report
    assert report.status("receiver") == report.status("protocol") == "pass"
    assert "it takes OTLP, but no traces: give it a traces pipeline" in report.said("span")
    # At the other port the protocol is what is wrong first.
    other = at["grpc" if protocol == "http/protobuf" else "http/protobuf"]
    report = doctor(f"--endpoint={other}", f"--protocol={protocol}")
    assert (report.status("protocol"), report.status("receiver")) == ("fail", "pass"), report
    whole = start()
    there = whole.otlp_grpc if protocol == "grpc" else whole.otlp_http
    assert doctor(f"--endpoint={there}", f"--protocol={protocol}").status("span") == "pass"


def test_a_collector_without_a_pipeline_for_metrics(start: Start, tmp_path: Path) -> None:
    without = start(config=without_pipelines(tmp_path, "metrics", "logs"))
    report = doctor(f"--endpoint={without.otlp_http}")
    assert (report.status("span"), report.status("metric"), report.code) == ("pass", "warn", 0)
    assert "metrics pipeline" in report.said("metric")
    assert doctor(f"--endpoint={start().otlp_http}").status("metric") == "pass"
