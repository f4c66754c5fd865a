"""Commands that are broken, and the same after the advice was followed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from otelagent.doctor.journal import Journal, read
from tests.doctor.harness import Examine, clean_environ, doctor
from tests.support import free_port, wait_until

WORK = "import otelagent\nwith otelagent.span('work'): pass\n"
ITSELF = "import otelagent\notelagent.init()\nwith otelagent.span('work'): pass\n"
UNSAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"


def ask(port: int, **headers: str) -> Callable[[], None]:
    """Asks a server as soon as there is one."""

    def until() -> None:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/", headers=headers)

        def answered() -> bool:
            try:
                urllib.request.urlopen(request, timeout=20).close()
            except OSError:
                return False
            return True

        wait_until(answered, 60)

    return until


def test_a_command_and_what_became_of_its_spans(examine: Examine) -> None:
    report = examine(
        """
        import logging, sqlite3, sys, otelagent
        with otelagent.span("work"):
            sqlite3.connect(":memory:").execute("select 1")
            logging.getLogger("shop").warning("low")
        print("out of the program")
        print("its complaint", file=sys.stderr)
        """,
        "--logs-exporter=otlp",
    )
    assert report.code == 0, report
    assert report.out == "out of the program\n"
    assert "its complaint\n" in report.err
    ours = [(row["signal"], row["scope"], row["started"], row["queued"]) for row in report.json["ledger"]]
    assert ours == [
        ("logs", "shop", 1, 1),
        ("traces", "otelagent", 1, 1),
        ("traces", "otelagent_instrumentation.db.sqlite3", 1, 1),
    ]
    for row in report.json["ledger"]:
        (counts,) = row["destinations"].values()
        assert counts == {"sent": 1, "accepted": 1, "refused": 0}
    worst = {report.status(name) for name in ("command", "started", "instrumented", "spans", "exit", "delivery")}
    assert worst == {"pass"}


@pytest.mark.parametrize("flag", ["-I", "-E", "-S"])
def test_python_that_ignores_its_environment(flag: str, examine: Examine) -> None:
    report = examine("print('ran')", flags=(flag,))
    assert report.out == "ran\n"
    assert report.status("command") == report.status("started") == "fail"
    assert f"leave out {flag}" in report.said("command")
    assert examine(WORK).status("command") == "pass"


def test_another_launcher(endpoint: str, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(WORK)
    command = (sys.executable, "shop.py")
    report = doctor(endpoint, command=("opentelemetry-instrument", *command), cwd=tmp_path)
    assert report.status("command") == "fail"
    assert "leave it out" in report.said("command")
    assert not report.json["ledger"]
    report = doctor(endpoint, command=command, cwd=tmp_path)
    assert report.status("command") == report.status("spans") == "pass"


def test_a_command_that_fails(examine: Examine) -> None:
    report = examine("raise SystemExit(3)")
    assert report.status("command") == "warn"
    assert "3" in report.said("command")
    assert report.code == 0
    assert examine("raise SystemExit(0)").status("command") == "pass"


def test_a_command_that_is_not_there(endpoint: str) -> None:
    words = [sys.executable, "-m", "otelagent.cli.main", "doctor", endpoint, "--", "no-such-command"]
    done = subprocess.run(words, capture_output=True, text=True, env=clean_environ(), timeout=60)
    assert done.returncode == 2
    assert "no-such-command" in done.stderr


def test_an_interpreter_without_otelagent(endpoint: str, tmp_path: Path, examine: Examine) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "env")], check=True, timeout=60)
    other = str(tmp_path / "env" / "bin" / "python")
    report = doctor(endpoint, command=(other, "-c", "print('ran')"))
    assert report.out == "ran\n"
    assert report.status("started") == "fail"
    assert f"install otelagent for {other}" in report.said("started")
    assert examine(WORK).status("started") == "pass"


def test_nobody_calls_init(examine: Examine) -> None:
    report = examine(WORK, "--as-is")
    assert report.status("started") == "fail"
    assert "otelagent.init()" in report.said("started")
    assert examine(ITSELF, "--as-is").status("started") == "pass"
    # Without an agent nothing is said of its workers and its provider.
    report = examine(PROVIDER + WORK, "--as-is")
    assert {one["id"] for one in report.json["checks"] if one["status"] in ("warn", "fail")} == {"started"}
    assert report.status("workers") == ""


def test_init_is_called_and_refuses_or_is_switched_off(examine: Examine) -> None:
    refuses = examine(ITSELF.replace("init()", "init(endpiont='x')"), "--as-is")
    assert refuses.status("started") == "fail"
    assert "endpiont" in refuses.said("started")
    assert "never called" not in refuses.said("started")
    off = examine(ITSELF.replace("init()", "init(enabled=False)"), "--as-is")
    assert "switched off by init() → take that out" in off.said("started")
    for report in (refuses, off):
        assert [report.status(name) for name in ("workers", "provider", "exit", "delivery", "spans")] == [""] * 5
    assert examine(ITSELF, "--as-is").status("started") == "pass"


def test_a_process_without_a_name(endpoint: str) -> None:
    command = (sys.executable, "-c", WORK)
    report = doctor(endpoint, command=command, OTEL_SERVICE_NAME="")
    assert report.status("started") == "warn"
    assert "unknown_service" in report.said("started")
    assert doctor(endpoint, command=command).status("started") == "pass"


def test_a_name_that_the_application_gives(endpoint: str) -> None:
    init = "import otelagent\notelagent.init({})\nwith otelagent.span('work'): pass\n"
    command = (sys.executable, "-c", init.format("service_name='early'"))
    report = doctor(endpoint, "--as-is", command=command, OTEL_SERVICE_NAME="")
    assert report.status("service_name") == "skip"
    assert 'service "early"' in report.of("started")[0]["detail"]
    assert report.json["counts"]["warn"] == 0
    # Without --as-is the agent runs before that line, which changes nothing.
    assert doctor(endpoint, command=command, OTEL_SERVICE_NAME="").status("started") == "warn"
    nameless = doctor(endpoint, "--as-is", command=(sys.executable, "-c", init.format("")), OTEL_SERVICE_NAME="")
    assert nameless.status("started") == "warn"


def test_a_name_after_the_program_is_told_as_it_is_and_not_missed(endpoint: str, tmp_path: Path) -> None:
    program = tmp_path / "shop.py"
    program.write_text(f"import time\n{WORK}print('made', flush=True)\ntime.sleep(60)\n")
    command = (sys.executable, str(program))
    report = doctor(endpoint, "--for=3", command=command, OTEL_SERVICE_NAME="")
    assert report.json["counts"]["warn"] == report.json["counts"]["fail"] == 0, report
    assert report.status("service_name") == "skip"
    (started,) = report.of("started")
    assert started["status"] == "pass"
    assert 'service "shop" (after its program)' in started["detail"]
    assert "unknown_service" not in str(report.json["checks"])


def test_advice_names_the_argument_of_init(examine: Examine) -> None:
    source = ITSELF.replace("init()", "init(service_name='unknown_service')")
    assert "set init(service_name=…)" in examine(source, "--as-is").said("started")


def test_an_otelagent_run_inside(endpoint: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(WORK)
    report = doctor(endpoint, command=("otelagent-run", "--service-name=inner", sys.executable, str(program)))
    assert report.status("started") == report.status("exit") == "pass"
    assert 'service "inner"' in report.of("started")[0]["detail"]


def test_a_library_set_up_before_the_agent(examine: Examine) -> None:
    late = "import django\nfrom django.conf import settings\nsettings.configure()\ndjango.setup()\n"
    report = examine(late + ITSELF, "--as-is")
    assert report.status("imports") == "warn"
    assert "django" in report.said("imports")
    report = examine(ITSELF + late, "--as-is")
    assert report.status("imports") == report.status("instrumented") == "pass"


def test_a_library_that_nothing_instruments(examine: Examine, tmp_path: Path) -> None:
    source = f"import sqlalchemy\n{WORK}"
    report = examine(source)
    assert report.status("instrumented") == "warn"
    assert "pip install opentelemetry-instrumentation-sqlalchemy" in report.said("instrumented")
    # What that installs, as far as it matters: an entry point, and an instrumentor.
    packages = tmp_path / "packages"
    about = packages / "opentelemetry_instrumentation_sqlalchemy-1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: opentelemetry-instrumentation-sqlalchemy\nVersion: 1\n"
        'Provides-Extra: instruments\nRequires-Dist: sqlalchemy>=1; extra == "instruments"\n'
    )
    (about / "entry_points.txt").write_text("[opentelemetry_instrumentor]\nsqlalchemy = standin:Instrumentor\n")
    (packages / "standin.py").write_text(
        textwrap.dedent("""
            from opentelemetry.instrumentation.instrumentor import BaseInstrumentor
            class Instrumentor(BaseInstrumentor):
                def instrumentation_dependencies(self): return ("sqlalchemy >= 1",)
                def _instrument(self, **kwargs): pass
                def _uninstrument(self, **kwargs): pass
        """)
    )
    report = examine(source, path=str(packages))
    assert report.status("instrumented") == "pass", report.said("instrumented")
    assert "sqlalchemy" in report.of("instrumented")[0]["detail"]


def test_a_library_that_is_switched_off(examine: Examine) -> None:
    source = f"import sqlite3\n{WORK}"
    report = examine(source, "--disabled-instrumentations=sqlite3")
    assert report.status("instrumented") == "warn"
    assert "change --disabled-instrumentations to trace sqlite3" in report.said("instrumented")
    assert examine(source).status("instrumented") == "pass"


def test_a_version_that_is_not_supported(examine: Examine, tmp_path: Path) -> None:
    source = f"import urllib3\n{WORK}"
    old = tmp_path / "old"
    (old / "urllib3").mkdir(parents=True)
    (old / "urllib3" / "__init__.py").write_text("__version__ = '0.9'\n")
    (old / "urllib3-0.9.dist-info").mkdir()
    (old / "urllib3-0.9.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: urllib3\nVersion: 0.9\n")
    report = examine(source, path=str(old))
    assert report.status("instrumented") == "fail"
    assert "install a version that is supported" in report.said("instrumented")
    assert examine(source).status("instrumented") == "pass"


PROVIDER = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
trace.set_tracer_provider(TracerProvider())
"""


