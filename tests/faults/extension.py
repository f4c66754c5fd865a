"""Faults of extensions, of files that are read again, and of too much of everything."""

from __future__ import annotations

import math
import os
import random
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.delivery.certificates import Authority
from tests.delivery.harness import FaultServer
from tests.faults.bench import OK, Bench
from tests.faults.registry import fault
from tests.support import wait_until

SETTINGS: dict[str, Any] = {"batch_schedule_delay_ms": 50}

PLUGINS = """
import os, sys, threading, time
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
class Processor(SpanProcessor):
    def __init__(self, harm):
        self.harm = harm
    def on_start(self, span, parent_context=None):
        self.harm("start")
    def on_end(self, span):
        self.harm("end")
    def force_flush(self, timeout_millis=30000):
        self.harm("flush")
        return True
    def shutdown(self):
        self.harm("shutdown")
class Exporter(SpanExporter):
    def __init__(self, harm):
        self.harm = harm
    def export(self, spans):
        self.harm("export")
    def force_flush(self, timeout_millis=30000):
        self.harm("flush")
        return True
    def shutdown(self):
        self.harm("shutdown")
def fail(when):
    raise RuntimeError("plugin")
def leave(when):
    sys.exit(3)
def hang(when):
    if when in ("flush", "shutdown", "export"):
        threading.Event().wait()
def dawdle(when):
    if when == "end":
        time.sleep(0.05)
trace.get_tracer_provider().add_span_processor({plugin})
try:
    agent.spans(20)
    agent.flush(5)
    agent.spans(20)
    begun = time.monotonic()
    agent.shutdown()
except BaseException as error:
    agent.say(raised=f"{type(error).__name__}: {error}")
    agent.tell()
    os._exit(1)
agent.say(ended_s=time.monotonic() - begun)
"""

HARMS = {
    "a processor raises": "Processor(fail)",
    "a processor exits": "Processor(leave)",
    "a processor hangs in flush and shutdown": "Processor(hang)",
    "a processor is slow at each end": "Processor(dawdle)",
    "an exporter raises": "BatchSpanProcessor(Exporter(fail))",
    "an exporter exits": "BatchSpanProcessor(Exporter(leave))",
    "an exporter hangs": "BatchSpanProcessor(Exporter(hang))",
}


@fault(40, "a plugin raises, exits, hangs", cases=HARMS)
def plugin(bench: Bench, made: str) -> None:
    server = bench.server(OK)
    told = bench.run(PLUGINS.replace("{plugin}", made), to=server, timeout_s=30, **SETTINGS)
    if bench.otelagent:
        bench.expect(told.get("ended_s", 99) < 3, f"ends after {told.get('ended_s')} s")
        bench.expect(told["ledger"]["delivered"] == 40, f"its ledger says {told['ledger']}")


# Where each may fail: when it is imported, made, or asked to instrument.
INSTRUMENTATION = """
import sys
def harm():
    {harm}
{at_import}
class Plugin:
    is_instrumented_by_opentelemetry = False
    def __init__(self, *arguments):
        {when_made}
    def unsupported(self):
        return None
    def apply(self):
        harm()
    undo = apply
    def instrument(self, **options):
        harm()
    uninstrument = instrument
    def _check_dependency_conflicts(self):
        return None
"""

# The stock SDK's users have theirs loaded by its command, which calls this.
LOAD = """
try:
    if not hasattr(agent, "ledger"):
        from opentelemetry.instrumentation.auto_instrumentation import _load
        _load._load_instrumentors(_load._load_distro())
    import faulty_library
except BaseException as error:
    agent.say(raised=f"{type(error).__name__}: {error}")
agent.spans(10)
agent.settle()
"""


