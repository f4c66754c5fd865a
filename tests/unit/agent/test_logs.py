"""Log records under the agent, from `logging` to a file: each program in a process of its own, with either engine."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support import Outcome, run_program

HEAD = """
import json, logging, os, sys, otelagent
from opentelemetry import _logs, trace
shop = logging.getLogger("shop")
"""


def run(folder: Path, body: str, **environ: str) -> Outcome:
    lines = [line[4:] if line.startswith("    ") else line for line in body.splitlines()]
    environ = {"OTELAGENT_LOGS_EXPORTER": "file", "OTELAGENT_LOGS_FILE": str(folder / "logs.jsonl"), **environ}
    return run_program(folder, HEAD + "\n".join(lines), **environ)


def records(folder: Path) -> list[dict[str, Any]]:
    """What the file exporter wrote, each with its scope's name and its resource."""
    return [
        {
            **record,
            "scope": scope["scope"]["name"],
            "resource": {one["key"]: next(iter(one["value"].values())) for one in resource["resource"]["attributes"]},
        }
        for line in (folder / "logs.jsonl").read_text().splitlines()
        for resource in json.loads(line)["resourceLogs"]
        for scope in resource["scopeLogs"]
        for record in scope["logRecords"]
    ]


def bodies(folder: Path) -> list[str]:
    return [record["body"]["stringValue"] for record in records(folder)]


def test_what_is_logged_in_a_span_has_its_ids(tmp_path: Path) -> None:
    outcome = run(
        tmp_path,
        """
    otelagent.init()
    with otelagent.span("order"):
        shop.warning("%d teas", 3, extra={"order.id": 7})
    _logs.get_logger("by.api").emit(body="by the API", event_name="shop.closed")
    assert otelagent.flush()
    print(json.dumps([otelagent.status()["ledger"], otelagent.status()["destinations"]]))
    """,
    )
    assert outcome.code == 0, outcome.err
    (span,) = outcome.spans
    logged, by_api = records(tmp_path)
    assert (logged["traceId"], logged["spanId"]) == (span["traceId"], span["spanId"])
    assert (logged["scope"], logged["body"]) == ("shop", {"stringValue": "3 teas"})
    assert {"key": "order.id", "value": {"intValue": "7"}} in logged["attributes"]
    assert logged["resource"] == {one["key"]: next(iter(one["value"].values())) for one in span["resource"]}
    assert (by_api["scope"], by_api["eventName"]) == ("by.api", "shop.closed")
    assert "traceId" not in by_api
    ledger, destinations = outcome.json
    assert (ledger["traces"]["delivered"], ledger["logs"]["delivered"]) == (1, 2)
    assert ledger["logs"]["balanced"]
    assert destinations == {"traces": str(outcome.spans_file), "logs": str(tmp_path / "logs.jsonl")}


def test_without_the_setting_nothing_of_it_is_there(tmp_path: Path) -> None:
    outcome = run(
        tmp_path,
        """
    before = logging.Logger.callHandlers
    otelagent.init()
    shop.warning("a")
    assert logging.Logger.callHandlers is before
    assert list(otelagent.status()["ledger"]) == ["traces"]
    loaded = {"opentelemetry.sdk._logs", "otelagent.record.native_logs", "otelagent.record.sdk_logs"}
    print(json.dumps(sorted(loaded & set(sys.modules))))
    """,
        OTELAGENT_LOGS_EXPORTER="",
    )
    assert outcome.code == 0, outcome.err
    assert outcome.json == []
    assert not (tmp_path / "logs.jsonl").exists()


def test_the_applications_own_output_is_what_it_was(tmp_path: Path) -> None:
    outcome = run(
        tmp_path,
        """
    otelagent.init(quiet=True)
    shop.warning("by the last resort")
    assert logging.getLogger().handlers == []
    logging.basicConfig(format="CONFIGURED %(message)s")
    shop.warning("by a handler")
    """,
    )
    assert outcome.code == 0, outcome.err
    assert outcome.err == "by the last resort\nCONFIGURED by a handler\n"
    assert bodies(tmp_path) == ["by the last resort", "by a handler"]


def test_pause_resume_and_shutdown(tmp_path: Path) -> None:
    outcome = run(
        tmp_path,
        """
    otelagent.init()
    otelagent.pause()
    shop.warning("while paused")
    otelagent.resume()
    shop.warning("after")
    assert otelagent.shutdown()
    shop.warning("too late")
    _logs.get_logger("by.api").emit(body="too late")
    print(json.dumps(otelagent.status()["ledger"]["logs"]))
    """,
    )
    assert outcome.code == 0, outcome.err
    assert bodies(tmp_path) == ["after"]
    assert outcome.json["balanced"]
    assert (outcome.json["ended"], outcome.json["sampled_out"], outcome.json["delivered"]) == (3, 1, 1)
    assert outcome.json["dropped"] == {"shutdown": 1}


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ("pass", 0),
        ("sys.exit(3)", 3),
        ("raise ValueError", 1),
        ("os.kill(os.getpid(), 15)", -signal.SIGTERM),
    ],
)
def test_the_last_records_arrive_however_the_process_ends(tmp_path: Path, ending: str, code: int) -> None:
    outcome = run(tmp_path, f"    otelagent.init()\n    shop.warning('last words')\n    {ending}\n")
    assert outcome.code == code, outcome.err
    assert bodies(tmp_path) == ["last words"]


