"""The application under fault: `python -m tests.faults.application PROGRAM`, a process of its own for each run.

PROGRAM is a Python file that finds the name `agent` here: an `Otelagent` or a `Stock`, which do the same things. A
script of its own (a server, a program that forks) says `from tests.faults.application import start` and
`agent = start()`. What the application says goes to standard output, a JSON line each time, of which the last one of a
process counts.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

SETUP = "FAULTS_APPLICATION"
"""The environment variable with the subject and its settings, as JSON."""


MIB = 1024 * 1024


class Agent:
    """What a program does with either subject.

    :ivar made: the ids of the spans that have ended.
    :ivar ours: whether it is otelagent.
    """

    ours = True

    def __init__(self) -> None:
        self.made: list[str] = []
        self._said: dict[str, Any] = {}
        self._flushed: bool | None = None

    def spans(self, count: int, value_bytes: int = 0, per_s: float = 0.0) -> None:
        """Makes spans.

        :param value_bytes: of the attributes of each.
        :param per_s: how many a second; 0 for as fast as it goes.
        """
        from opentelemetry import trace

        tracer = trace.get_tracer("tests.faults")
        begun = time.monotonic()
        for number in range(count):
            with tracer.start_as_current_span("work") as span:
                # Of a size that nobody cuts.
                for begin in range(0, value_bytes, MIB):
                    span.set_attribute(f"value.{begin}", "x" * min(MIB, value_bytes - begin))
                self.made.append(f"{span.get_span_context().span_id:016x}")
            if per_s:
                time.sleep(max(0.0, begun + (number + 1) / per_s - time.monotonic()))

    def flush(self, timeout_s: float = 20.0) -> bool:
        """Flushes. Whether all flushes have said that everything arrived is part of what `tell` says."""
        done = self._flush(timeout_s)
        self._flushed = done and self._flushed is not False
        return done

    def settle(self, timeout_s: float = 20.0) -> None:
        """Flushes once, and then waits until nothing waits any more, in memory or on disk."""
        deadline_s = time.monotonic() + timeout_s
        self.tell()
        self.flush(timeout_s)
        self.wait_for(lambda: not self.waiting(), deadline_s - time.monotonic())

    def wait_for(self, happens: Callable[[], object], timeout_s: float = 20.0) -> bool:
        """Waits until it happens, and says whether it did."""
        deadline_s = time.monotonic() + timeout_s
        while not (happened := bool(happens())) and time.monotonic() < deadline_s:
            time.sleep(0.02)
        return happened

    def say(self, **facts: Any) -> None:
        """Adds facts to what is told at the end."""
        self._said |= facts

    def tell(self) -> None:
        """Says how it stands."""
        told = {"pid": os.getpid(), "made": self.made, "flushed": self._flushed, **self._said, **self._books()}
        # One write, so that the lines of several processes stay whole.
        os.write(1, json.dumps(told).encode() + b"\n")

    def end(self) -> None:
        """Shuts down and says what became of all."""
        self.shutdown()
        self.tell()

    def peak_memory(self) -> float:
        """The most memory that the process has had since the last call, MiB."""
        with open("/proc/self/status") as status:
            peak_kib = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
        with open("/proc/self/clear_refs", "w") as clear:
            clear.write("5")
        return peak_kib / 1024

    def waiting(self) -> int:
        """How many spans wait, as far as the subject can say."""
        return 0

    def shutdown(self) -> None:
        """Shuts down, as the end of a process does."""
        raise NotImplementedError

    def _flush(self, timeout_s: float) -> bool:
        raise NotImplementedError

    def _books(self) -> dict[str, Any]:
        return {}


class Otelagent(Agent):
    """otelagent with one of its engines."""

    def __init__(self, engine: str, settings: dict[str, Any]) -> None:
        super().__init__()
        import otelagent

        otelagent.init(**{"service_name": "faults", "quiet": True, "engine": engine, **settings})

    def status(self) -> dict[str, Any]:
        """`otelagent.status()`."""
        import otelagent

        return otelagent.status()

    def ledger(self, destination: str = "") -> dict[str, Any]:
        """The counts of the spans, at the main destination unless another is named."""
        return self._ledgers()[destination]

    def waiting(self) -> int:
        return sum(int(ledger["queued"] + ledger["spooled"]) for ledger in self._ledgers().values())

    def shutdown(self) -> None:
        import otelagent

        otelagent.shutdown()

    def _flush(self, timeout_s: float) -> bool:
        import otelagent

        return otelagent.flush(timeout_s)

    def _books(self) -> dict[str, Any]:
        main = self.status()["delivery"]["traces"]
        others = self._ledgers()
        return {"delivery": main, "ledger": others.pop(""), "others": others}

    def _ledgers(self) -> dict[str, dict[str, Any]]:
        of_signals = ((key.partition(":"), ledger) for key, ledger in self.status()["ledger"].items())
        return {name: ledger for (signal, _, name), ledger in of_signals if signal == "traces"}


class Stock(Agent):
    """The SDK as its documentation sets it up."""

    ours = False

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__()
        from opentelemetry import trace
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

        self._provider = TracerProvider(resource=Resource.create({"service.name": "faults"}))
        endpoints = [settings["endpoint"], *(other["endpoint"] for other in settings.get("destinations", {}).values())]
        exporter: SpanExporter
        headers = dict(pair.split("=", 1) for pair in settings.get("headers", "").split(",") if pair)
        timeout_s = settings["timeout_ms"] / 1000 if "timeout_ms" in settings else None
        for endpoint in endpoints:
            if settings.get("protocol") == "grpc":
                from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as Grpc

                exporter = Grpc(endpoint=endpoint, insecure=True, headers=headers, timeout=timeout_s)
            else:
                from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as Http

                exporter = Http(endpoint=endpoint, headers=headers, timeout=timeout_s)
            self._provider.add_span_processor(BatchSpanProcessor(exporter))
        trace.set_tracer_provider(self._provider)

    def shutdown(self) -> None:
        self._provider.shutdown()

    def _flush(self, timeout_s: float) -> bool:
        return self._provider.force_flush(int(timeout_s * 1000))


def start() -> Any:
    """The subject that the environment names, set up as its users do."""
    setup = json.loads(os.environ[SETUP])
    # What a crash leaves is not the faults' subject, and would lie around.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if setup["subject"] == "stock":
        return Stock(setup["settings"])
    return Otelagent(setup["subject"], setup["settings"])


worker: Any = None
"""What `start_worker` has started in this process or one that it was forked from."""


def start_worker() -> Any:
    """As `start`, for one process of many: what it tells last is told when otelagent has ended in it, and the child of
    a fork has made no spans yet."""
    global worker
    agent = worker = start()
    os.register_at_fork(after_in_child=agent.made.clear)
    if agent.ours:
        from otelagent.process import ProcessWatch

        call = ProcessWatch._call

        def and_tell(watch: Any, function: Callable[[], object]) -> None:
            call(watch, function)
            if function == watch._on_exit:
                agent.tell()

        ProcessWatch._call = and_tell  # type: ignore[assignment, method-assign]
    return agent


def prepare() -> None:
    """Imports what the subject needs, so that the children of a fork have it."""
    setup = json.loads(os.environ[SETUP])
    if setup["subject"] == "stock":
        import opentelemetry.exporter.otlp.proto.http.trace_exporter
        import opentelemetry.sdk.trace.export  # noqa: F401
    else:
        import otelagent.delivery.transports.http_client
        import otelagent.lifecycle  # noqa: F401


def main() -> None:
    agent = start()
    with open(sys.argv[1]) as program:
        source = program.read()
    try:
        exec(compile(source, sys.argv[1], "exec"), {"__name__": "__main__", "agent": agent})
    except (Exception, SystemExit) as error:
        agent.say(raised=f"{type(error).__name__}: {error}")
    agent.end()


if __name__ == "__main__":
    main()
