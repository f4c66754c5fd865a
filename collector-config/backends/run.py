"""Starts and stops the real collector, Jaeger and Zipkin on loopback ports of their own.

Each object reserves its ports when it is made and keeps them until `close()`, so that a program may come later than
its clients, go away and come back at the same address. Programs run in a process group of their own with their
output in a log file; they are stopped by SIGTERM, then SIGKILL, and on Linux the kernel kills them when this process
dies.
"""

from __future__ import annotations

import atexit
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TypeVar, Union

from .build import FOLDER, BackendError, locate_one

__all__ = ["ALL_IN_ONE", "COLLECTOR_ONLY", "Backends", "Collector", "Jaeger", "Port", "Program", "Zipkin"]

ALL_IN_ONE = FOLDER / "all-in-one.yaml"
COLLECTOR_ONLY = Path(__file__).resolve().parent / "collector-only.yaml"
JAEGER_CONFIG = FOLDER / "jaeger.yaml"

HOST = "127.0.0.1"
START_TIMEOUT_S = 60.0
POLL_S = 0.02
LOG_TAIL_LINES = 40

# What a program may inherit. Everything else could change what it does: OTEL_* is meant for the application under
# test, Zipkin connects to whatever RABBIT_*, KAFKA_* or EUREKA_* name, and proxies have no business on loopback.
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "JAVA_HOME", "USER")

# Runs in the child before the program: die with the parent, also if it died before we could ask for that.
_GUARD = """
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the parent is gone")
os.execvp(sys.argv[2], sys.argv[2:])
"""


_Self = TypeVar("_Self", bound="Program")
_Outcome = Union["subprocess.Popen[bytes]", BaseException]


class Port:
    """A TCP port on loopback, held until `close()`.

    The socket is bound but doesn't listen: connections are refused, the kernel gives the port to nobody who asks for
    any port, and a server that sets SO_REUSEADDR (Go's and Java's do) may still bind and listen to it.
    """

    def __init__(self, number: int = 0) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((HOST, number))
        except OSError as error:
            self._socket.close()
            raise BackendError(f"port {number} on {HOST} is in use ({error.strerror})") from error
        self.number: int = self._socket.getsockname()[1]

    @property
    def address(self) -> str:
        return f"{HOST}:{self.number}"

    def close(self) -> None:
        self._socket.close()