def test_the_application_sets_a_provider_too(examine: Examine) -> None:
    before = examine(PROVIDER + ITSELF, "--as-is")
    assert before.status("provider") == "warn"
    assert "program.py:4" in before.said("provider")
    assert "before the agent" in before.said("provider")
    after = examine(PROVIDER + WORK)
    assert after.status("provider") == "warn"
    assert "not used" in after.said("provider")
    assert examine(WORK).status("provider") == "pass"


@pytest.mark.parametrize(("sampler", "status"), [("always_off", "fail"), ("always_on", "pass")])
def test_no_span_is_sampled(sampler: str, status: str, examine: Examine) -> None:
    report = examine(WORK, f"--sampler={sampler}")
    assert report.status("spans") == status
    assert ("see what fails: The sampler keeps traces" in report.said("spans")) is (status == "fail")
    assert report.status("delivery") == ("skip" if status == "fail" else "pass")
    (row,) = report.json["ledger"]
    assert (row["started"], row["sampled"]) == (1, int(status == "pass"))


def test_a_sampler_of_init_that_leaves_out_all(examine: Examine) -> None:
    report = examine(ITSELF.replace("init()", "init(sampler='always_off')"), "--as-is")
    assert "set init(sampler='parentbased_always_on')" in report.said("spans")