def test_a_fork_child_has_its_own_books_and_the_identity_of_its_spans(tmp_path: Path) -> None:
    outcome = run(
        tmp_path,
        """
    import warnings
    warnings.simplefilter("ignore")   # Python 3.12 warns of forking with threads
    otelagent.init()
    shop.warning("parent, before")
    pid = os.fork()
    if pid == 0:
        with otelagent.span("child"): shop.warning("child")
        assert otelagent.status()["ledger"]["logs"]["ended"] == 1
        assert otelagent.flush()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    shop.warning("parent, after")
    assert otelagent.flush()
    assert otelagent.status()["ledger"]["logs"]["delivered"] == 2
    """,
    )
    assert outcome.code == 0, outcome.err
    found = {record["body"]["stringValue"]: record["resource"] for record in records(tmp_path)}
    assert len(found) == len(records(tmp_path)) == 3
    assert found["parent, before"] == found["parent, after"]
    (span,) = outcome.spans
    assert found["child"] == {one["key"]: next(iter(one["value"].values())) for one in span["resource"]}
    for key in ("process.pid", "service.instance.id"):
        assert found["child"][key] != found["parent, after"][key]


def test_the_level_is_the_settings(tmp_path: Path) -> None:
    outcome = run(
        tmp_path,
        """
    otelagent.init()
    shop.setLevel("DEBUG")
    for level in ("debug", "info", "warning", "error"):
        getattr(shop, level)(level)
    """,
        OTEL_PYTHON_LOG_HANDLER_LEVEL="warning",
    )
    assert outcome.code == 0, outcome.err
    assert bodies(tmp_path) == ["warning", "error"]


def test_a_provider_of_the_applications_stays(tmp_path: Path) -> None:
    outcome = run(
        tmp_path,
        """
    class Mine(_logs.LoggerProvider):
        def get_logger(self, *args, **kwargs): return _logs.NoOpLogger("mine")
    mine = Mine()
    _logs.set_logger_provider(mine)
    otelagent.init()
    shop.warning("theirs")
    assert _logs.get_logger_provider() is mine
    print(json.dumps([otelagent.status()["warnings"], list(otelagent.status()["ledger"])]))
    """,
    )
    assert outcome.code == 0, outcome.err
    warnings, ledgers = outcome.json
    assert ["a LoggerProvider of __main__ is set already" in warning for warning in warnings] == [True]
    assert ledgers == ["traces"]


def test_exporting_log_records_logs_none_that_would_be_exported(tmp_path: Path) -> None:
    # With the root logger at DEBUG, HTTP clients tell of every request.
    outcome = run(
        tmp_path,
        """
    logging.basicConfig(level="DEBUG", filename=os.devnull)
    otelagent.init(logs_exporter="otlp", logs_endpoint="http://127.0.0.1:9", exporter="none", exit_timeout_ms=100)
    shop.warning("one")
    otelagent.flush(0.5)
    otelagent.flush(0.5)
    print(json.dumps(otelagent.status()["ledger"]["logs"]["ended"]))
    """,
    )
    assert outcome.code == 0, outcome.err
    assert outcome.json == 1


def test_a_broken_environment_harms_only_what_it_is_about(tmp_path: Path) -> None:
    outcome = run(
        tmp_path,
        "    otelagent.init()\n    shop.warning('fine')\n    print(json.dumps(otelagent.status()['state']))\n",
        OTEL_BLRP_MAX_QUEUE_SIZE="many",
        OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT="-1",
        OTEL_ATTRIBUTE_COUNT_LIMIT="some",
        OTEL_PYTHON_LOGGER_PROVIDER="nobody",
        OTEL_EXPERIMENTAL_RESOURCE_DETECTORS="nobody",
        OTEL_EXPORTER_OTLP_LOGS_ENDPOINT="nowhere",
    )
    assert outcome.code == 0, outcome.err
    assert outcome.json == "RUNNING"
    assert bodies(tmp_path) == ["fine"]


def test_the_line_at_start_says_where_they_go(tmp_path: Path) -> None:
    outcome = run(tmp_path, "    logging.basicConfig(level='INFO')\n    otelagent.init()\n")
    assert outcome.code == 0, outcome.err
    assert f"; log records → {tmp_path}{os.sep}logs.jsonl" in outcome.err