@fault(
    40,
    cases={
        f"an instrumentation {what} when it is {when}": (group, what, when)
        for group, what, when in (
            ("opentelemetry_instrumentor", "raises", "imported"),
            ("opentelemetry_instrumentor", "exits", "imported"),
            ("opentelemetry_instrumentor", "raises", "applied"),
            ("opentelemetry_instrumentor", "exits", "applied"),
            ("otelagent_instrumentation", "exits", "made"),
        )
    },
)
def instrumentation(bench: Bench, case: tuple[str, str, str]) -> None:
    group, what, when = case
    place = bench.directory / "site"
    installed = place / "faulty-1.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1\n")
    (installed / "entry_points.txt").write_text(f"[{group}]\nfaulty_library = faulty_plugin:Plugin\n")
    (place / "faulty_library.py").write_text("")
    source = INSTRUMENTATION.format(
        harm={"raises": "raise RuntimeError('plugin')", "exits": "sys.exit(3)"}[what],
        at_import="harm()" if when == "imported" else "",
        when_made="harm()" if when == "made" else "pass",
    )
    (place / "faulty_plugin.py").write_text(source)
    server = bench.server(OK)
    program = f"import sys\nsys.path.insert(0, {str(place)!r})\n{LOAD}"
    environ = {"PYTHONPATH": os.pathsep.join([str(Path.cwd()), str(place)])}
    bench.run(program, to=server, environ=environ, **SETTINGS)


# How often a second files change.
CHANGES_PER_S = 100
RELOADING = """
import time
agent.spans(20)
agent.flush()
agent.say(begun=True)
agent.tell()
until = time.monotonic() + 4
while time.monotonic() < until:
    agent.spans(20, per_s=200)
agent.settle()
"""


@contextmanager
def changing(change: Callable[[], object]) -> Iterator[Counter[str]]:
    """Changes something all the time, in a thread."""
    over, times = threading.Event(), Counter[str]()

    def run() -> None:
        while not over.wait(1 / CHANGES_PER_S):
            change()
            times["changes"] += 1

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield times
    finally:
        over.set()
        thread.join()


class Swapped:
    """A file that is written in place, half-written, removed, and a symbolic link that goes round.

    :param good: contents that are valid, whole.
    :param bad: contents that are not.
    """

    def __init__(self, path: Path, good: list[bytes], bad: list[bytes]) -> None:
        self._path = path
        self._good = good
        self._targets: list[Path] = []
        for number, content in enumerate([*good, *bad]):
            target = path.with_name(f"{path.name}.{number}")
            target.write_bytes(content)
            # As old as files are that a rotation has made ready.
            os.utime(target, (time.time() - 60, time.time() - 60))
            self._targets.append(target)
        self.point_to(0)

    def point_to(self, number: int) -> None:
        """Makes it a link to one of the contents, at once."""
        link = self._path.with_name(f"{self._path.name}.link")
        link.unlink(missing_ok=True)
        link.symlink_to(self._targets[number])
        link.replace(self._path)

    def change(self) -> None:
        """One change of any kind."""
        kind = random.randrange(4)
        if kind == 0:
            self._path.unlink(missing_ok=True)
        elif kind == 1:
            self._path.unlink(missing_ok=True)
            content = random.choice(self._good)
            self._path.write_bytes(content[: random.randrange(len(content))])
        else:
            self.point_to(random.randrange(len(self._targets)))


BAD = [b"", b"\n\n", bytes(range(256)), b"x" * 100_000, "Ünicode: é\n".encode()]
TOKENS = [b"token-1-whole", b"token-2-whole\n"]
WHOLE = ["Bearer token-1-whole", "Bearer token-2-whole"]


@fault(
    41,
    "files that change 100 times a second",
    stock="it reads none of them again",
    cases={"bearer token": "bearer_token_file", "headers": "headers_file"},
)
def reloaded(bench: Bench, setting: str) -> None:
    good = TOKENS if setting == "bearer_token_file" else [f"authorization: {one}\n".encode() for one in WHOLE]
    file = Swapped(bench.directory / "secret", good, BAD)
    # What is half of a token looks like one: a server that doesn't know it must never see it.
    server = bench.server({**OK, "accepts": WHOLE, "otherwise": {"status": 401}})
    settings = {**SETTINGS, setting: str(bench.directory / "secret")}
    application = bench.start(RELOADING, to=server, **settings)
    wait_until(lambda: "begun" in application.listen(), 60)
    with changing(file.change) as times:
        told = application.wait()
    sent = {request["headers"].get("authorization") for request in server.requests}
    bench.expect(sent <= set(WHOLE), f"sends {sorted(map(str, sent))}")
    bench.expect(told["ledger"]["delivered"] == told["ledger"]["ended"], f"its ledger says {told['ledger']}")
    bench.expect(times["changes"] > 100, f"the file has changed only {times['changes']} times")


