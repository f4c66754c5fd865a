"""``otelagent-run --ui``: a program's telemetry is on the page of a viewer that wasn't there before."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from otelagent.viewer.process import Running, find, find_or_start, stop
from tests.viewer.programs import RUN, ask, environment, program, start

WORK = """
    import logging, otelagent
    with otelagent.span("work"):
        logging.getLogger("shop").warning("nearly out of tea")
    status = otelagent.flush(20)
    otelagent.shutdown(20)
    status = otelagent.status()
    print(__import__("json").dumps([status["ledger"], status["destinations"]]))
"""


@pytest.fixture(autouse=True)
def none_left() -> Iterator[None]:
    yield
    stop()


@pytest.fixture
def viewer() -> Running:
    """One that runs already: on the standard port, other programs of this machine might find it."""
    return find_or_start(0)


def run(*command: str, **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*RUN, *command], capture_output=True, text=True, timeout=120, env=environment(**changes), check=False
    )


def balanced(ledger: dict[str, Any]) -> bool:
    return all(one["balanced"] for one in ledger.values())


def test_a_program_is_on_the_page(tmp_path: Path, engine: str, viewer: Running) -> None:
    done = run(*program(tmp_path, WORK))
    assert done.returncode == 0, done.stderr
    # Before the application's start, and before the agent's own line.
    assert done.stderr.splitlines()[0] == f"otelagent-run: traces on {viewer.address}"
    ledger, _ = json.loads(done.stdout)
    assert balanced(ledger)
    assert ledger["traces"]["delivered"] == ledger["logs"]["delivered"] == 1
    (trace,) = ask(viewer, "/api/traces")["traces"]
    assert (trace["name"], trace["service"]) == ("work", "shop")
    (record,) = ask(viewer, "/api/logs")["logs"]
    assert (record["body"], record["trace"]) == ("nearly out of tea", trace["id"])


def test_two_at_once_share_one(tmp_path: Path) -> None:
    command = [*RUN, *program(tmp_path, WORK)]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())
        for _ in range(2)
    ]
    outputs = [one.communicate(timeout=120) for one in running]
    assert [one.returncode for one in running] == [0, 0], outputs
    (viewer,) = find()
    assert all(viewer.address in err for _, err in outputs)
    assert len(ask(viewer, "/api/traces?service=shop&operation=work")["traces"]) == 2


def test_another_exporter_is_kept(tmp_path: Path, engine: str, viewer: Running) -> None:
    exported = tmp_path / "spans.jsonl"
    done = run("--exporter=file", f"--file={exported}", *program(tmp_path, WORK))
    assert done.returncode == 0, done.stderr
    ledger, destinations = json.loads(done.stdout)
    assert balanced(ledger)
    assert destinations["traces:ui"] == f"{viewer.http}/v1/traces"
    assert '"work"' in exported.read_text()
    assert [one["name"] for one in ask(viewer, "/api/traces")["traces"]] == ["work"]


def test_the_command_has_no_child_but_its_own(tmp_path: Path) -> None:
    done = run(*program(tmp_path, "import os\ntry: os.wait()\nexcept ChildProcessError: print('none')"))
    assert done.stdout == "none\n", done.stderr


def test_a_viewer_that_dies_harms_nobody(tmp_path: Path, engine: str, viewer: Running) -> None:
    dies = f"""
        import os, re, signal, sys, otelagent
        os.kill(int(sys.stdin.readline()), signal.{signal.SIGKILL.name})
        with otelagent.span("after"):
            pass
        otelagent.shutdown(5)
        print(__import__("json").dumps(otelagent.status()["ledger"]))
    """
    process = start(*RUN, *program(tmp_path, dies))
    out, err = process.communicate(f"{viewer.pid}\n", timeout=120)
    assert process.returncode == 0, err
    ledger = json.loads(out)
    assert balanced(ledger)
    assert ledger["traces"]["spooled"] == 1


def test_without_the_extra_it_says_so_and_starts_nothing(tmp_path: Path) -> None:
    without = "import sys; sys.modules['uvicorn'] = None; from otelagent.cli.run import main; sys.exit(main())"
    command = [sys.executable, "-c", without, "--ui", *program(tmp_path, "print('started')")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment(), check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "pip install 'otelagent[ui]'" in done.stderr


def test_what_will_not_be_there_is_told(tmp_path: Path) -> None:
    command = program(tmp_path, "print('started')")
    off = run(*command, OTEL_SDK_DISABLED="true")
    assert (off.returncode, off.stdout) == (0, "started\n")
    assert "--ui has nothing to show: enabled is false (from OTEL_SDK_DISABLED)" in off.stderr
    assert find() == []
    none = run(*command, OTEL_TRACES_EXPORTER="none")
    assert "no traces will be there: exporter is none (from OTEL_TRACES_EXPORTER)" in none.stderr


def test_with_json_standard_error_is_json_alone(tmp_path: Path, viewer: Running) -> None:
    command = program(tmp_path, WORK)
    done = run("--console=json", "--logs-exporter=none", *command)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines() if line != "nearly out of tea"]
    assert [line["name"] for line in lines] == ["work"]
    assert [one["name"] for one in ask(viewer, "/api/traces")["traces"]] == ["work"]
    told = run("--console=json", "--no-quiet", *command)
    assert f"otelagent-run: traces on {viewer.address}" in told.stderr


def test_without_a_stream_to_tell_it_the_command_runs_and_is_shown(tmp_path: Path, viewer: Running) -> None:
    for closed in ("2>&-", "0<&- 1>&- 2>&-"):
        command = ["sh", "-c", f'exec "$@" {closed}', "sh", *RUN, *program(tmp_path, WORK)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment(), check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert (done.stdout == "") == ("1>&-" in closed)
    assert [one["name"] for one in ask(viewer, "/api/traces")["traces"]] == ["work", "work"]
