"""The checks of how a process ends and what becomes of its spans."""

from __future__ import annotations

import shlex
from pathlib import Path

from tests.delivery.harness import FaultServer
from tests.doctor.harness import TAKES, Examine, doctor
from tests.support import free_port

WORK = "import otelagent\nwith otelagent.span('work'): pass\n"
ITSELF = "import otelagent\notelagent.init()\nwith otelagent.span('work'): pass\n"


def test_a_place_that_init_names_and_the_doctor_has_not_tried(examine: Examine, tmp_path: Path) -> None:
    elsewhere = f"http://127.0.0.1:{free_port()}"
    source = ITSELF.replace("init()", f"init(endpoint='{elsewhere}', exit_timeout_ms=300)")
    report = examine(source, "--as-is", f"--spool-directory={tmp_path / 'spool'}")
    assert report.status("span") == "pass"
    for name in ("exit", "delivery"):
        assert f"otelagent doctor --endpoint={elsewhere}/v1/traces" in report.said(name)
    assert doctor(f"--endpoint={elsewhere}/v1/traces").status("connect") == "fail"
    assert examine(ITSELF, "--as-is").status("delivery") == "pass"


def test_what_is_masked_is_not_given_to_a_shell(examine: Examine, tmp_path: Path) -> None:
    port = free_port()
    for endpoint, advised in (
        (f"http://me:pw@127.0.0.1:{port}/base?key=v", f"http://127.0.0.1:{port}/base/v1/traces"),
        (f"http://[::1]:{port}", f"http://[::1]:{port}/v1/traces"),
    ):
        source = ITSELF.replace("init()", f"init(endpoint='{endpoint}', exit_timeout_ms=300)")
        report = examine(source, "--as-is", f"--spool-directory={tmp_path / 'spool'}")
        (finding,) = report.of("exit")
        advice = finding["advice"].partition("names, too: ")[2]
        command, _, rest = advice.partition(", with its user and query, left out here")
        assert shlex.split(command.partition(";")[0]) == ["otelagent", "doctor", f"--endpoint={advised}"], finding
        assert bool(rest) == ("@" in endpoint)
        assert ("'" in command) == ("[" in endpoint)
        assert "***" not in finding["advice"]


def test_the_process_ends_by_os_exit(examine: Examine) -> None:
    report = examine(f"import os\n{WORK}os._exit(0)\n")
    assert report.status("exit") == "fail"
    assert "program.py:4: 1 span was not delivered" in report.said("exit")
    assert report.status("delivery") == "fail"
    assert "0 items delivered; 1 span was not delivered" in report.said("delivery")
    report = examine(f"import os\n{WORK}otelagent.flush()\nos._exit(0)\n")
    assert report.status("exit") == report.status("delivery") == "pass"
    assert "1 span had been delivered before" in report.of("exit")[0]["detail"]
    assert report.of("delivery")[0]["detail"] == "1 item delivered, none lost"
    report = examine("import os\nos._exit(0)\n")
    assert "there was nothing to deliver" in report.of("exit")[0]["detail"]
    assert examine(f"import sys\n{WORK}sys.exit(0)\n").status("exit") == "pass"


def test_what_a_process_imports_that_ends_by_os_exit_is_told(examine: Examine) -> None:
    report = examine("import os, sqlite3\nsqlite3.connect(':memory:').execute('select 1')\nos._exit(0)\n")
    assert "sqlite3" in report.of("instrumented")[0]["detail"]


def test_the_process_is_killed(examine: Examine) -> None:
    report = examine(f"import os, signal\n{WORK}os.kill(os.getpid(), signal.SIGKILL)\n")
    assert report.status("exit") == "fail"
    assert "1 span was not delivered" in report.said("exit")
    assert "grace period" in report.said("exit")
    assert "0 items delivered; 1 span was not delivered" in report.said("delivery")
    flushed = f"import os, signal\n{WORK}otelagent.flush()\nos.kill(os.getpid(), signal.SIGKILL)\n"
    assert examine(flushed).of("delivery")[0]["detail"] == "1 item delivered, none lost"
    assert examine(f"import os, signal\n{WORK}os.kill(os.getpid(), signal.SIGTERM)\n").status("exit") == "pass"


def test_a_span_in_a_daemon_thread(examine: Examine) -> None:
    source = """
        import threading, otelagent
        begun, end = threading.Event(), threading.Event()
        def work():
            with otelagent.span("work"):
                begun.set()
                end.wait()
        thread = threading.Thread(target=work, name="the worker", daemon=True)
        thread.start()
        begun.wait()
    """
    report = examine(source)
    assert report.status("exit") == "warn"
    assert "1 span was open" in report.said("exit")
    assert "the worker" in report.said("exit")
    joined = source + "        end.set()\n        thread.join()\n"
    assert examine(joined).status("exit") == "pass"


def test_what_waits_on_disk_and_what_is_lost(examine: Examine, tmp_path: Path) -> None:
    spool = f"--spool-directory={tmp_path / 'spool'}"
    with FaultServer("http", {"status": 503}) as server:
        away = (f"--endpoint={server.endpoint}", "--exit-timeout-ms=500")
        waits = examine(WORK, *away, spool)
        assert waits.status("delivery") == "warn"
        assert "to the same destination" in waits.said("delivery")
        assert "spool list" in waits.said("delivery")
        assert "spool replay" in waits.said("delivery")
        assert "what is on disk is sent later" in waits.said("exit")
        lost = examine(WORK, *away, "--no-spool")
        assert lost.status("exit") == "warn"
        assert lost.status("delivery") == "fail"
        assert "1 dropped shutdown" in lost.said("delivery")
        server.begin(TAKES)
        assert examine(WORK, f"--endpoint={server.endpoint}").status("delivery") == "pass"


def test_what_is_lost_leads_to_what_fails(examine: Examine) -> None:
    with FaultServer("http", {"status": 404}) as server:
        lost = examine(WORK, f"--endpoint={server.endpoint}")
        assert lost.status("delivery") == "fail"
        assert "see what fails: An OTLP receiver answers" in lost.said("delivery")
        # The doctor's own span is taken, and the program's is not.
        server.begin(TAKES, TAKES, TAKES, {"status": 400})
        lost = examine(WORK, f"--endpoint={server.endpoint}")
        assert (lost.status("span"), lost.status("delivery")) == ("pass", "fail")
        assert "see above" not in lost.said("delivery")
        assert lost.of("exit")[0]["detail"] == "ended with nothing left to deliver"
        assert "1 rejected http_400" in lost.said("delivery")
        server.begin(TAKES)
        assert examine(WORK, f"--endpoint={server.endpoint}").status("delivery") == "pass"