@fault(41, cases={"certificates": "http"})
def certificates(bench: Bench, protocol: str) -> None:
    made = bench.directory / "made"
    made.mkdir()
    authority = Authority(made)
    server_files, *clients = (authority.sign(name) for name in ("server", "client-1", "client-2"))
    # A connection for each request, or the first one would do for all.
    action = {**OK, "headers": {"connection": "close"}}
    server = FaultServer(protocol, action, spans=True, tls=[*server_files, authority.certificate])
    bench.servers.append(server)
    place = bench.directory / "agent"
    place.mkdir()
    shutil.copy(authority.certificate, place / "ca")
    files = [
        Swapped(place / name, [client[part].read_bytes() for client in clients], BAD)
        for part, name in enumerate(("certificate", "key"))
    ]
    settings = {
        **SETTINGS,
        "certificate": str(place / "ca"),
        "client_certificate": str(place / "certificate"),
        "client_key": str(place / "key"),
    }
    application = bench.start(RELOADING, to=server, **settings)
    wait_until(lambda: "begun" in application.listen(), 60)
    with changing(lambda: random.choice(files).change()) as times:
        told = application.wait()
    bench.expect(told["ledger"]["delivered"] == told["ledger"]["ended"], f"its ledger says {told['ledger']}")
    bench.expect(times["changes"] > 100, f"the files have changed only {times['changes']} times")


# Spans of 1 to 5 kB as fast as they can be made, one in a hundred an error.
OVERLOAD = """
import os, time
from opentelemetry import trace
tracer = trace.get_tracer("tests.faults")
values = ["x" * size for size in range(1_000, 5_000, 250)]
agent.spans(1_000)
agent.flush(0.5)
failed = []
before_mib = agent.peak_memory()
for number in range({count}):
    with tracer.start_as_current_span("work") as span:
        span.set_attribute("value", values[number % len(values)])
        span_id = f"{{span.get_span_context().span_id:016x}}"
        agent.made.append(span_id)
        if number % 100 == 99:
            span.set_status(trace.StatusCode.ERROR, "failed")
            failed.append(span_id)
agent.say(grown_mib=agent.peak_memory() - before_mib, failed=failed)
agent.tell()
until = time.monotonic() + 60
while not os.path.exists({healed!r}) and time.monotonic() < until:
    time.sleep(0.01)
agent.settle(60)
"""
SPANS = 200_000
QUEUE_BYTES = 8 * 1024 * 1024


@fault(45, f"{SPANS:,} spans of 1 to 5 kB into nothing")
def overload(bench: Bench) -> None:
    server = bench.server({"status": 503})
    healed = bench.directory / "healed"
    application = bench.start(
        OVERLOAD.format(count=SPANS, healed=str(healed)),
        to=server,
        spool=False,
        queue_max_bytes=QUEUE_BYTES,
        retry_initial_backoff_ms=10,
        retry_max_backoff_ms=100,
        timeout_ms=5000,
    )
    wait_until(lambda: "failed" in application.listen() or application.process.poll() is not None, 240)
    server.begin(OK)
    healed.touch()
    told = application.wait(120)
    bench.expect(told.get("grown_mib", math.inf) < 96, f"grows by {told.get('grown_mib', math.inf):.0f} MiB")
    if not bench.otelagent:
        return
    taken = {span for request in server.requests for span in request["taken"]}
    failed = set(told.get("failed", ()))
    errors, others = len(taken & failed), len(taken - failed)
    bench.expect(
        errors / len(failed) > 2 * others / (SPANS - len(failed)),
        f"delivers {errors:,} of {len(failed):,} errors and {others:,} of {SPANS - len(failed):,} other spans",
    )
