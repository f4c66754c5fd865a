"""Faults of the disk. The spool's own tests, `tests/delivery/spool`, have them one system call at a time."""

from __future__ import annotations

import errno
import os
import random
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from otelagent.delivery.spool.frame import FRAME_SIZE, HEAD, Frame, read_frame
from otelagent.delivery.spool.segment import SegmentName
from tests.delivery.harness import FaultServer
from tests.delivery.spool.disk import flip
from tests.delivery.spool.faults import preload
from tests.faults.bench import OK, Application, Bench
from tests.faults.registry import fault
from tests.support import wait_until

DOWN: dict[str, Any] = {"status": 503}
NO_SPOOL = "it keeps nothing on disk"
SETTINGS: dict[str, Any] = {
    "retry_initial_backoff_ms": 10,
    "retry_max_backoff_ms": 20,
    "batch_schedule_delay_ms": 20,
    "batch_max_export_batch_size": 8,
    "spool_replay_bytes_per_s": 10**9,
    "timeout_ms": 2000,
}
# Spans of which none is in memory alone when the process ends.
LEAVE = """
import time
agent.spans({count}, {value_bytes})
until = time.monotonic() + 60
while agent.ledger()["queued"] and time.monotonic() < until:
    time.sleep(0.01)
"""
# Goes on until nothing is left on disk.
DELIVER = """
import glob, os, time
files = os.path.join(os.environ["XDG_STATE_HOME"], "otelagent", "spool", "*", "*", "*.traces")
until = time.monotonic() + 60
while (glob.glob(files) or agent.waiting()) and time.monotonic() < until:
    time.sleep(0.02)
agent.flush()
"""


def spool(bench: Bench) -> Path:
    """The directory of the applications' spool."""
    return bench.directory / "state" / "otelagent" / "spool"


def segments(bench: Bench) -> list[Path]:
    """The spool's files, the oldest first."""
    found = (path for path in spool(bench).glob("*/*/*") if SegmentName.parse(path.name))
    return sorted(found, key=lambda path: path.name)


def told(application: Application, name: str) -> object:
    """A fact that an application has told so far."""
    return application.listen().get(name)


FILLING = """
import time
agent.spans(100, 1000)
until = time.monotonic() + 30
while not (problem := agent.status()["delivery"]["traces"]["spool"]["problem"]) and time.monotonic() < until:
    time.sleep(0.005)
agent.say(problem=problem)
agent.tell()
agent.spans(100, 1000)
agent.settle(60)
"""


def outlive(bench: Bench, call: str, error: int) -> None:
    """The disk fails for as long as the server is down, and some moments longer."""
    failing = bench.directory / "failing"
    failing.touch()
    server = bench.server(DOWN)
    environ = preload(spool(bench), call, error, during=failing)
    application = bench.start(FILLING, to=server, environ=environ, **SETTINGS)
    wait_until(lambda: "problem" in application.listen(), 60)
    bench.expect(told(application, "problem") == os.strerror(error), f"tells of {told(application, 'problem')!r}")
    server.begin(OK)
    failing.unlink()
    application.wait()
    all_delivered(bench, application)


def all_delivered(bench: Bench, *applications: Application) -> None:
    """The claim that nothing was lost, with or without a count."""
    for application in applications:
        ledger = application.listen()["ledger"]
        bench.expect(ledger["delivered"] == ledger["ended"] + ledger["adopted"], f"its ledger says {ledger}")


@fault(18, "ENOSPC: append, fsync, new file", stock=NO_SPOOL, cases={"append": "pwrite", "fsync": "fsync"})
def no_space(bench: Bench, call: str) -> None:
    outlive(bench, call, errno.ENOSPC)


@fault(18, cases={"new file": "open", "directory": "mkdir"})
def no_space_for_names(bench: Bench, call: str) -> None:
    outlive(bench, call, errno.ENOSPC)


