"""Children of multiprocessing and billiard: they end by ``os._exit``, and deliver before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.bootstrap.workbench import START_LINE, Workbench

METHODS = ["fork", "spawn", "forkserver"]

APP = """
import multiprocessing, os, signal, sys, time

def work(end):
    if end == "exit": sys.exit(5)
    if end == "raise": raise RuntimeError
    if end == "wait": time.sleep(20)

def begin(barrier):  # or one worker does it all, and the other is terminated before it has come to anything
    barrier.wait()

def square(number):
    return number * number

if __name__ == "__main__":
    method, end = sys.argv[1:]
    context = multiprocessing.get_context(method)
    if end == "pool":
        with context.Pool(2, begin, [context.Barrier(2)]) as pool:
            print(sum(pool.map(square, range(4))))
    elif end == "executor":
        from concurrent.futures import ProcessPoolExecutor
        with ProcessPoolExecutor(2, context, begin, [context.Barrier(2)]) as pool:
            print(sum(pool.map(square, range(4))))
    else:
        child = context.Process(target=work, args=[end])
        child.start()
        if end == "wait":
            time.sleep(1); child.terminate()
        child.join()
        print(child.exitcode)
"""


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("end", "said"),
    [("return", "0"), ("exit", "5"), ("raise", "1"), ("wait", "-15"), ("pool", "14"), ("executor", "14")],
)
def test_children_deliver_before_they_end(bench: Workbench, method: str, end: str, said: str) -> None:
    bench.write("app.py", APP)
    outcome = bench.run(sys.executable, "app.py", method, end)
    assert outcome.stdout == f"{said}\n"
    assert outcome.own_lines == [START_LINE]
    assert outcome.lost() == {}
    children = {"pool": 2, "executor": 2}.get(end, 1)
    if method == "fork":
        assert outcome.events == [["fork", "exit"]] * children + [["init", "exit"]]
    elif method == "spawn":
        assert outcome.events == [["init", "exit"]] * (children + 1)
    else:
        assert outcome.events == [["fork", "exit"]] * children + [["init", "exit"]] * 2  # the server itself


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("where", ["in the module", "in the target"])
def test_an_agent_that_the_application_started_itself(bench: Workbench, method: str, where: str) -> None:
    at_import, in_target = ("lifecycle.init()", "") if where == "in the module" else ("", "lifecycle.init()")
    bench.write(
        "app.py",
        f"import multiprocessing, sys\nfrom otelagent import lifecycle\n{at_import}\n"
        f"def work():\n  {in_target or 'pass'}\n"
        "if __name__ == '__main__':\n  child = multiprocessing.get_context(sys.argv[1]).Process(target=work)\n"
        "  child.start(); child.join(); print(child.exitcode)",
    )
    outcome = bench.run(sys.executable, "app.py", method, options=None)
    assert outcome.stdout == "0\n"
    assert outcome.lost() == {}
    assert len(outcome.journal) == (2 if at_import else 1)


def test_the_application_pays_for_multiprocessing_only_if_it_uses_it(bench: Workbench) -> None:
    outcome = bench.run(sys.executable, "-c", "import sys; print('multiprocessing' in sys.modules)")
    assert outcome.stdout == "False\n"


@pytest.mark.parametrize("method", METHODS)
def test_a_worker_of_a_pool_has_no_handler_that_waits_for_its_main_thread(bench: Workbench, method: str) -> None:
    """That sleeps on the pool's lock, and may go to sleep between the signal and its handler: the pool never ends."""
    bench.write(
        "app.py",
        "import multiprocessing, signal, sys\n"
        "def handler(_): return signal.getsignal(signal.SIGTERM) == signal.SIG_DFL\n"
        "if __name__ == '__main__':\n"
        "  print(handler(0))\n"
        "  with multiprocessing.get_context(sys.argv[1]).Pool(1) as pool: print(pool.map(handler, [1]))",
    )
    outcome = bench.run(sys.executable, "app.py", method)
    assert outcome.stdout == "False\n[True]\n"
    assert outcome.lost() == {}


POOLS = """
import multiprocessing, signal

def square(number): return number * number

if __name__ == "__main__":
    for _ in range(100):
        signal.alarm(10)
        with multiprocessing.get_context("fork").Pool(2) as pool:
            pool.map(square, range(4))
    print("done")
"""


def test_a_pool_that_ends_at_once_always_ends(bench: Workbench) -> None:
    # With a handler of Python's for SIGTERM in the workers, one in about fifty of these waits for ever.
    bench.write("app.py", POOLS)
    outcome = bench.run(sys.executable, "app.py")
    assert (outcome.returncode, outcome.stdout) == (0, "done\n")
    assert outcome.events == [["fork", "exit"]] * 200 + [["init", "exit"]]


def test_what_a_pool_worker_forks_can_be_terminated_alone(bench: Workbench) -> None:
    bench.write(
        "app.py",
        "import multiprocessing, os, signal, time\n"
        "def work(number):\n  child = os.fork()\n  if not child: time.sleep(20)\n  time.sleep(.2)\n"
        "  os.kill(child, signal.SIGTERM)\n  return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])\n"
        "if __name__ == '__main__':\n"
        "  with multiprocessing.get_context('fork').Pool(1) as pool: print(pool.map(work, [1, 2]))",
    )
    outcome = bench.run(sys.executable, "app.py")
    assert outcome.stdout == "[-15, -15]\n"
    assert outcome.lost() == {}


BILLIARD_APP = """
import sys
import billiard, billiard.pool

def square(number): return number * number

if __name__ == "__main__":
    if sys.argv[1] == "process":
        child = billiard.Process(target=square, args=[2])
        child.start(); child.join(); print(child.exitcode)
    else:
        pool = billiard.pool.Pool(2, maxtasksperchild=int(sys.argv[2]) or None)
        print(sum(pool.map(square, range(4))))
        pool.close(); pool.join()
"""


@pytest.mark.parametrize(("arguments", "said"), [(("process",), "0"), (("pool", "0"), "14"), (("pool", "1"), "14")])
def test_workers_of_celerys_pool_deliver(bench: Workbench, arguments: tuple[str, ...], said: str) -> None:
    bench.write("app.py", BILLIARD_APP)
    outcome = None
    for _ in range(3):  # without otelagent too, one such pool in 180 was seen to hang while it replaces its workers
        process = bench.start(sys.executable, "app.py", *arguments)
        try:
            outcome = bench.end(process, timeout_s=15)
            break
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
    assert outcome is not None
    assert (outcome.returncode, outcome.stdout) == (0, f"{said}\n")
    assert len(outcome.journal) > 1
    assert outcome.lost() == {}
