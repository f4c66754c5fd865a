"""Commands and applications that are started without some of the standard streams, as by ``2>&-``."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import pytest

from tests.bootstrap.workbench import Workbench
from tests.support import native_or_skip
from tests.viewer.programs import environment

# Tells a file, for it may have no other place.
SHOW = """
import os, sys
found = []
for descriptor in range(3):
    try:
        os.fstat(descriptor)
        found.append("open")
    except OSError:
        found.append("closed")
with open(sys.argv[1], "w") as file:
    print(*found, [stream is None for stream in (sys.stdin, sys.stdout, sys.stderr)], file=file)
sys.exit(5)
"""

CLOSED = [which for count in (1, 2, 3) for which in combinations("012", count)]


def without(which: Sequence[str], *command: str) -> list[str]:
    """A command that finds these descriptors closed."""
    closing = " ".join("0<&-" if descriptor == "0" else f"{descriptor}>&-" for descriptor in which)
    return ["sh", "-c", f'exec "$@" {closing}', "sh", *command]


@pytest.mark.parametrize("which", CLOSED, ids="".join)
def test_the_command_runs_as_without_the_launcher(bench: Workbench, which: tuple[str, ...]) -> None:
    bench.write("show.py", SHOW)
    launcher = [sys.executable, "-m", "otelagent.cli.run", "--exporter=none"]
    seen = []
    for launched in ([], launcher):
        command = [*launched, sys.executable, "show.py", "seen"]
        outcome = bench.run(*without(which, *command), options=None)
        lines = [line for line in outcome.stderr.splitlines() if not line.startswith("otelagent ")]
        seen.append((outcome.returncode, outcome.stdout, lines, (bench.directory / "seen").read_text()))
    assert seen[0] == seen[1]
    assert seen[0][0] == 5
    assert seen[0][3].split()[int(which[0])] == "closed"


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "2</dev/null"])
def test_a_program_that_is_not_pythons_prints_what_it_prints(bench: Workbench, redirection: str) -> None:
    variable = {"OTELAGENT_SAMPLER": "sometimes"}  # there is something to tell
    launcher = f"{sys.executable} -m otelagent.cli.run"
    outcome = bench.run("sh", "-c", f"{launcher} /bin/echo hi {redirection}", options=None, **variable)
    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (0, "hi\n", "")


def test_what_is_wrong_goes_nowhere_else(bench: Workbench) -> None:
    launcher = [sys.executable, "-m", "otelagent.cli.run"]
    for options, code in {"--what": 2, "": 2, "not-there": 127, "--version": 0}.items():
        outcome = bench.run(*without(("2",), *launcher, *options.split()), options=None)
        assert outcome.returncode == code
        assert outcome.stdout == ("" if code else "otelagent 0.1.0\n")
        assert bench.run(*without(("1",), *launcher, *options.split()), options=None).returncode == code


def test_a_full_disk_costs_the_line_at_start_alone(bench: Workbench) -> None:
    run = f"{sys.executable} -m otelagent.cli.run {sys.executable} -c 'print(1)' 2>/dev/full"
    outcome = bench.run("sh", "-c", run, options=None)
    assert outcome.stdout == "1\n"
    assert outcome.events == [["init", "exit"]]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("--version", 0),
        ("--help", 0),
        ("what", 2),
        ("spool list", 0),
        ("spool what", 2),
        ("spool purge", 0),
        ("ui --status", 1),
        ("ui --what", 2),
        ("doctor --what", 2),
    ],
)
def test_our_other_commands(arguments: str, code: int) -> None:
    command = [sys.executable, "-m", "otelagent", *arguments.split()]
    whole = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment(), check=False)
    assert whole.returncode == code
    for which in ("0", "1", "2", "012"):
        done = subprocess.run(
            without(which, *command), capture_output=True, text=True, timeout=60, env=environment(), check=False
        )
        expected = ("" if "1" in which else whole.stdout, "" if "2" in which else whole.stderr)
        assert (done.returncode, done.stdout, done.stderr) == (code, *expected), which


# Exports, is refused, spools; then looks what its descriptors are.
APPLICATION = """
import errno, json, os, subprocess, sys
import otelagent
otelagent.init(endpoint="http://127.0.0.1:1", spool_directory=sys.argv[1], batch_schedule_delay_ms=10, console="lines")
with otelagent.span("work"):
    pass
otelagent.flush(2)

def refused(use, *arguments):
    try:
        use(*arguments)
    except OSError as error:
        return error.errno == errno.EBADF
    return False

found = [os.readlink(f"/proc/self/fd/{descriptor}") for descriptor in range(3)]
closed = [refused(os.read, 0, 1), refused(os.write, 1, b"x"), refused(os.write, 2, b"x")]
child = subprocess.run(["sh", "-c", "exec ls -l /proc/self/fd"], stdout=subprocess.PIPE, text=True)
with open(sys.argv[2], "w") as file:
    json.dump([found, closed, "2 -> /dev/null" in child.stdout, otelagent.status()["ledger"]["traces"]], file)
"""


@pytest.mark.parametrize("engine", ["native", "sdk"])
def test_no_file_of_ours_is_one_of_the_applications_streams(tmp_path: Path, engine: str) -> None:
    if engine == "native":
        native_or_skip()
    (tmp_path / "application.py").write_text(APPLICATION)
    for which in ("012", "2"):
        command = [sys.executable, "application.py", str(tmp_path / f"spool{which}"), "seen"]
        done = subprocess.run(
            without(which, *command),
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            timeout=60,
            env=environment(OTELAGENT_ENGINE=engine),
            check=False,
        )
        assert done.returncode == 0
        found, closed, open_in_child, ledger = json.loads((tmp_path / "seen").read_text())
        assert found == ["/dev/null"] * 3
        assert [closed[int(descriptor)] for descriptor in which] == [True] * len(which)
        assert not open_in_child
        assert (ledger["spooled"], ledger["balanced"]) == (1, True)


def test_nor_is_one_of_the_doctors(tmp_path: Path) -> None:
    (tmp_path / "application.py").write_text(
        "import os\nopen('seen', 'w').write(' '.join(os.readlink(f'/proc/self/fd/{which}') for which in (0, 1, 2)))"
    )
    doctor = [sys.executable, "-m", "otelagent", "doctor", "--exporter=none", "--", sys.executable, "application.py"]
    for which in ("02", "012"):
        subprocess.run(
            without(which, *doctor),
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            timeout=100,
            env=environment(),
            check=False,
        )
        assert (tmp_path / "seen").read_text() == "/dev/null /dev/null /dev/null"
        (tmp_path / "seen").unlink()