class Program:
    """One program: start, wait until healthy, stop for sure. Subclasses say what to run.

    Usable as a context manager (start on entry, close on exit). After `stop()` or `kill()` it can be started again
    on the same ports; `close()` also gives the ports back.
    """

    name = "program"
    stop_timeout_s = 10.0
    """What `stop()` allows between SIGTERM and SIGKILL."""

    def __init__(self, workdir: str | os.PathLike[str], *, ports: Mapping[str, int] | None = None) -> None:
        self.workdir = Path(workdir).resolve()
        self.workdir.mkdir(parents=True, exist_ok=True)
        self.log = self.workdir / f"{self.name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()
        self._ports: dict[str, Port] = {}
        wanted = dict(ports or {})
        for role in self._roles():
            try:
                self._ports[role] = Port(wanted.pop(role, 0))
            except BackendError:
                self.close()
                raise
        if wanted:
            self.close()
            raise ValueError(f"{self.name} has no port called {', '.join(wanted)}; it has {', '.join(self._roles())}")
        _alive.add(self)

    # what subclasses give

    def _roles(self) -> Sequence[str]:
        raise NotImplementedError

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _environment(self) -> dict[str, str]:
        return {}

    @property
    def health_url(self) -> str:
        raise NotImplementedError

    # life

    @property
    def pid(self) -> int:
        """The program's own process id; raises BackendError when it isn't running."""
        if self._process is None:
            raise BackendError(f"{self.name} is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def address(self, role: str) -> str:
        """`127.0.0.1:port` of one of its ports."""
        return self._ports[role].address

    def port(self, role: str) -> int:
        return self._ports[role].number

    def start(self, *, env: Mapping[str, str] | None = None, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start the program and wait until it is healthy; `env` adds to its environment for this start.

        Raises BackendError, with the end of its log, when it exits or isn't healthy within `timeout_s`.
        """
        self.launch(env=env)
        self.wait_healthy(timeout_s)

    def launch(self, *, env: Mapping[str, str] | None = None) -> None:
        """Start the program without waiting for anything."""
        if self.running:
            raise BackendError(f"{self.name} is already running (process {self.pid})")
        if not self._ports:
            raise BackendError(f"{self.name} was closed; make a new one")
        environment = _inherited() | self._environment() | dict(env or {})
        command = [sys.executable, "-IS", "-c", _GUARD, str(os.getpid()), *self._command()]
        with self.log.open("ab") as log:
            self._process = _popen(
                lambda: subprocess.Popen(
                    command,
                    cwd=self.workdir,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )

    def wait_healthy(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until the health address answers 200; otherwise stop the program and raise BackendError."""
        deadline = time.monotonic() + timeout_s
        while not self.healthy():
            if not self.running:
                status = None if self._process is None else self._process.returncode
                self._process = None
                raise BackendError(f"{self.name} exited with status {status} at start\n{self._tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise BackendError(f"{self.name} was not healthy within {timeout_s:g} s\n{self._tail()}")
            time.sleep(POLL_S)

    def healthy(self) -> bool:
        """Whether the health address answers 200 now."""
        try:
            with _direct.open(self.health_url, timeout=2) as response:
                return bool(response.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def stop(self, timeout_s: float | None = None) -> None:
        """SIGTERM, then SIGKILL after `timeout_s`. Nothing of the program's process group is left afterwards."""
        self._end(self.stop_timeout_s if timeout_s is None else timeout_s)

    def kill(self) -> None:
        """SIGKILL, as a crash would have it."""
        self._end(0)

    def signal(self, number: int) -> None:
        """Send a signal to the program: SIGHUP for a reload, SIGSTOP and SIGCONT for a stall."""
        os.kill(self.pid, number)

    def close(self) -> None:
        """Stop it and give the ports back."""
        self.stop()
        for port in self._ports.values():
            port.close()
        self._ports = {}
        _alive.discard(self)

    def log_text(self) -> str:
        """Everything the program has logged, over all starts."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def __enter__(self: _Self) -> _Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _end(self, timeout_s: float) -> None:
        process, self._process = self._process, None
        if process is None or os.getpid() != self._owner:  # a forked child has no say over its parent's programs
            return
        if process.poll() is None and timeout_s > 0:
            _signal_group(process.pid, signal.SIGTERM)
            _signal_group(process.pid, signal.SIGCONT)  # one that a test has stopped can't end
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout_s)
        if process.returncode is None:  # not reaped yet, so the number is still this program's
            _signal_group(process.pid, signal.SIGKILL)
            process.wait()

    def _tail(self) -> str:
        lines = self.log_text().splitlines()[-LOG_TAIL_LINES:]
        return f"--- end of {self.log} ---\n" + "\n".join(lines)


class _Configured(Program):
    """A program that is an OpenTelemetry collector underneath, so that it can check a configuration."""

    config: Path

    def validate(self) -> None:
        """Let the program check its configuration, starting nothing; raises BackendError with what it says."""
        command = self._command()
        command.insert(1, "validate")
        done = subprocess.run(
            command,
            cwd=self.workdir,
            env=_inherited() | self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise BackendError(f"{self.config.name} is not valid:\n{done.stderr.strip() or done.stdout.strip()}")


class Jaeger(_Configured):
    """Jaeger with collector-config/jaeger.yaml: OTLP in, memory storage, query API."""

    name = "jaeger"
    stop_timeout_s = 2.0  # it waits for open connections, and has nothing but its memory to lose

    def __init__(
        self,
        workdir: str | os.PathLike[str],
        *,
        config: str | os.PathLike[str] = JAEGER_CONFIG,
        ports: Mapping[str, int] | None = None,
    ) -> None:
        self.config = Path(config).resolve()
        super().__init__(workdir, ports=ports)

    def _roles(self) -> Sequence[str]:
        return ("otlp_grpc", "otlp_http", "query", "query_grpc", "health", "metrics")

    def _command(self) -> list[str]:
        return [str(locate_one("jaeger")), f"--config={self.config}"]

    def _environment(self) -> dict[str, str]:
        return {
            "JAEGER_OTLP_GRPC_ENDPOINT": self.address("otlp_grpc"),
            "JAEGER_OTLP_HTTP_ENDPOINT": self.address("otlp_http"),
            "JAEGER_QUERY_ENDPOINT": self.address("query"),
            "JAEGER_QUERY_GRPC_ENDPOINT": self.address("query_grpc"),
            "JAEGER_HEALTH_ENDPOINT": self.address("health"),
            "JAEGER_METRICS_HOST": HOST,
            "JAEGER_METRICS_PORT": str(self.port("metrics")),
        }

    @property
    def health_url(self) -> str:
        return f"http://{self.address('health')}/status"

    @property
    def query_url(self) -> str:
        """Base address of the query API."""
        return f"http://{self.address('query')}"

    @property
    def ui_url(self) -> str:
        """Base address of the page. This build embeds no page, only a placeholder; the API is the same."""
        return self.query_url

    @property
    def otlp_grpc(self) -> str:
        return f"http://{self.address('otlp_grpc')}"

    @property
    def otlp_http(self) -> str:
        return f"http://{self.address('otlp_http')}"


class Zipkin(Program):
    """Zipkin's slim server with memory storage: its API, its page and its collector on one port."""

    name = "zipkin"
    stop_timeout_s = 0.0  # a polite end takes it 2.5 s, and it has nothing but its memory to lose

    def _roles(self) -> Sequence[str]:
        return ("http",)

    def _command(self) -> list[str]:
        if shutil.which("java") is None:
            raise BackendError("`java` is not on PATH: install Java 17 or newer (Debian: openjdk-17-jre-headless)")
        return [
            "java",
            "-Xms64m",
            "-Xmx384m",
            "-XX:TieredStopAtLevel=1",
            "-XX:+UseSerialGC",
            f"-Djava.io.tmpdir={self.workdir}",
            "-jar",
            str(locate_one("zipkin")),
            # The server listens on every interface unless the whole list of ports is given.
            f"--armeria.ports[0].ip={HOST}",
            f"--armeria.ports[0].port={self.port('http')}",
            "--armeria.ports[0].protocols[0]=http",
        ]

    @property
    def health_url(self) -> str:
        return f"http://{self.address('http')}/health"

    @property
    def query_url(self) -> str:
        """Base address of the API (`/api/v2/…` comes after it)."""
        return f"http://{self.address('http')}"

    @property
    def ui_url(self) -> str:
        return f"{self.query_url}/zipkin"

    @property
    def spans_url(self) -> str:
        """Where a Zipkin exporter sends to."""
        return f"{self.query_url}/api/v2/spans"


class Collector(_Configured):
    """The collector of collector-config/distribution.

    `config` is a file (COLLECTOR_ONLY unless told); `overlays` are further files, or `yaml:` strings as the
    collector's --config takes them, merged over it in order. `env` adds to the environment of every start.
    `jaeger` and `zipkin` are where ALL_IN_ONE forwards to.
    """

    name = "collector"

    def __init__(
        self,
        workdir: str | os.PathLike[str],
        *,
        config: str | os.PathLike[str] = COLLECTOR_ONLY,
        overlays: Sequence[str | os.PathLike[str]] = (),
        env: Mapping[str, str] | None = None,
        jaeger: Jaeger | None = None,
        zipkin: Zipkin | None = None,
        ports: Mapping[str, int] | None = None,
        name: str = "collector",
    ) -> None:
        self.name = name
        self.config = Path(config).resolve()
        self.overlays = [str(overlay) for overlay in overlays]
        self.env = dict(env or {})
        self._jaeger = jaeger
        self._zipkin = zipkin
        super().__init__(workdir, ports=ports)
        self.file = self.workdir / f"{self.name}.jsonl"

    def start(
        self,
        *,
        config: str | os.PathLike[str] | None = None,
        overlays: Sequence[str | os.PathLike[str]] | None = None,
        env: Mapping[str, str] | None = None,
        timeout_s: float = START_TIMEOUT_S,
    ) -> None:
        """Start it and wait until it is healthy. `config` and `overlays`, when given, replace those from before."""
        if config is not None:
            self.config = Path(config).resolve()
        if overlays is not None:
            self.overlays = [str(overlay) for overlay in overlays]
        super().start(env=env, timeout_s=timeout_s)

    def _roles(self) -> Sequence[str]:
        return ("otlp_grpc", "otlp_http", "health", "metrics")

    def _command(self) -> list[str]:
        command = [str(locate_one("collector")), f"--config={self.config}"]
        return command + [f"--config={overlay}" for overlay in self.overlays]

    def _environment(self) -> dict[str, str]:
        environment = {
            "OTELCOL_OTLP_GRPC_ENDPOINT": self.address("otlp_grpc"),
            "OTELCOL_OTLP_HTTP_ENDPOINT": self.address("otlp_http"),
            "OTELCOL_HEALTH_ENDPOINT": self.address("health"),
            "OTELCOL_METRICS_HOST": HOST,
            "OTELCOL_METRICS_PORT": str(self.port("metrics")),
            "OTELCOL_FILE_PATH": str(self.file),
            "OTELCOL_FILE_MAX_MEGABYTES": "1000000",
        }
        if self._jaeger is not None:
            environment["OTELCOL_JAEGER_ENDPOINT"] = self._jaeger.address("otlp_grpc")
        if self._zipkin is not None:
            environment["OTELCOL_ZIPKIN_ENDPOINT"] = self._zipkin.spans_url
        return environment | self.env

    @property
    def health_url(self) -> str:
        return f"http://{self.address('health')}/"

    @property
    def otlp_http(self) -> str:
        """`http://127.0.0.1:port`, to which a client appends /v1/traces."""
        return f"http://{self.address('otlp_http')}"

    @property
    def otlp_grpc(self) -> str:
        return f"http://{self.address('otlp_grpc')}"

    @property
    def metrics_url(self) -> str:
        """The collector's own metrics, as Prometheus text."""
        return f"http://{self.address('metrics')}/metrics"


class Backends:
    """Collector, Jaeger and Zipkin wired as in all-in-one.yaml; all started on entry, all gone on exit.

    Made, but not entered, it has reserved the addresses and started nothing; each of the three can then be started
    by itself.
    """

    def __init__(
        self,
        workdir: str | os.PathLike[str],
        *,
        config: str | os.PathLike[str] = ALL_IN_ONE,
        overlays: Sequence[str | os.PathLike[str]] = (),
        env: Mapping[str, str] | None = None,
        collector_ports: Mapping[str, int] | None = None,
        jaeger_ports: Mapping[str, int] | None = None,
        zipkin_ports: Mapping[str, int] | None = None,
    ) -> None:
        made: list[Program] = []
        try:
            self.jaeger = Jaeger(workdir, ports=jaeger_ports)
            made.append(self.jaeger)
            self.zipkin = Zipkin(workdir, ports=zipkin_ports)
            made.append(self.zipkin)
            self.collector = Collector(
                workdir,
                config=config,
                overlays=overlays,
                env=env,
                jaeger=self.jaeger,
                zipkin=self.zipkin,
                ports=collector_ports,
            )
        except BaseException:
            for program in made:
                program.close()
            raise

    @property
    def programs(self) -> tuple[Program, Program, Program]:
        """In the order in which they are stopped: who sends goes before who receives."""
        return self.collector, self.jaeger, self.zipkin

    def start(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start all three and wait until each is healthy.

        Zipkin takes longest, hence first; Jaeger is waited for before the collector comes, whose first connection
        would be refused otherwise, and the second attempt takes it a second.
        """
        try:
            self.zipkin.launch()
            self.jaeger.start(timeout_s=timeout_s)
            self.collector.start(timeout_s=timeout_s)
            self.zipkin.wait_healthy(timeout_s)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        for program in self.programs:
            program.stop()

    def close(self) -> None:
        for program in self.programs:
            program.close()

    def __enter__(self) -> Backends:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


# --- processes --------------------------------------------------------------------------------------------------

_alive: weakref.WeakSet[Program] = weakref.WeakSet()
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _inherited() -> dict[str, str]:
    return {name: os.environ[name] for name in _INHERITED if name in os.environ}


def _signal_group(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


class _Launcher:
    """One thread that starts every program and lives as long as this process.

    "Die with the parent" means the parent's *thread* to the kernel: a program started by a test's worker thread
    would be killed when that thread ends.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._jobs: queue.SimpleQueue[tuple[Callable[[], subprocess.Popen[bytes]], queue.SimpleQueue[_Outcome]]] = (
            queue.SimpleQueue()
        )
        threading.Thread(target=self._run, name="backends-launcher", daemon=True).start()

    def start(self, job: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
        answer: queue.SimpleQueue[_Outcome] = queue.SimpleQueue()
        self._jobs.put((job, answer))
        outcome = answer.get()
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def _run(self) -> None:
        while True:
            job, answer = self._jobs.get()
            try:
                answer.put(job())
            except BaseException as error:
                answer.put(error)


_launcher: _Launcher | None = None
_launcher_lock = threading.Lock()


def _popen(job: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
    global _launcher
    with _launcher_lock:
        if _launcher is None or _launcher.pid != os.getpid():  # threads don't survive a fork
            _launcher = _Launcher()
        launcher = _launcher
    return launcher.start(job)


@atexit.register
def _stop_all() -> None:
    for program in list(_alive):
        program.kill()
