"""Real interpreters with the real bootstrap and an agent that only keeps a journal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

AGENT = '''
"""An agent that only notes when it is started, forked and ended, and in which process."""

import os
import sys
import time

from otelagent.errors import ConfigError
from otelagent.process import watch_process


def note(event):
    line = f"{event} {os.getpid()}\\n".encode()
    journal = os.open(os.environ["JOURNAL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(journal, line)
    os.close(journal)


def finish():
    time.sleep(float(os.environ.get("FINISH_TAKES_S", "0")))
    note("exit")


def init():
    failure = os.environ.get("INIT_FAILS")
    if failure == "config":
        raise ConfigError("sampler", "x", "OTEL_TRACES_SAMPLER", "must be one of the samplers")
    if failure == "exit":
        sys.exit("an extension\\nwants out")
    if failure:
        raise RuntimeError("several\\nlines")
    note("init")
    watch_process(lambda: note("fork"), finish, exit_timeout_s=float(os.environ.get("EXIT_TIMEOUT_S", "2")))


def startup_line():
    return "otelagent 0.1.0: started"
'''

START_LINE = "otelagent 0.1.0: started"


@dataclass
class Outcome:
    """How a command ended.

    :ivar journal: what the agent noted, by process id, in order.
    """

    returncode: int
    stdout: str
    stderr: str
    journal: Mapping[int, Sequence[str]]
    pid: int = 0

    @property
    def events(self) -> list[list[str]]:
        """The journal without the process ids; a process that was asked to deliver twice may as well have been once."""
        return sorted([event for event, _ in groupby(events)] for events in self.journal.values())

    @property
    def own_lines(self) -> list[str]:
        """What otelagent wrote to stderr."""
        return [line for line in self.stderr.splitlines() if line.startswith("otelagent")]

    def lost(self) -> dict[int, Sequence[str]]:
        """Processes with an agent that was never asked to deliver."""
        return {pid: events for pid, events in self.journal.items() if "exit" not in events}


@dataclass
class Workbench:
    """Runs commands in a directory of their own."""

    directory: Path
    packages: Path
    _running: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def bootstrap(self) -> str:
        """The directory that `otelagent-run` puts on PYTHONPATH."""
        return str(self.packages / "otelagent" / "bootstrap" / "pythonpath")

    @property
    def journal(self) -> dict[int, list[str]]:
        events: dict[int, list[str]] = {}
        path = self.directory / "journal"
        for line in path.read_text().splitlines() if path.exists() else []:
            event, pid = line.split()
            events.setdefault(int(pid), []).append(event)
        return events

    def write(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def environ(self, **changes: str) -> dict[str, str]:
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL", "PYTHON"))}
        environ["JOURNAL"] = str(self.directory / "journal")
        environ["PYTHONPATH"] = str(self.packages)
        environ["PATH"] = os.path.dirname(sys.executable) + os.pathsep + environ["PATH"]
        environ.update(changes)
        return environ

    def start(self, *command: str, options: Sequence[str] | None = (), **changes: str) -> subprocess.Popen[str]:
        """Starts a command under `otelagent-run` with these options, without it if they are None."""
        (self.directory / "journal").unlink(missing_ok=True)
        launcher = [] if options is None else [sys.executable, "-m", "otelagent.cli.run", *options]
        process = subprocess.Popen(
            [*launcher, *command],
            cwd=self.directory,
            env=self.environ(**changes),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._running.append(process)
        return process

    def end(self, process: subprocess.Popen[str], stdin: str = "", timeout_s: float = 30) -> Outcome:
        stdout, stderr = process.communicate(stdin, timeout_s)
        return Outcome(process.returncode, stdout, stderr, self.journal, process.pid)

    def run(self, *command: str, options: Sequence[str] | None = (), stdin: str = "", **changes: str) -> Outcome:
        return self.end(self.start(*command, options=options, **changes), stdin)

    def both(self, *command: str, **changes: str) -> tuple[Outcome, Outcome]:
        """The same command without otelagent and with it."""
        return self.run(*command, options=None, **changes), self.run(*command, **changes)

    def close(self) -> None:
        for process in self._running:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.communicate()
