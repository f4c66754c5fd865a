"""The setting `console` in real programs, with either engine: what is on standard error, and that it harms nothing."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support import ENGINE, fill_pipe, run_program

LINE = re.compile(
    r"\d\d:\d\d:\d\d\.\d{3} +[\d.]+ (?:ms|s)  (?P<service>\S+)  (?P<name>.*?)(?P<late>  late)?  (?P<status>ok|ERROR)"
    r"(?: \d+)?  (?P<counts>\d+ spans?(?:, \d+ errors?)?)  [0-9a-f]{8}"
)
DURATION = re.compile(r" +[\d.]+ (?:ms|s)$")
PATIENCE_S = 60

SHOP = """
import json, sqlite3, otelagent
from opentelemetry.trace import set_span_in_context
otelagent.init()
database = sqlite3.connect(":memory:")
tracer = otelagent.get_tracer("shop")
with otelagent.span("set up"):
    database.execute("CREATE TABLE products (sku TEXT)")
try:
    with tracer.start_as_current_span("POST /orders") as order:
        for sku in ("apple", "bread", "cheese"):
            database.execute("SELECT * FROM products WHERE sku = ?", (sku,)).fetchall()
        with otelagent.span("pay"):
            raise ValueError("no\\x1b[2Jmoney")
except ValueError:
    pass
otelagent.flush()
with tracer.start_as_current_span("send receipt", context=set_span_in_context(order)):
    pass
flushed = otelagent.flush()
print(json.dumps({**otelagent.status(), "flushed": flushed}))
"""


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Of a program that exports to ``spans.jsonl`` in the folder."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL", "PYTHONPATH"))}
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TERM"):
        kept.pop(name, None)
    file = str(folder / "spans.jsonl")
    settings = {"OTELAGENT_EXPORTER": "file", "OTELAGENT_FILE": file, "OTELAGENT_QUIET": "true", "TERM": "xterm"}
    return {**kept, **ENGINE, **settings, **more}


def program(folder: Path, source: str) -> list[str]:
    script = folder / "program.py"
    script.write_text(textwrap.dedent(source))
    return [sys.executable, "-W", "error", str(script)]


def exported(folder: Path) -> list[str]:
    """The names of the spans that the exporter wrote."""
    return [
        span["name"]
        for line in (folder / "spans.jsonl").read_text().splitlines()
        for resource in json.loads(line)["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]


def in_balance(status: dict[str, Any]) -> dict[str, Any]:
    """The ledgers, each of which has every item once."""
    assert all(ledger["balanced"] for ledger in status["ledger"].values())
    ledgers: dict[str, Any] = status["ledger"]
    return ledgers


def test_a_line_for_each_trace_and_a_tree_for_what_went_wrong(tmp_path: Path) -> None:
    outcome = run_program(tmp_path, SHOP, OTELAGENT_CONSOLE="tree", OTELAGENT_QUIET="true")
    assert outcome.code == 0, outcome.err
    drawn = [re.sub(r" *[= ]{17} *[\d.]+ m?s$", "", line) for line in outcome.err.splitlines()]
    lines = [match for match in map(LINE.fullmatch, drawn) if match]
    assert [(one["service"], one["name"], one["status"], one["counts"], one["late"]) for one in lines] == [
        ("program", "set up", "ok", "2 spans", None),
        ("program", "POST /orders", "ERROR", "5 spans, 2 errors", None),
        ("program", "send receipt", "ok", "1 span", "  late"),
    ]
    assert drawn[2:7] == [
        "  program: POST /orders",
        r"  |    ValueError: no\x1b[2Jmoney",
        "  |- SELECT products x3 [client]  SELECT * FROM products WHERE sku = ?",
        "  `- pay",
        r"          ValueError: no\x1b[2Jmoney",
    ]
    assert outcome.err.isascii()
    status = outcome.json
    assert status["flushed"]
    assert status["destinations"]["traces:console"] == "standard error (tree)"
    ledgers = in_balance(status)
    assert (ledgers["traces"]["delivered"], ledgers["traces:console"]["delivered"]) == (8, 8)
    assert len(outcome.spans) == 8


def test_lines_alone(tmp_path: Path) -> None:
    outcome = run_program(tmp_path, SHOP, OTELAGENT_CONSOLE="lines", OTELAGENT_QUIET="true")
    assert len(outcome.err.splitlines()) == 3
    assert all(LINE.fullmatch(line) for line in outcome.err.splitlines()), outcome.err


def test_json_for_scripts(tmp_path: Path) -> None:
    launcher = str(Path(sys.executable).with_name("otelagent-run"))
    outcome = run_program(tmp_path, SHOP, launcher, "--console=json")
    found = [json.loads(line) for line in outcome.err.splitlines()]
    assert [(one["name"], one["status"], one["spans"], one["errors"], one["late"]) for one in found] == [
        ("set up", "ok", 2, 0, False),
        ("POST /orders", "error", 5, 2, False),
        ("send receipt", "ok", 1, 0, True),
    ]
    assert found[1]["error"] == "ValueError: no\x1b[2Jmoney"
    assert {one["trace_id"] for one in found} == {span["traceId"] for span in outcome.spans}


def test_with_no_exporter_the_terminal_alone_has_the_spans(tmp_path: Path) -> None:
    outcome = run_program(tmp_path, SHOP, OTELAGENT_CONSOLE="lines", OTELAGENT_EXPORTER="none", OTELAGENT_QUIET="1")
    assert len(outcome.err.splitlines()) == 3
    status = outcome.json
    assert status["destinations"]["traces"] == "nowhere, exporter is none"
    ledgers = in_balance(status)
    assert ledgers["traces"]["dropped"] == {"exporter_none": 8}
    assert ledgers["traces:console"]["delivered"] == 8


def test_what_ends_is_there_before_anyone_asks(tmp_path: Path) -> None:
    source = """
        import otelagent, sys
        otelagent.init()
        for name in sys.stdin:
            with otelagent.span(name.strip()):
                pass
    """
    with subprocess.Popen(
        program(tmp_path, source),
        env=environment(tmp_path, OTELAGENT_CONSOLE="lines"),
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        for name in ("one", "two"):
            process.stdin.write(f"{name}\n")
            # The program waits for the next name now: nothing but the batch's delay brings this.
            match = LINE.fullmatch(process.stderr.readline().rstrip("\n"))
            assert match is not None
            assert match["name"] == name
        process.stdin.close()
        assert process.wait(PATIENCE_S) == 0


def on_a_terminal(folder: Path, source: str, columns: int, **environ: str) -> str:
    """What a program writes to a terminal so many columns wide."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    written = b""
    try:
        with subprocess.Popen(
            program(folder, source),
            env=environment(folder, PYTHONUTF8="1", **environ),
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=slave,
        ) as process:
            os.close(slave)
            until_s = time.monotonic() + PATIENCE_S
            while select.select([master], [], [], max(until_s - time.monotonic(), 0))[0]:
                try:
                    part = os.read(master, 65536)
                except OSError:  # as Linux tells that nobody has the other side any more
                    break
                written += part
            assert process.wait(PATIENCE_S) == 0
    finally:
        os.close(master)
    return written.decode().replace("\r\n", "\n")


