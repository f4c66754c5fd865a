"""Faults of one process's life: forks, signals, ends, clocks."""

from __future__ import annotations

import signal
import sys
from functools import partial
from typing import Any

from tests.delivery.harness import FaultServer
from tests.faults.bench import OK, Application, Bench, BlackHole
from tests.faults.disk import DELIVER, DOWN, SETTINGS
from tests.faults.registry import fault
from tests.support import wait_until

SLOW: dict[str, Any] = {**OK, "delay_s": 1.0}

FORK = """
import os, threading, time
agent.spans(20)
flush = threading.Thread(target=agent.flush)
flush.start()
time.sleep(0.4)  # the request is on its way, the answer isn't
pid = os.fork()
if not pid:
    agent.made.clear()
    agent.spans(10)
    agent.end()
    os._exit(0)
agent.spans(10)
flush.join()
assert os.waitpid(pid, 0)[1] == 0
"""


@fault(27, "fork during an export in flight", cases={"HTTP": "http", "gRPC": "grpc"})
def forked_in_flight(bench: Bench, protocol: str) -> None:
    # A call of gRPC's that is in flight at the fork fails in the parent, and is made again.
    bench.twice = protocol == "grpc"
    application = bench.start(FORK, to=bench.server(SLOW, protocol=protocol), protocol=protocol)
    application.wait(60)
    made = [len(told["made"]) for told in application.told.values()]
    bench.expect(sorted(made) == [10, 30], f"its processes tell of {made} spans")


WAITS = """
from tests.faults.application import start_worker
agent = start_worker()
import signal, sys, time
{handler}
agent.spans(50)
agent.tell()
{wait}
"""
# What the application does with SIGTERM, how it waits, and the exit code that it has without an agent.
HANDLERS: dict[str, tuple[str, str, int]] = {
    "no handler": ("", "time.sleep(60)", -signal.SIGTERM),
    "its own": ("signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))", "time.sleep(60)", 7),
    "asyncio's": (
        "import asyncio",
        """
async def main():
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    agent.tell()
    await ended.wait()
asyncio.run(main())
sys.exit(5)
""",
        5,
    ),
}


def tells(application: Application) -> bool:
    """Whether an application has told of its spans."""
    return bool(application.listen().get("made"))


def written(bench: Bench, source: str) -> list[str]:
    """The command of a script."""
    script = bench.directory / f"script-{len(bench.applications)}.py"
    script.write_text(source)
    return [sys.executable, str(script)]


@fault(29, "SIGTERM", cases=HANDLERS)
def terminated(bench: Bench, how: tuple[str, str, int]) -> None:
    handler, wait, code = how
    command = written(bench, WAITS.format(handler=handler, wait=wait))
    application = bench.command(command, to=bench.server(OK))
    wait_until(partial(tells, application))
    # asyncio's handler comes after the first word.
    wait_until(lambda: len(application.lines()) > (how[1] != "time.sleep(60)"))
    application.process.send_signal(signal.SIGTERM)
    application.wait(60)
    bench.expect(application.process.returncode == code, f"ends with {application.process.returncode}, not {code}")


# What runs first at the import runs last at the end.
ENDS = """
import atexit, time
begun = 0.0
@atexit.register
def last():
    agent.say(took_s=time.monotonic() - begun)
    agent.tell()
from tests.faults.application import start
agent = start()
agent.spans(500)
begun = time.monotonic()
"""
BUDGET_S = 2.0
# A busy machine's share of what is measured.
GRACE_S = 1.0


@fault(30, "exit with a dead backend", cases={"refuses": False, "answers nothing": True}, idle=True)
def ends_without_a_backend(bench: Bench, silent: bool) -> None:
    server: FaultServer | BlackHole = BlackHole() if silent else bench.server(OK)
    port = server.port
    if isinstance(server, FaultServer):
        server.stop()
    application = bench.command(written(bench, ENDS), to=f"http://127.0.0.1:{port}/v1/traces")
    told = application.wait(90)
    if isinstance(server, BlackHole):
        server.close()
    took_s = told.get("took_s", 90.0)
    bench.expect(took_s < BUDGET_S + GRACE_S, f"takes {took_s:.1f} s to end")
    if bench.otelagent:
        bench.server(OK, port=port)
        bench.run(DELIVER, to=f"http://127.0.0.1:{port}/v1/traces", timeout_s=120, **SETTINGS)


