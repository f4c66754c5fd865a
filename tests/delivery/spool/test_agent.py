"""The spool in whole programs: an application ends or is killed while the collector is down, and starts again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from otelagent.config import load
from otelagent.delivery.delivery import spool_at, spool_identity
from otelagent.record.resource import static_attributes
from tests.delivery.harness import FaultServer

PROGRAM = """
import json, os, signal, sys, time
import otelagent
otelagent.init(service_name="shop", quiet=True, **json.loads(sys.argv[1]))
for number in range(int(sys.argv[2])):
    with otelagent.span("span %d" % number):
        pass
end = sys.argv[3]
if end == "kill":
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and otelagent.status()["ledger"]["traces"]["spooled"] < int(sys.argv[2]):
        otelagent.flush(0.2)
    os.kill(os.getpid(), signal.SIGKILL)
if end == "term":
    os.kill(os.getpid(), signal.SIGTERM)
if end == "wait":
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and not (ledger := otelagent.status()["ledger"]["traces"])["delivered"]:
        time.sleep(0.01)
otelagent.shutdown()
print(json.dumps(otelagent.status()))
"""
DEAD = "http://127.0.0.1:1"


def run(endpoint: str, spans: int, end: str, **settings: Any) -> tuple[int, dict[str, Any], float]:
    settings = {"endpoint": endpoint, "retry_initial_backoff_ms": 10, "retry_max_backoff_ms": 20, **settings}
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(settings), str(spans), end],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    status = json.loads(done.stdout.splitlines()[-1]) if done.stdout else {}
    return done.returncode, status, time.monotonic() - begun


@pytest.mark.parametrize(("end", "code"), [("shutdown", 0), ("term", -15), ("kill", -9)])
@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_what_one_process_could_not_deliver_the_next_one_does(protocol: str, end: str, code: int) -> None:
    returned, status, took_s = run(DEAD, 7, end, protocol=protocol)
    assert returned == code
    if status:
        ledger = status["ledger"]["traces"]
        assert (ledger["spooled"], ledger["dropped"], ledger["balanced"]) == (7, {}, True)
        assert took_s < 5
    with FaultServer(protocol[:4], {"status": 200}) as server:
        # Another address is another destination, which must not get what was meant for the first.
        _, status, _ = run(f"http://127.0.0.1:{server.port}", 0, "shutdown", protocol=protocol)
        assert status["ledger"]["traces"]["adopted"] == 0
        assert server.stop() == []


def test_a_process_without_spans_of_its_own_delivers_what_was_left() -> None:
    with FaultServer("http", {"status": 503}) as server:
        port = server.port
        run(f"http://127.0.0.1:{port}", 7, "kill")
    with FaultServer("http", {"status": 200}, port=port) as server:
        _, status, _ = run(f"http://127.0.0.1:{port}", 0, "wait")
        requests = server.stop()
    ledger = status["ledger"]["traces"]
    assert (ledger["ended"], ledger["adopted"], ledger["delivered"], ledger["spooled"]) == (0, 7, 7, 0)
    assert ledger["balanced"]
    assert b"span 0".hex() in requests[-1]["body"]


UNNAMED = """
import json, sys, time
import otelagent
otelagent.init(endpoint=sys.argv[1], quiet=True, retry_initial_backoff_ms=10, retry_max_backoff_ms=20)
with otelagent.span(sys.argv[0]):
    pass
deadline = time.monotonic() + float(sys.argv[2])
while time.monotonic() < deadline and otelagent.status()["ledger"]["traces"]["delivered"] < 2:
    time.sleep(0.01)