def test_no_span_is_started(examine: Examine) -> None:
    report = examine("print('idle')")
    assert report.status("spans") == "warn"
    assert report.said("spans").endswith("→ make spans yourself: otelagent.span, @otelagent.instrument")
    assert "use what is instrumented while it runs (sqlite3)" in examine("import sqlite3").said("spans")
    assert "why the command ended: The command runs" in examine("raise SystemExit(1)").said("spans")
    assert examine(WORK).status("spans") == "pass"


def test_a_command_is_not_run_with_wrong_settings(examine: Examine) -> None:
    report = examine("print('ran')", "--timeout-ms=soon")
    assert not report.out
    assert report.code == 1
    assert {one["detail"] for one in report.of("command")} == {"the command isn't run: the settings are wrong"}
    assert examine("print('ran')", "--timeout-ms=1000").out == "ran\n"


FLASK = """
from flask import Flask
app = Flask(__name__)
@app.get("/")
def index(): return "hello"
if __name__ == "__main__":
    app.run(port={port})
"""


PAGES = """
from fastapi import FastAPI
from flask import Flask
flask, api = Flask(__name__), FastAPI()
@flask.get("/")
@api.get("/")
def index(): return "hello"
"""


def test_no_request_reaches_the_server(examine: Examine) -> None:
    report = examine(FLASK.format(port=free_port()), "--for=3")
    assert report.status("traffic") == "warn"
    assert "no request has reached the server" in report.said("traffic")
    assert "send a request while it runs: spans of werkzeug" in report.said("spans")
    assert report.status("exit") == "pass"
    port = free_port()
    report = examine(FLASK.format(port=port), until=ask(port))
    assert report.status("traffic") == "pass", report