def test_colours_and_lines_on_a_terminal(tmp_path: Path) -> None:
    shown = on_a_terminal(tmp_path, SHOP, 90, OTELAGENT_CONSOLE="tree")
    assert "\x1b[31mPOST /orders\x1b[0m" in shown
    plain = re.sub(r"\x1b\[[\d;]*m", "", shown)
    assert "\x1b" not in plain  # of the application's own escape nothing is left
    tree = plain.splitlines()[2:7]
    assert tree[0].startswith("  program: POST /orders   ")
    assert tree[2].startswith("  ├─ SELECT products \u00d73 [client]  SELECT * FROM")
    assert tree[3].startswith("  └─ pay")
    assert {len(line) for line in tree if DURATION.search(line)} == {90}  # durations end where the terminal does
    assert max(map(len, plain.splitlines())) <= 90


@pytest.mark.parametrize(
    ("environ", "colour"),
    [({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False), ({"FORCE_COLOR": "1"}, True)],
    ids=str,
)
def test_who_wants_no_colour_has_none(tmp_path: Path, environ: dict[str, str], colour: bool) -> None:
    shown = on_a_terminal(tmp_path, SHOP, 90, OTELAGENT_CONSOLE="lines", **environ)
    assert ("\x1b[" in shown) is colour


def test_a_closed_standard_error(tmp_path: Path) -> None:
    command = ["sh", "-c", 'exec "$@" 2>&-', "sh", *program(tmp_path, SHOP)]
    done = subprocess.run(
        command,
        env=environment(tmp_path, OTELAGENT_CONSOLE="tree"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        timeout=PATIENCE_S,
        check=True,
    )
    status = json.loads(done.stdout)
    ledgers = in_balance(status)
    assert ledgers["traces"]["delivered"] == 8
    assert ledgers["traces:console"]["rejected"] == {"terminal_closed": 8}
    assert len(exported(tmp_path)) == 8


def test_a_reader_that_has_gone_ends_no_program_that_dies_of_broken_pipes(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    source = "import signal; signal.signal(signal.SIGPIPE, signal.SIG_DFL)\n" + SHOP
    try:
        done = subprocess.run(
            program(tmp_path, source),
            env=environment(tmp_path, OTELAGENT_CONSOLE="tree"),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=writer,
            timeout=PATIENCE_S,
        )
    finally:
        os.close(writer)
    assert done.returncode == 0
    assert in_balance(json.loads(done.stdout))["traces:console"]["rejected"] == {"terminal_closed": 8}
    assert len(exported(tmp_path)) == 8


def test_a_reader_that_reads_nothing_holds_nobody_up(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    fill_pipe(writer)
    try:
        done = subprocess.run(
            program(tmp_path, SHOP),
            env=environment(tmp_path, OTELAGENT_CONSOLE="tree"),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=writer,
            timeout=PATIENCE_S,
        )
    finally:
        os.close(reader)
        os.close(writer)
    assert done.returncode == 0
    ledgers = in_balance(json.loads(done.stdout))
    assert ledgers["traces"]["delivered"] == 8
    assert (ledgers["traces:console"]["queued"], ledgers["traces:console"]["rejected"]) == (8, {})
    assert len(exported(tmp_path)) == 8


def test_a_reader_that_reads_late_misses_nothing(tmp_path: Path) -> None:
    source = """
        import os, otelagent, time
        otelagent.init()
        for number in range(5):
            with otelagent.span(f"before {number}"):
                pass
        assert not otelagent.flush(60)  # ends when nobody has read for a second
        with otelagent.span("while nobody reads"):
            pass
        child = os.fork()
        if not child:
            with otelagent.span("of a child"):
                pass
        print("blocked", flush=True)
        while not otelagent.flush(60):
            time.sleep(0.05)
        if child:
            assert os.waitpid(child, 0)[1] == 0
    """
    reader, writer = os.pipe()
    fill_pipe(writer)
    with subprocess.Popen(
        program(tmp_path, source),
        env=environment(tmp_path, OTELAGENT_CONSOLE="lines", OTELAGENT_QUIET="true"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=writer,
    ) as process:
        os.close(writer)
        assert process.stdout is not None
        assert process.stdout.readline() == b"blocked\n"
        with os.fdopen(reader) as written:
            lines = written.read().lstrip("\0").splitlines()
        assert process.wait(PATIENCE_S) == 0
    found = [match["name"] for line in lines if (match := LINE.fullmatch(line))]
    assert sorted(found) == [*(f"before {number}" for number in range(5)), "of a child", "while nobody reads"]


def test_a_reader_that_reads_slowly_misses_nothing(tmp_path: Path) -> None:
    source = """
        import otelagent, otelagent.terminal.output
        otelagent.terminal.output._STALLED_S = 30.0  # the machine may be busier than the reader is slow
        otelagent.init(batch_max_export_batch_size=50)
        for number in range(2_000):
            with otelagent.span(f"number {number}", {"text": "x" * 100}):
                pass
        assert otelagent.shutdown(60)
    """
    with subprocess.Popen(
        program(tmp_path, source),
        env=environment(tmp_path, OTELAGENT_CONSOLE="json", OTELAGENT_QUIET="true"),
        cwd=tmp_path,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stderr is not None
        written = b""
        while read := process.stderr.read(20_000):
            written += read
            time.sleep(0.08)
        assert process.wait(PATIENCE_S) == 0
    found = [json.loads(line)["name"] for line in written.splitlines()]
    assert found == [f"number {number}" for number in range(2_000)]


def test_a_file_that_the_application_has_in_its_place_is_not_written_to(tmp_path: Path) -> None:
    source = """
        import json, os, otelagent
        otelagent.init()
        kept = os.dup(2)
        def show(name):
            with otelagent.span(name):
                pass
            otelagent.flush()
        os.close(2)
        assert os.open("database", os.O_WRONLY | os.O_CREAT) == 2
        show("before anything was written")
        os.dup2(kept, 2)
        show("shown")
        os.close(2)
        assert os.open("database", os.O_WRONLY | os.O_CREAT) == 2
        show("after")
        if child := os.fork():
            os.waitpid(child, 0)
        else:
            show("in a child that has it too")
            os._exit(0)
        print(json.dumps(otelagent.status()))
    """
    outcome = run_program(tmp_path, source, OTELAGENT_CONSOLE="lines", OTELAGENT_QUIET="true")
    assert outcome.code == 0
    match = LINE.fullmatch(outcome.err.strip())
    assert match is not None
    assert match["name"] == "shown"
    assert (tmp_path / "database").read_bytes() == b""
    console = in_balance(outcome.json)["traces:console"]
    assert (console["delivered"], console["rejected"]) == (1, {"terminal_replaced": 2})


def test_a_file_of_an_application_that_was_started_without_standard_error_is_not_written_to(tmp_path: Path) -> None:
    source = """
        import os
        assert os.open("database", os.O_WRONLY | os.O_CREAT) == 2
    """
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" 2>&-', "sh", *program(tmp_path, textwrap.dedent(source) + SHOP)],
        env=environment(tmp_path, OTELAGENT_CONSOLE="tree"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        timeout=PATIENCE_S,
        check=True,
    )
    assert in_balance(json.loads(done.stdout))["traces:console"]["rejected"] == {"terminal_closed": 8}
    assert (tmp_path / "database").read_bytes() == b""


def test_a_daemon_that_has_a_standard_error_of_its_own_shows_there(tmp_path: Path) -> None:
    source = """
        import os, otelagent
        otelagent.init()
        if child := os.fork():
            os.waitpid(child, 0)
        else:
            os.dup2(os.open("log", os.O_WRONLY | os.O_CREAT), 2)
            with otelagent.span("daemon"):
                pass
            otelagent.flush()
            os._exit(0)
    """
    outcome = run_program(tmp_path, source, OTELAGENT_CONSOLE="lines", OTELAGENT_QUIET="true")
    assert (outcome.code, outcome.err) == (0, "")
    match = LINE.fullmatch((tmp_path / "log").read_text().strip())
    assert match is not None
    assert match["name"] == "daemon"


def test_a_fork_shows_what_is_its_own(tmp_path: Path) -> None:
    source = """
        import os, otelagent
        otelagent.init()
        with otelagent.span("parent"):
            with otelagent.span("before the fork"):
                pass
            if child := os.fork():
                os.waitpid(child, 0)
            else:
                with otelagent.span("child"):
                    pass
                otelagent.flush()
                os._exit(0)
        otelagent.flush()
    """
    outcome = run_program(tmp_path, source, OTELAGENT_CONSOLE="json", OTELAGENT_QUIET="true")
    assert outcome.code == 0, outcome.err
    found = [json.loads(line) for line in outcome.err.splitlines()]
    assert [(one["name"], one["spans"]) for one in found] == [("child", 1), ("parent", 2)]
    assert sorted(span["name"] for span in outcome.spans) == ["before the fork", "child", "parent"]


def test_trees_of_several_processes_do_not_mix(tmp_path: Path) -> None:
    source = """
        import sys, otelagent
        otelagent.init()
        for number in range(40):
            try:
                with otelagent.span(f"root {number}"):
                    for _ in range(8):
                        with otelagent.span(f"step {number} {_}"):
                            pass
                    raise ValueError("wrong")
            except ValueError:
                pass
            if number % 5 == 0:
                otelagent.flush()
        otelagent.flush()
    """
    reader, writer = os.pipe()
    settings = {"OTELAGENT_CONSOLE": "tree", "OTELAGENT_EXPORTER": "none", "OTELAGENT_EXIT_TIMEOUT_MS": "20000"}
    environ = environment(tmp_path, **settings)
    processes = [
        subprocess.Popen(
            program(tmp_path, source),
            env={**environ, "OTELAGENT_SERVICE_NAME": f"worker-{number}"},
            cwd=tmp_path,
            stderr=writer,
        )
        for number in range(3)
    ]
    os.close(writer)
    with os.fdopen(reader) as written:
        lines = written.read().splitlines()
    assert [process.wait(PATIENCE_S) for process in processes] == [0, 0, 0]
    heads = [number for number, line in enumerate(lines) if LINE.fullmatch(line)]
    assert len(heads) == 3 * 40
    for head in heads:
        match = LINE.fullmatch(lines[head])
        assert match is not None
        number = match["name"].removeprefix("root ")
        tree = [DURATION.sub("", line).rstrip("= ") for line in lines[head + 1 : head + 11]]
        assert tree[0] == f"  {match['service']}: root {number}"
        assert tree[1] == "  |    ValueError: wrong"
        assert tree[2:] == [
            *(f"  |- step {number} {step}" for step in range(7)),
            f"  `- step {number} 7",
        ]