@fault(18, cases={"rename": "rename"})
def no_space_to_rename(bench: Bench, call: str) -> None:
    # What is renamed says for people whose spool it is. Nothing depends on it.
    server = bench.server(DOWN)
    environ = preload(spool(bench), call, errno.ENOSPC)
    bench.run(LEAVE.format(count=100, value_bytes=100), to=server, environ=environ, **SETTINGS)
    server.begin(OK)
    bench.run(DELIVER, to=server, **SETTINGS)
    bench.expect(not segments(bench), "leaves files behind")


@fault(18, cases={"a file system of 1 MiB that fills up": 1})
def really_full(bench: Bench, size_mib: int) -> None:
    server = bench.server(DOWN)
    application = on_a_file_system(bench, f"size={size_mib}m", FULL, server)
    wait_until(lambda: "problem" in application.listen(), 60)
    server.begin(OK)
    application.wait()
    bench.expect(told(application, "problem"), "doesn't tell of the problem")
    all_delivered(bench, application)


FULL = FILLING.replace("agent.spans(100, 1000)", "agent.spans(200, 10000)")


def on_a_file_system(bench: Bench, options: str, program: str, server: FaultServer, **settings: Any) -> Application:
    """Starts an application whose spool is on a file system of its own, which goes when it ends."""
    mounted, path = bench.directory / "mounted", bench.directory / "program.py"
    mounted.mkdir()
    path.write_text(program)
    run = shlex.join([sys.executable, "-m", "tests.faults.application", str(path)])
    mount = f"mount -t tmpfs -o {options} tmpfs {shlex.quote(str(mounted))} && exec {run}"
    directory = str(mounted / "state" / "spool")
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", mount]
    return bench.command(command, to=server, spool_directory=directory, **SETTINGS, **settings)


@fault(19, "EIO on fsync", stock=NO_SPOOL)
def failing_sync(bench: Bench) -> None:
    outlive(bench, "fsync", errno.EIO)


def records(file: Path) -> Iterator[tuple[int, Frame]]:
    """Where the records of a segment begin, with their first frames."""
    name = SegmentName.parse(file.name)
    assert name is not None
    content = file.read_bytes()
    at = content.find(name.mark)
    while at >= 0:
        frame = read_frame(content[at : at + FRAME_SIZE], name.mark)
        if frame is not None and frame.kind == HEAD:
            yield at, frame
        at = content.find(name.mark, at + 1)


@fault(20, "a flipped bit", stock=NO_SPOOL, cases={"in the data": True, "around it": False})
def flipped(bench: Bench, in_data: bool) -> None:
    server = bench.server(DOWN)
    bench.run(LEAVE.format(count=400, value_bytes=100), to=server, **SETTINGS)
    lost = 0
    for file in segments(bench):
        for at, frame in [*records(file)][::3]:
            start, length = (at + FRAME_SIZE, frame.length) if in_data else (at, FRAME_SIZE)
            flip(file, start * 8 + random.randrange(length * 8))
            lost += frame.items if in_data else 0
    server.begin(OK)
    ledger = bench.run(DELIVER, to=server, **SETTINGS)["ledger"]
    bench.expect(ledger["dropped"].get("spool_corrupt", 0) == lost, f"counts {ledger['dropped']}, {lost} are damaged")
    bench.expect(bool(lost) == in_data, "flipped nothing")