def test_a_caller_that_does_not_sample(examine: Examine) -> None:
    for options, status in (((), "fail"), (("--sampler=always_on",), "pass")):
        port = free_port()
        report = examine(FLASK.format(port=port), *options, until=ask(port, traceparent=UNSAMPLED))
        assert report.status("parent") == status, report
    assert report.status("spans") == "pass"


def test_ctrl_c_ends_the_command_and_then_comes_the_report(endpoint: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(FLASK.format(port=free_port()))
    words = [sys.executable, "-m", "otelagent.cli.main", "doctor", endpoint, "--", sys.executable, str(program)]
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clean_environ(), start_new_session=True
    )
    assert process.stdout is not None
    assert "Serving" in process.stdout.readline()  # What it prints goes through at once.
    assert process.stderr is not None
    for line in process.stderr:
        if "CTRL+C" in line:
            break
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert "no request has reached the server" in " ".join(err.split())
    assert process.returncode == 0


def test_uwsgi_without_threads(endpoint: str, tmp_path: Path) -> None:
    (tmp_path / "site.py").write_text("def application(environ, start): start('200 OK', []); return [b'hello']\n")
    command = ("pyuwsgi", "--master", "--workers=1", "--wsgi-file=site.py", "--die-on-term", "--http-socket")
    for more, status in (((), "warn"), (("--enable-threads",), "pass")):
        port = free_port()
        report = doctor(endpoint, command=(*command, f"127.0.0.1:{port}", *more), cwd=tmp_path, until=ask(port))
        assert report.status("workers") == status, report
        assert ("--enable-threads" in report.said("workers")) is (status == "warn")


@pytest.mark.parametrize(
    "server",
    [
        "gunicorn --workers=2 pages:flask --bind=127.0.0.1:{port}",
        "flask --app=pages:flask run --reload --port={port}",
        "uvicorn pages:api --reload --port={port}",
        "uvicorn pages:api --workers=2 --port={port}",
    ],
    ids=["gunicorn", "flask reloader", "uvicorn reloader", "uvicorn workers"],
)
def test_workers_and_a_reloader_have_agents_of_their_own(server: str, endpoint: str, tmp_path: Path) -> None:
    (tmp_path / "pages.py").write_text(PAGES)
    port = free_port()
    report = doctor(endpoint, command=server.format(port=port).split(), cwd=tmp_path, until=ask(port))
    for check in ("workers", "started", "traffic"):
        assert report.status(check) == "pass", (check, report)
    # Werkzeug's reloader kills its child when it is told to end by SIGTERM.
    killed = server.startswith("flask")
    assert report.status("exit") == ("fail" if killed else "pass"), report
    assert ("1 span was not delivered" in report.said("exit")) is killed
    assert "Python processes" in report.of("workers")[0]["detail"]
    assert ("only watches files" in report.of("workers")[0]["detail"]) is ("--reload" in server)
    assert sum(row["started"] for row in report.json["ledger"]) == 1


def test_what_an_application_does_goes_as_ever_under_the_probe(examine: Examine) -> None:
    source = """
        import os
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        os.closerange(3, 256)  # as daemons do
        own = [open(f"own-{number}", "w") for number in range(9)]
        trace.set_tracer_provider(tracer_provider=TracerProvider())
        tracer = trace.get_tracer("shop")
        with tracer.start_as_current_span("no context", context="none"):
            tracer.start_span("neither", context=5).end()
        assert tracer.start_span("server", None, trace.SpanKind.SERVER).get_span_context().is_valid
        if child := os.fork():
            assert os.waitpid(child, 0)[1] == 0
        else:
            own[0].write("child")
            own[0].close()
            os._exit(0)
        assert [os.fstat(one.fileno()).st_size for one in own] == [5] + [0] * 8
        os._exit(status=7)
    """
    report = examine(source)
    assert "it ended with 7 " in report.said("command"), report.err
    assert "not used: there is one already" in report.said("provider")


def test_a_journal_that_cannot_be_written_troubles_nobody(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "gone"))
    journal.tell("fact", about=object())
    journal.count("traces", "scope", "started")
    journal.after_fork_in_child()
    journal.tell("fact")
    assert read(str(tmp_path)) == read(str(tmp_path / "gone")) == []
