"""Several destinations and their routes under the agent: each program in a process of its own, with either engine."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.delivery.harness import FaultServer
from tests.support import run_program

LAUNCHER = str(Path(sys.executable).with_name("otelagent-run"))

PROGRAM = """
import json, logging, otelagent
from opentelemetry.trace import StatusCode
otelagent.init()
shop = logging.getLogger("shop")
shop.setLevel(logging.INFO)
for number in range(40):
    with otelagent.span(f"order {number}", {"user.tier": "gold" if number % 10 == 0 else "free"}) as span:
        if number % 8 == 0:
            span.set_status(StatusCode.ERROR)
        shop.log(logging.ERROR if number % 20 == 0 else logging.INFO, "order %d", number)
with otelagent.span("GET /health"):
    pass
flushed = otelagent.flush()
print(json.dumps({**otelagent.status(), "flushed": flushed}))
"""


def test_errors_and_priority_users_to_one_and_the_rest_to_the_other(tmp_path: Path) -> None:
    wanted = [{"error": True}, {"attributes": {"user.tier": ["gold", "platinum"]}}]
    with FaultServer("http", {"status": 200}, spans=True) as server, FaultServer("grpc", {}) as other:
        destinations = {
            "vip": {"endpoint": f"http://127.0.0.1:{server.port}", "routes": wanted, "signals": ["traces"]},
            "log": {
                "endpoint": f"http://127.0.0.1:{other.port}",
                "protocol": "grpc",
                "routes": wanted,
                "signals": "logs",
            },
        }
        outcome = run_program(
            tmp_path,
            PROGRAM,
            OTELAGENT_ROUTES=json.dumps([{"unrouted": True, "not": {"name": "*/health"}}]),
            OTELAGENT_DESTINATIONS=json.dumps(destinations),
            OTELAGENT_LOGS_EXPORTER="file",
            OTELAGENT_LOGS_FILE=str(tmp_path / "logs.jsonl"),
        )
        requests, log_requests = server.stop(), other.stop()
    assert outcome.code == 0, outcome.err
    status = outcome.json
    assert status["flushed"]
    assert status["untaken"] == {"traces": 1, "logs": 0}

    routed = {f"order {number}" for number in range(40) if number % 8 == 0 or number % 10 == 0}
    main = {span["name"] for span in outcome.spans}
    assert main == {f"order {number}" for number in range(40)} - routed
    here = {span["spanId"] for span in outcome.spans}
    there = [span for request in requests for span in request["spans"]]
    assert len(there) == len(set(there)) == len(routed)
    assert not here & set(there)

    logged = [
        record["body"]["stringValue"]
        for line in (tmp_path / "logs.jsonl").read_text().splitlines()
        for resource in json.loads(line)["resourceLogs"]
        for scope in resource["scopeLogs"]
        for record in scope["logRecords"]
    ]
    assert sorted(logged) == sorted(f"order {number}" for number in range(40) if number % 20)

    sent = b"".join(bytes.fromhex(request["body"]) for request in log_requests)
    assert b"order 0" in sent
    assert b"order 1" not in sent

    expected = {"traces": (32, 9), "traces:vip": (8, 33), "logs": (38, 2), "logs:log": (2, 38)}
    assert status["ledger"].keys() == status["destinations"].keys() == status["delivery"].keys() == expected.keys()
    for key, (delivered, filtered) in expected.items():
        ledger = status["ledger"][key]
        assert ledger["balanced"]
        assert (ledger["delivered"], ledger["filtered"], ledger["queued"]) == (delivered, filtered, 0)


def test_the_start_line_and_status_tell_of_each(tmp_path: Path) -> None:
    destinations: dict[str, Any] = {"vip": {"endpoint": "https://me:s3cret@127.0.0.1:1", "signals": ["traces"]}}
    outcome = run_program(
        tmp_path,
        """
    import json, otelagent
    otelagent.init()
    print(json.dumps(otelagent.status()))
    """,
        LAUNCHER,
        OTELAGENT_DESTINATIONS=json.dumps(destinations),
        OTELAGENT_LOGS_EXPORTER="console",
    )
    assert outcome.code == 0, outcome.err
    (line,) = [line for line in outcome.err.splitlines() if "→" in line]
    assert f"→ {outcome.spans_file}, vip → https://***@127.0.0.1:1/v1/traces (engine" in line
    assert "; log records → standard output" in line
    assert outcome.json["destinations"].keys() == {"traces", "traces:vip", "logs"}
    assert "s3cret" not in outcome.out + outcome.err


def test_a_signal_that_is_switched_off_goes_nowhere(tmp_path: Path) -> None:
    outcome = run_program(
        tmp_path,
        """
    import json, otelagent
    otelagent.init(exporter="none", destinations={"vip": {"endpoint": "http://127.0.0.1:1", "signals": ["traces"]}})
    with otelagent.span("work"): pass
    otelagent.flush(0.1)
    status = otelagent.status()
    print(json.dumps([status["destinations"], status["ledger"]["traces"]["dropped"], status["warnings"]]))
    """,
    )
    assert outcome.code == 0, outcome.err
    assert outcome.json == [
        {"traces": "nowhere, exporter is none"},
        {"exporter_none": 1},
        ["destinations.vip: no traces go there, for exporter is none"],
    ]
