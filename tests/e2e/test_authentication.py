"""The real collector with its own authenticator: who has no valid token gets nothing in."""

from __future__ import annotations

import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

import backends
from backends import Collector, wait_for
from otelagent.config import load
from otelagent.delivery import Ledger, open_delivery
from tests.delivery.harness import payload
from tests.support import backends_or_skip

pytestmark = pytest.mark.backends

OVERLAY = """yaml:
extensions: {{bearertokenauth: {{filename: {tokens}}}}}
receivers: {{otlp: {{protocols: {{http: {{auth: {{authenticator: bearertokenauth}}}},
  grpc: {{auth: {{authenticator: bearertokenauth}}}}}}}}}}
service: {{extensions: [health_check, bearertokenauth]}}
"""


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    """The file with the tokens that the collector takes, a line each."""
    path = tmp_path / "tokens"
    path.write_text("first-token\n")
    return path


@pytest.fixture
def collector(tmp_path: Path, tokens: Path) -> Iterator[Collector]:
    backends_or_skip()
    with Collector(tmp_path / "collector", overlays=[OVERLAY.format(tokens=tokens)]) as started:
        yield started


def takes(collector: Collector, token: str) -> bool:
    """Whether the collector takes a token now."""
    headers = {"authorization": f"Bearer {token}", "content-type": "application/x-protobuf"}
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{collector.otlp_http}/v1/traces", b"", headers)):
            return True
    except urllib.error.HTTPError:
        return False


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_tokens_come_late_and_change_on_both_sides(
    protocol: str, collector: Collector, tokens: Path, tmp_path: Path
) -> None:
    path = tmp_path / "token"
    settings = {
        "endpoint": collector.otlp_grpc if protocol == "grpc" else collector.otlp_http,
        "protocol": protocol,
        "bearer_token_file": str(path),
        "spool_directory": str(tmp_path / "spool"),
        "retry_initial_backoff_ms": 10,
        "retry_max_backoff_ms": 50,
    }
    ledger = Ledger("traces")
    destination = open_delivery(load(settings, {}), ledger, dict)

    def send(name: str) -> bool:
        ledger.ended(2)
        destination.submit(payload(2, name))
        return destination.flush(time.monotonic() + 20)

    def replace(token: str) -> None:
        new = tmp_path / "new"
        new.write_text(token)
        os.utime(new, (time.time(), time.time() - 1))  # As if it had been written some time ago.
        new.rename(path)

    try:
        assert not send("before there is a token")
        replace("first-token")
        assert send("with the first")
        tokens.write_text("second-token\n")
        wait_for(lambda: takes(collector, "second-token") and not takes(collector, "first-token"), 20, what="reload")
        replace("second-token")
        assert send("with the second")
        replace("wrong-token")
        assert not send("with a wrong one")
    finally:
        destination.shutdown(time.monotonic() + 5)
    snapshot = ledger.snapshot()
    assert snapshot.balanced
    assert (snapshot.ended, snapshot.delivered) == (8, 6)
    assert sum(snapshot.rejected.values()) == 2
    written = [span.name for span in backends.collector_spans(collector.file)]
    assert sorted(set(written)) == ["before there is a token", "with the first", "with the second"]
    assert len(written) == 6
