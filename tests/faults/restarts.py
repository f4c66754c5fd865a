"""Faults of processes that die, or start where others have died, with data on disk."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from typing import Any

from tests.delivery.harness import FaultServer
from tests.delivery.spool.faults import preload
from tests.faults.bench import OK, ROOT, Application, Bench
from tests.faults.disk import DELIVER, DOWN, LEAVE, NO_SPOOL, SETTINGS, segments, spool, used_bytes
from tests.faults.registry import fault
from tests.support import wait_until

KILL_ROUNDS = int(os.environ.get("FAULTS_KILL_ROUNDS", "10"))
BACKLOG_MIB = int(os.environ.get("FAULTS_BACKLOG_MIB", "64"))
MODEL_EXAMPLES = os.environ.get("FAULTS_MODEL_EXAMPLES", "300")


def has_told(application: Application) -> bool:
    """Whether an application has said anything yet."""
    return "pid" in application.listen()


def arrivals(server: FaultServer) -> Counter[str]:
    """How often each span was taken."""
    return Counter(span for request in server.requests for span in request["taken"])


# Tells after each few spans which ones are on disk: all that it has made.
WRITE = """
import random, time
while True:
    agent.spans(random.randint(1, 20), 200)
    while agent.waiting() and agent.ledger()["queued"]:
        time.sleep(0.001)
    agent.tell()
    time.sleep(0.002)
"""


@fault(17, "SIGKILL at any write")
def killed_at_any_moment(bench: Bench) -> None:
    bench.killed = bench.twice = True
    server = bench.server(DOWN)
    for _ in range(KILL_ROUNDS):
        application = bench.start(WRITE, to=server, **SETTINGS)
        wait_until(partial(has_told, application))
        time.sleep(random.random() * 0.2)
        application.process.kill()
        application.process.wait(30)
        application.listen()
        bench.expect("Traceback" not in application.errors, f"says {application.errors[-300:]!r}")
    server.begin(OK)
    bench.run(DELIVER, to=server, timeout_s=120, **SETTINGS)
    if bench.otelagent:
        bench.expect(not segments(bench), "leaves files behind")


# Tells how long it took from the first line to a running agent, and its memory then and after.
BACKLOG = """
import time
begun = time.perf_counter()
import otelagent
from tests.faults.application import start
agent = start()
started_s = time.perf_counter() - begun
agent.spans(1)
agent.flush(0)
import threading
until = time.monotonic() + 60
while not agent.ledger()["adopted"] and time.monotonic() < until:
    time.sleep(0.001)
adopted_s = time.perf_counter() - begun
while agent.ledger()["delivered"] < 100 and time.monotonic() < until:
    time.sleep(0.01)
before_mib = agent.peak_memory()
deadline = time.monotonic() + 600
while agent.waiting() and time.monotonic() < deadline:
    time.sleep(0.05)
agent.say(started_s=started_s, adopted_s=adopted_s, grown_mib=agent.peak_memory() - before_mib)
agent.end()
"""


@fault(22, f"{BACKLOG_MIB} MiB left: start < 1 s, flat memory", stock=NO_SPOOL)
def backlog(bench: Bench) -> None:
    server = bench.server(DOWN)
    settings = {**SETTINGS, "spool_max_bytes": 2**31 - 1}
    filling = LEAVE.format(count=1, value_bytes=1)
    for _ in range(BACKLOG_MIB // 32 or 1):
        filling += LEAVE.format(count=512, value_bytes=64 * 1024)
    bench.run(filling, to=server, timeout_s=600, **settings)
    left = used_bytes(bench)
    bench.expect(left > BACKLOG_MIB * 1024**2 * 0.9, f"has left {left} bytes")
    server.begin(OK)
    path = bench.directory / "start.py"
    path.write_text(BACKLOG)
    last = bench.command([sys.executable, str(path)], to=server, **settings).wait(700)
    print_to_errors(bench, left, last)
    bench.expect(last["started_s"] < 1, f"starts in {last['started_s']:.2f} s")
    bench.expect(last["adopted_s"] < 2, f"has it after {last['adopted_s']:.2f} s")
    bench.expect(last["grown_mib"] < 32, f"grows by {last['grown_mib']:.0f} MiB")
    bench.expect(not segments(bench), "leaves files behind")


def print_to_errors(bench: Bench, left: int, last: dict[str, Any]) -> None:
    """What it measured, for the curious."""
    print(
        f"{bench.subject}: {left / 1024**2:,.0f} MiB left; started in {last['started_s']:.2f} s,"
        f" adopted after {last['adopted_s']:.2f} s, memory + {last['grown_mib']:.1f} MiB while all of it is sent",
        file=sys.stderr,
    )


@fault(
    23,
    "killed between acceptance and unlink",
    stock=NO_SPOOL,
    cases={f"{call} {after}": (call, after) for call in ("unlink", "pwrite") for after in (0, 1, 3)},
)
def between_unlink_and_ledger(bench: Bench, moment: tuple[str, int]) -> None:
    """What was accepted and isn't noted yet comes again: the payload that was under way, and no other."""
    bench.killed = bench.twice = True
    server = bench.server(DOWN)
    settings = {**SETTINGS, "spool_max_bytes": 1024 * 1024}
    bench.run(LEAVE.format(count=400, value_bytes=400), to=server, **settings)
    bench.expect(len(segments(bench)) > 4, "has left too few files")
    server.begin(OK)
    call, after = moment
    environ = preload(spool(bench), call, 0, after)
    killed = bench.start("agent.tell()\n" + DELIVER, to=server, environ=environ, **settings)
    killed.wait()
    bench.expect(killed.process.returncode == -9, f"was not killed but ended with {killed.process.returncode}")
    last = bench.run(DELIVER, to=server, **settings)
    often = arrivals(server)
    bench.expect(len(often) == 400, f"{400 - len(often)} are missing")
    again = sum(often.values()) - len(often)
    bench.expect(again <= 8, f"{again} came twice, more than one payload")
    bench.expect(max(often.values()) <= 2, "one came three times")
    bench.expect(not last["ledger"]["dropped"], f"its ledger says {last['ledger']}")


@fault(24, "two processes, one directory", stock=NO_SPOOL)
def two_processes(bench: Bench) -> None:
    server = bench.server(DOWN)
    leaving = [bench.start(LEAVE.format(count=300, value_bytes=100), to=server, **SETTINGS) for _ in range(2)]
    ledgers = [application.wait()["ledger"] for application in leaving]
    left = sum(ledger["spooled"] - ledger["adopted"] for ledger in ledgers)
    bench.expect(left == 600, f"have left {left}")
    server.begin(OK)
    delivering = [bench.start("agent.spans(50)\n" + DELIVER, to=server, **SETTINGS) for _ in range(2)]
    adopted = sum(application.wait()["ledger"]["adopted"] for application in delivering)
    if segments(bench):  # Both had gone when the second entry was there to be taken.
        adopted += bench.run(DELIVER, to=server, **SETTINGS)["ledger"]["adopted"]
    bench.expect(adopted == 600, f"take over {adopted}")


@fault(26, "random writes and crashes against a model", stock=NO_SPOOL)
def model(bench: Bench) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/delivery/spool/test_model.py"],
        cwd=ROOT,
        env={**os.environ, "SPOOL_MODEL_EXAMPLES": MODEL_EXAMPLES},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    bench.expect(done.returncode == 0, f"{MODEL_EXAMPLES} examples say {done.stdout[-500:]!r}")