otelagent.shutdown()
print(json.dumps(otelagent.status()))
"""


def test_a_program_without_a_name_sends_what_itself_has_left_and_nothing_of_another(tmp_path: Path) -> None:
    def run_script(name: str, endpoint: str, seconds: float = 0.0) -> dict[str, Any]:
        script = tmp_path / f"{name}.py"
        script.write_text(UNNAMED)
        command = [sys.executable, str(script), endpoint, str(seconds)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        status: dict[str, Any] = json.loads(done.stdout)
        assert status["service"] == name
        counts: dict[str, Any] = status["ledger"]["traces"]
        return counts

    with FaultServer("http", {"status": 503}) as server:
        port = server.port
        assert run_script("bill", server.endpoint)["spooled"] == 1
        assert run_script("ship", server.endpoint)["adopted"] == 0
    with FaultServer("http", {"status": 200}, port=port) as server:
        counts = run_script("bill", server.endpoint, 20.0)
        bodies = b"".join(bytes.fromhex(request["body"]) for request in server.stop())
    assert (counts["adopted"], counts["delivered"], counts["spooled"]) == (1, 2, 0)
    assert b"bill.py" in bodies
    assert b"ship.py" not in bodies


def test_without_a_spool_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    _, status, _ = run(DEAD, 3, "shutdown", spool=False)
    assert status["ledger"]["traces"]["dropped"] == {"shutdown": 3}
    assert status["delivery"]["traces"]["spool"] is None
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("environ", [{"HOME": "/proc/nowhere"}, {"HOME": "/"}, {"HOME": "relative"}])
def test_a_user_without_a_home_is_as_without_a_spool(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_STATE_HOME")
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    returned, status, _ = run(DEAD, 3, "shutdown")
    assert returned == 0
    assert status["ledger"]["traces"]["dropped"] == {"shutdown": 3}


def test_no_secret_is_on_disk(tmp_path: Path) -> None:
    settings = {
        "endpoint": "http://user:s3cr3t-userinfo@127.0.0.1:1/v1/traces?api-key=s3cr3t-query",
        "headers": "authorization=Bearer s3cr3t-token,x-scope-orgid=s3cr3t-tenant",
        "spool_directory": str(tmp_path / "spool"),
    }
    _, status, _ = run(spans=3, end="shutdown", **settings)
    assert status["ledger"]["traces"]["spooled"] == 3
    files = [path for path in (tmp_path / "spool").rglob("*") if path.is_file()]
    assert len(files) >= 3
    for path in files:
        assert b"s3cr3t" not in path.read_bytes()
        assert "s3cr3t" not in str(path)


class TestIdentity:
    def identity(self, **settings: Any) -> dict[str, str]:
        config = load({"service_name": "shop", **settings}, {})
        return spool_identity(config, "traces", static_attributes(config))

    @pytest.mark.parametrize(
        "settings",
        [
            {"service_name": "other"},
            {"service_name": None, "resource_attributes": "service.name=other"},
            {"service_namespace": "eu"},
            {"deployment_environment": "staging"},
            {"endpoint": "http://there:4318"},
            {"protocol": "grpc"},
            {"headers": "x-scope-orgid=blue"},
        ],
    )
    def test_another_service_destination_or_tenant_is_another(self, settings: dict[str, str]) -> None:
        assert self.identity(**settings) != self.identity()

    @pytest.mark.parametrize("name", ["authorization", "x-api-key", "dd-api-key", "cookie", "x-honeycomb-team-token"])
    def test_a_credential_that_changes_is_the_same(self, name: str) -> None:
        assert self.identity(headers=f"{name}=old") == self.identity(headers=f"{name}=new")

    def test_signals_are_apart(self) -> None:
        config = load({}, {})
        assert spool_identity(config, "traces", {}) != spool_identity(config, "logs", {})

    @pytest.mark.parametrize("exporter", ["console", "file", "none"])
    def test_only_what_goes_to_a_collector_is_kept(self, exporter: str) -> None:
        assert spool_at(load({"exporter": exporter}, {}), "traces", dict) is None

    def test_a_relative_state_directory_is_ignored(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_STATE_HOME", "relative")
        monkeypatch.setenv("HOME", "/home/me")
        at = spool_at(load({}, {}), "traces", dict)
        assert at is not None
        assert at.directory == "/home/me/.local/state/otelagent/spool"
