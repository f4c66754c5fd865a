"""Starts and stops the real collector, Jaeger and Zipkin on loopback ports of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from .build import FOLDER, locate_one
from .errors import BackendError
from .process import HOST, Port, Process

__all__ = ["ALL_IN_ONE", "COLLECTOR_ONLY", "Backends", "Collector", "Jaeger", "Program", "Zipkin"]

ALL_IN_ONE = FOLDER / "all-in-one.yaml"
COLLECTOR_ONLY = Path(__file__).resolve().parent / "collector-only.yaml"
JAEGER_CONFIG = FOLDER / "jaeger.yaml"

# What a program may inherit. Everything else could change what it does: OTEL_* is meant for the application under
# test, Zipkin connects to whatever RABBIT_*, KAFKA_* or EUREKA_* name, and proxies have no business on loopback.
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "JAVA_HOME", "USER")


class Program(Process):
    """One back end. Subclasses say what to run.

    After `stop()` or `kill()` it can be started again on the same ports; `close()` also gives the ports back.
    """

    program = "program"
    """What it is called unless told otherwise."""

    def __init__(
        self, workdir: str | os.PathLike[str], *, ports: Mapping[str, int] | None = None, name: str | None = None
    ) -> None:
        super().__init__(name or self.program, workdir)
        self.workdir.mkdir(parents=True, exist_ok=True)
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

    def address(self, role: str) -> str:
        """`127.0.0.1:port` of one of its ports."""
        return self._ports[role].address

    def port(self, role: str) -> int:
        return self._ports[role].number

    def launch(self) -> None:
        if not self._ports:
            raise BackendError(f"{self.name} was closed; make a new one")
        self._spawn(self._command(), folder=self.workdir, env=_inherited() | self._environment())

    def ready(self) -> bool:
        """Whether the health address answers 200 now."""
        try:
            with _direct.open(self.health_url, timeout=2) as response:
                return bool(response.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def close(self) -> None:
        """Stop it and give the ports back."""
        super().close()
        for port in self._ports.values():
            port.close()
        self._ports = {}


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

    program = "jaeger"
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

    program = "zipkin"
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

    program = "collector"

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
        name: str | None = None,
    ) -> None:
        self.config = Path(config).resolve()
        self.overlays = [str(overlay) for overlay in overlays]
        self.env = dict(env or {})
        self._jaeger = jaeger
        self._zipkin = zipkin
        super().__init__(workdir, ports=ports, name=name)
        self.file = self.workdir / f"{self.name}.jsonl"

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

    def start(self) -> None:
        """Start all three and wait until each is healthy.

        Zipkin takes longest, hence first; Jaeger is waited for before the collector comes, whose first connection
        would be refused otherwise, and the second attempt takes it a second.
        """
        try:
            self.zipkin.launch()
            self.jaeger.start()
            self.collector.start()
            self.zipkin.wait_ready()
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


_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _inherited() -> dict[str, str]:
    return {name: os.environ[name] for name in _INHERITED if name in os.environ}