@fault(21, "the spool's cap is reached", stock=NO_SPOOL, cases={"drop_oldest": "drop_oldest", "reject": "reject"})
def capped(bench: Bench, policy: str) -> None:
    server, cap = bench.server(DOWN), 256 * 1024
    program = CAPPED.format(policy=policy, cap=cap)
    application = bench.start(program, to=server, spool_max_bytes=cap, spool_full=policy, **SETTINGS)
    most = 0
    while "full" not in application.listen() and application.process.poll() is None:
        most = max(most, used_bytes(bench))
        time.sleep(0.01)
    server.begin(OK)
    application.wait()
    ledger = application.listen()["ledger"]
    bench.expect(cap // 2 < most <= cap, f"takes {most} bytes")
    lost = policy == "drop_oldest"
    bench.expect(set(ledger["dropped"]) == ({"spool_full"} if lost else set()), f"its ledger says {ledger}")


CAPPED = """
import time
def filled():
    if {policy!r} == "drop_oldest":
        return not agent.ledger()["queued"]
    return agent.status()["delivery"]["traces"]["spool"]["bytes"] > {cap} - 20_000
for _ in range(10):
    agent.spans(100, 1000)
    until = time.monotonic() + 10
    while not filled() and time.monotonic() < until and ({policy!r} == "drop_oldest" or _ == 9):
        time.sleep(0.005)
agent.say(full=True)
agent.tell()
agent.settle(60)
"""


def used_bytes(bench: Bench) -> int:
    """What the spool's files take."""
    used = 0
    for file in segments(bench):
        try:
            used += file.stat().st_size
        except FileNotFoundError:
            continue
    return used


@fault(25, "read-only or missing directory, EMFILE", stock=NO_SPOOL, cases={"read-only": "ro"})
def read_only(bench: Bench, options: str) -> None:
    server = bench.server(DOWN)
    application = on_a_file_system(bench, options, FILLING, server)
    wait_until(lambda: "problem" in application.listen(), 60)
    bench.expect(told(application, "problem") == os.strerror(errno.EROFS), f"tells of {told(application, 'problem')!r}")
    server.begin(OK)
    application.wait()
    all_delivered(bench, application)


@fault(25, cases={"a file in its place": "file/spool", "nowhere": "/proc/nowhere/spool"})
def missing(bench: Bench, path: str) -> None:
    (bench.directory / "file").touch()
    server = bench.server(DOWN)
    application = bench.start(FILLING, to=server, spool_directory=str(bench.directory / path), **SETTINGS)
    wait_until(lambda: "problem" in application.listen(), 60)
    bench.expect(told(application, "problem"), "doesn't tell of the problem")
    server.begin(OK)
    application.wait()
    all_delivered(bench, application)


REMOVED = """
import os, time
agent.spans(100)
while agent.ledger()["queued"]:
    time.sleep(0.005)
agent.say(spooled=True)
agent.tell()
directory = agent.status()["delivery"]["traces"]["spool"]["directory"]
while os.path.isdir(directory):
    time.sleep(0.005)
agent.spans(100)
while agent.ledger()["queued"]:
    time.sleep(0.005)
agent.say(spooled_again=True)
agent.tell()
agent.settle(60)
"""


@fault(25, cases={"removed while it runs": None})
def removed(bench: Bench, _: None) -> None:
    server = bench.server(DOWN)
    application = bench.start(REMOVED, to=server, **SETTINGS)
    wait_until(lambda: "spooled" in application.listen(), 60)
    shutil.rmtree(spool(bench))
    wait_until(lambda: "spooled_again" in application.listen(), 60)
    server.begin(OK)
    ledger = application.wait()["ledger"]
    # The file that is being read is open, and read to its end.
    bench.expect(set(ledger["dropped"]) <= {"spool_missing"}, f"its ledger says {ledger}")
    bench.expect(ledger["delivered"] >= 100, f"its ledger says {ledger}")


EMFILE = """
import os, resource, time
agent.spans(20)
agent.flush(0.5)
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
taken = []
def take_all():
    try:
        while True:
            taken.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
until = time.monotonic() + 30
while not (problem := agent.status()["delivery"]["traces"]["spool"]["problem"]) and time.monotonic() < until:
    take_all()
    agent.spans(5)
    time.sleep(0.005)
agent.say(problem=problem)
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
for descriptor in taken:
    os.close(descriptor)
agent.tell()
agent.settle(60)
"""


@fault(25, cases={"EMFILE": None})
def no_more_files(bench: Bench, _: None) -> None:
    server = bench.server(DOWN)
    application = bench.start(EMFILE, to=server, **SETTINGS)
    wait_until(lambda: "problem" in application.listen(), 60)
    problem = told(application, "problem")
    bench.expect(problem == os.strerror(errno.EMFILE), f"tells of {problem!r}")
    server.begin(OK)
    application.wait()
    all_delivered(bench, application)
