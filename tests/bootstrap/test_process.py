"""How processes end: as they would without the agent, and never without asking it to deliver."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

from tests.bootstrap.workbench import START_LINE, Outcome, Workbench

READY = "print('ready', flush=True)\n"


def signalled(
    bench: Workbench, code: str, *signals: int, traced: bool = True, apart_s: float = 0.05, **environ: str
) -> Outcome:
    """Runs code that says when it is ready, and sends it signals."""
    options: list[str] | None = [] if traced else None
    process = bench.start(sys.executable, "-c", code, options=options, **environ)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    for number, sent in enumerate(signals):
        time.sleep(apart_s if number else 0)
        os.killpg(process.pid, sent)
    return bench.end(process)


@pytest.mark.parametrize(
    "code",
    [
        "pass",
        "import sys; sys.exit(3)",
        "import sys; sys.exit('words')",
        "1 / 0",
        "raise KeyboardInterrupt",
        "import os; print(os.fork() > 0)",
        "import os; os.fork() or os._exit(4); raise SystemExit(os.waitstatus_to_exitcode(os.wait()[1]))",
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        "import os; os._exit(9)",
        "import os; os.abort()",
        "import atexit; atexit.register(int, 1, 0)",
        "import threading, time; threading.Thread(target=lambda: (time.sleep(.1), print('thread'))).start()",
        "import subprocess, sys, os; subprocess.run(['true'], preexec_fn=os.setsid, check=True)",
    ],
)
def test_it_ends_as_it_would_have(bench: Workbench, code: str) -> None:
    plain, traced = bench.both(sys.executable, "-c", code)
    assert traced.returncode == plain.returncode
    assert sorted(traced.stdout.split()) == sorted(plain.stdout.split())
    assert (
        "\n".join(line for line in traced.stderr.splitlines() if line not in traced.own_lines) == plain.stderr.rstrip()
    )
    assert traced.pid in traced.journal
    if not any(end in code for end in ("SIGKILL", "os._exit(9)", "os.abort()")):
        assert "exit" in traced.journal[traced.pid]


SLEEP = READY + "import time\ntime.sleep(20)"
ENDINGS = {
    "none": SLEEP,
    "busy": READY + "while True: pass",
    "locked": "import threading\n" + READY + "lock = threading.Lock()\nlock.acquire()\nlock.acquire()",
    "joining": "import threading, time\n" + READY + "threading.Thread(target=time.sleep, args=[20]).start()",
    "asyncio without a handler": "import asyncio\nasync def main():\n  "
    + READY
    + "  await asyncio.sleep(20)\nasyncio.run(main())",
    "asyncio with a handler": (
        "import asyncio, signal\nasync def main():\n  stop = asyncio.Event()\n"
        "  asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)\n"
        "  " + READY + "  await stop.wait()\n  print('stopped')\nasyncio.run(main())"
    ),
    "a handler that exits": "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n" + SLEEP,
    "a handler that sets a flag": (
        "import signal, time\nstop = []\nsignal.signal(signal.SIGTERM, lambda *_: stop.append(1))\n"
        + READY
        + "while not stop: time.sleep(.01)\nprint('stopped')"
    ),
    "a handler that raises": (
        "import signal\ndef handle(*_): raise RuntimeError('told to end')\nsignal.signal(signal.SIGTERM, handle)\n"
        + SLEEP
    ),
    "found, replaced, put back and raised again": (
        "import signal, time\nstop = []\nfound = signal.signal(signal.SIGTERM, lambda *_: stop.append(1))\n"
        + READY
        + "while not stop: time.sleep(.01)\nsignal.signal(signal.SIGTERM, found)\nsignal.raise_signal(signal.SIGTERM)"
    ),
    "set to default": "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_DFL)\n" + SLEEP,
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_ends_it_as_it_would_have(bench: Workbench, ending: str, sent: int) -> None:
    if ending == "joining" and sent == signal.SIGINT:
        pytest.skip("Ctrl-C is ignored while threads are waited for")
    plain = signalled(bench, ENDINGS[ending], sent, traced=False)
    traced = signalled(bench, ENDINGS[ending], sent)
    assert (traced.returncode, traced.stdout) == (plain.returncode, plain.stdout)
    assert traced.own_lines == [START_LINE]
    assert ("Traceback" in traced.stderr) == ("Traceback" in plain.stderr)
    expected = ["init"] if (ending, sent) == ("set to default", signal.SIGTERM) else ["init", "exit"]
    assert traced.events == [expected]


def test_an_earlier_handler_stays(bench: Workbench) -> None:
    bench.write(
        "early/sitecustomize.py",
        "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
        "from otelagent import lifecycle\nlifecycle.init()",
    )
    path = f"{bench.directory / 'early'}{os.pathsep}{bench.packages}"
    outcome = signalled(bench, SLEEP, signal.SIGTERM, traced=False, PYTHONPATH=path)
    assert (outcome.returncode, outcome.events) == (7, [["init", "exit"]])


def test_an_ignored_signal_stays_ignored(bench: Workbench) -> None:
    code = (
        "import signal, os; os.kill(os.getpid(), signal.SIGTERM); print('alive', signal.getsignal(signal.SIGTERM).name)"
    )
    outcome = bench.run("sh", "-c", f'trap "" TERM; exec {sys.executable} -c "{code}"')
    assert (outcome.returncode, outcome.stdout) == (0, "alive SIG_IGN\n")


def test_the_budget_is_kept_when_delivery_hangs(bench: Workbench) -> None:
    began = time.monotonic()
    outcome = signalled(bench, SLEEP, signal.SIGTERM, FINISH_TAKES_S="30", EXIT_TIMEOUT_S="0.3")
    assert outcome.returncode == -signal.SIGTERM
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("signals", "status"),
    [
        ((signal.SIGTERM, signal.SIGTERM), -signal.SIGTERM),  # to the process and to its group
        ((signal.SIGINT, signal.SIGTERM), -signal.SIGTERM),  # SIGTERM while the last spans are sent at exit
    ],
)
def test_a_second_signal_does_not_cut_delivery_off(bench: Workbench, signals: tuple[int, ...], status: int) -> None:
    outcome = signalled(bench, SLEEP, *signals, apart_s=0.3, FINISH_TAKES_S="0.8")
    assert (outcome.returncode, outcome.events) == (status, [["init", "exit"]])


def test_ctrl_c_cuts_delivery_off_quietly(bench: Workbench) -> None:
    plain = signalled(bench, SLEEP, signal.SIGINT, traced=False)
    traced = signalled(bench, SLEEP, signal.SIGINT, signal.SIGINT, apart_s=0.3, FINISH_TAKES_S="20")
    assert traced.returncode == plain.returncode
    assert traced.stderr.count("Traceback") == plain.stderr.count("Traceback")
    assert traced.events == [["init"]]


def test_a_handler_that_exits_does_not_cut_delivery_off(bench: Workbench) -> None:
    code = "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n" + SLEEP
    outcome = signalled(bench, code, signal.SIGTERM, signal.SIGTERM, apart_s=0.3, FINISH_TAKES_S="0.6")
    assert (outcome.returncode, outcome.events) == (7, [["init", "exit"]])


def test_an_init_process_is_not_killed(bench: Workbench) -> None:
    code = (
        "import os, signal, time\nfrom otelagent import lifecycle\nlifecycle.init()\n"
        "pid = os.getpid()\nos.getpid = lambda: 1\n"
        "os.kill(pid, signal.SIGTERM)\ntime.sleep(.1)\nos.getpid = lambda: pid\nprint('alive')"
    )
    outcome = bench.run(sys.executable, "-c", code, options=None)
    assert (outcome.returncode, outcome.stdout) == (0, "alive\n")
    assert outcome.events == [["init", "exit"]]


@pytest.mark.parametrize("times", [1, 2])
def test_an_init_process_delivers_at_sigterm_and_goes_on(bench: Workbench, times: int) -> None:
    code = (
        "import os, signal, time\nfrom otelagent import process\n"
        "process.watch_process(int, lambda: print('exit'), exit_timeout_s=1, on_survived=lambda: print('flush'))\n"
        f"pid = os.getpid()\nos.getpid = lambda: 1\nfor _ in range({times}):\n  os.kill(pid, signal.SIGTERM)\n"
        "  time.sleep(.1)\nprint('alive')"
    )
    outcome = bench.run(sys.executable, "-c", code, options=None)
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout.split() == ["flush"] * times + ["alive", "exit"]


def test_what_is_patched_for_it_is_put_back(bench: Workbench) -> None:
    code = (
        "import gunicorn.workers.base as early\nfound = early.Worker.load_wsgi\n"
        "from otelagent.process import watch_process\n"
        "watch = watch_process(int, int, exit_timeout_s=1)\nprint(early.Worker.load_wsgi is found)\n"
        "watch.stop()\nprint(early.Worker.load_wsgi is found)\n"
        "watch = watch_process(int, int, exit_timeout_s=1)\nprint(early.Worker.load_wsgi is found)\n"
        "watch.stop()\nprint(early.Worker.load_wsgi is found)\n"
    )
    outcome = bench.run(sys.executable, "-c", code, options=None)
    assert outcome.stdout.split() == ["False", "True", "False", "True"], outcome.stderr


def test_forked_children_answer_for_themselves(bench: Workbench) -> None:
    code = (
        "import os, signal, time\nchild = os.fork()\nif not child: time.sleep(20)\n"
        "time.sleep(.2); os.kill(child, signal.SIGTERM)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"
    )
    outcome = bench.run(sys.executable, "-c", code)
    assert outcome.stdout == "-15\n"
    assert outcome.events == [["fork", "exit"], ["init", "exit"]]


def test_what_the_agent_raises_stays_in_the_log(bench: Workbench) -> None:
    code = (
        "import os\nfrom otelagent.process import watch_process\ndef fail(): raise RuntimeError('broken')\n"
        "watch_process(fail, fail, exit_timeout_s=1)\n"
        "child = os.fork()\nif child: print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"
    )
    outcome = bench.run(sys.executable, "-c", code, options=None)
    assert (outcome.returncode, outcome.stdout) == (0, "0\n")
    assert "RuntimeError: broken" in outcome.stderr


def test_a_new_watch_takes_the_place_of_the_old_one(bench: Workbench) -> None:
    code = (
        "import os, signal\nfrom otelagent.process import watch_process\n"
        "def say(*a): print(*a, flush=True)\n"
        "def watch(n): return watch_process(lambda: say('fork', n), lambda: say('exit', n), exit_timeout_s=9)\n"
        "first = watch('first')\nsecond = watch('second')\nsay(first.handles_sigterm, second.handles_sigterm)\n"
        "child = os.fork()\nif child: os.waitpid(child, 0)\n"
        "if child: second.stop(); print(signal.getsignal(signal.SIGTERM).name)"
    )
    outcome = bench.run(sys.executable, "-c", code, options=None)
    assert outcome.stdout.splitlines() == ["False True", "fork second", "exit second", "SIG_DFL"]


def test_outside_the_main_thread_the_signal_is_left_alone(bench: Workbench) -> None:
    code = (
        "import signal, threading\nfrom otelagent import lifecycle\nthread = threading.Thread(target=lifecycle.init)\n"
        "thread.start(); thread.join()\nprint(signal.getsignal(signal.SIGTERM).name)"
    )
    outcome = bench.run(sys.executable, "-c", code, options=None)
    assert (outcome.stdout, outcome.events) == ("SIG_DFL\n", [["init", "exit"]])


def test_a_lock_held_by_the_interrupted_code_does_not_hang_the_end(bench: Workbench) -> None:
    code = (
        "import os, signal, threading\nfrom otelagent.process import watch_process\nlock = threading.Lock()\n"
        "def finish():\n  with lock: print('never')\n"
        "watch_process(lambda: None, finish, exit_timeout_s=.2)\n"
        "with lock: os.kill(os.getpid(), signal.SIGTERM)\nprint('not here')"
    )
    outcome = bench.run(sys.executable, "-c", code, options=None)
    assert (outcome.returncode, outcome.stdout) == (-signal.SIGTERM, "")


def test_importing_it_is_cheap(bench: Workbench) -> None:
    code = "import sys, otelagent.process; print({'wrapt', 'multiprocessing', 'asyncio', 'logging'} & {*sys.modules})"
    assert bench.run(sys.executable, "-c", code, options=None).stdout == "set()\n"