CRASHES = """
import os, signal, time
agent.spans(200)
time.sleep({window_s})
agent.tell()
agent.spans(20)
{end}
"""
ENDINGS = {"os._exit": "os._exit(0)", "SIGKILL": "os.kill(os.getpid(), signal.SIGKILL)"}
WINDOW_S = 2.0
"""A batch each 0.2 s, and time to send it. With a backend that is down, to see it fail once and to write to disk."""


@fault(31, "os._exit and SIGKILL, after the window", cases=ENDINGS)
def crashed(bench: Bench, end: str) -> None:
    bench.killed = True
    settings: dict[str, Any] = {"batch_schedule_delay_ms": 200}
    application = bench.start(CRASHES.format(end=end, window_s=WINDOW_S), to=bench.server(OK), **settings)
    expect_arrived(bench, application)


@fault(31, cases={f"{name}, dead backend": end for name, end in ENDINGS.items()}, stock="")
def crashed_without_a_backend(bench: Bench, end: str) -> None:
    bench.killed = bench.twice = True
    server = bench.server(DOWN)
    # Long waits between tries: that there was a first one must do.
    waits = {"retry_initial_backoff_ms": 30_000, "retry_max_backoff_ms": 30_000}
    settings = {**SETTINGS, "batch_schedule_delay_ms": 200, **waits}
    application = bench.start(CRASHES.format(end=end, window_s=WINDOW_S), to=server, **settings)
    application.wait(60)
    server.begin(OK)
    if bench.otelagent:
        bench.run(DELIVER, to=server, timeout_s=120, **SETTINGS)
    expect_arrived(bench, application)


def expect_arrived(bench: Bench, application: Application) -> None:
    """Whether all that the application had told of has arrived."""
    made = set(application.wait(60).get("made", ()))
    bench.expect(len(made) == 200, f"tells of {len(made)} spans")
    lost = len(made - {span for _, span in bench.taken()})
    bench.expect(not lost, f"loses {lost} of {len(made)}")


LATE = """
import atexit, signal, os
class Finalized:
    def __del__(self):
        agent.spans(5)
        agent.flush(5)
def handler(*_):
    agent.spans(5)
    agent.flush(5)
signal.signal(signal.SIGUSR1, handler)
for _ in range(20):
    agent.spans(50)
    os.kill(os.getpid(), signal.SIGUSR1)
    Finalized()
kept = Finalized()
agent.spans(5)
"""
AT_EXIT = """
import atexit
from tests.faults.application import start_worker
agent = start_worker()
@atexit.register
def late():
    agent.spans(5)
    agent.flush(5)
    agent.tell()
agent.spans(5)
"""


@fault(32, "spans in atexit, __del__, signal handlers", cases={"__del__ and a handler": LATE})
def late(bench: Bench, program: str) -> None:
    bench.run(program, to=bench.server(OK), timeout_s=90)


@fault(32, cases={"atexit": AT_EXIT})
def at_exit(bench: Bench, program: str) -> None:
    application = bench.command(written(bench, program), to=bench.server(OK))
    application.wait(60)


CLOCK = """
import time
real, real_ns = time.time, time.time_ns
offset = 0
time.time = lambda: real() + offset
time.time_ns = lambda: real_ns() + offset * 10**9
for offset in (0, 3600, -3600, 7200, 0):
    agent.spans(50)
    assert agent.flush(20)
    agent.spans(50)
agent.settle()
"""


@fault(35, "the clock jumps by an hour, both ways", cases={"backend works": OK, "503 first": None})
def jumps(bench: Bench, action: dict[str, Any] | None) -> None:
    script = (OK,) if action else (DOWN, DOWN, OK)
    settings = {"retry_initial_backoff_ms": 200, "batch_schedule_delay_ms": 200}
    bench.run(CLOCK, to=bench.server(*script), timeout_s=90, **settings)
