"""What the doctor puts into each process of a command: it counts spans by scope, and notes what the agent can't know.

It comes before the agent, wraps a few of its calls, and changes nothing of what they do. It is there for an examination
only.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from otelagent.bootstrap.interpreter import read_program
from otelagent.doctor.journal import Journal
from otelagent.forks import at_fork
from otelagent.import_hooks import when_imported
from otelagent.standard_streams import keep_closed

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from otelagent.agent import Agent

__all__ = ["install"]

_OWN_THREADS = "otelagent"


def install(directory: str) -> None:
    """Watches this process, unless it installs packages or is another's helper.

    :param directory: for the journal.
    """
    program = read_program(sys.orig_argv[1:])
    if program.is_installer or program.is_helper:
        return
    keep_closed()
    journal = Journal(directory)
    _begin(journal)

    def in_child() -> None:
        journal.after_fork_in_child()
        _begin(journal, forked=True)

    at_fork(in_child=in_child)
    # Registered before the agent, so that it is called after it.
    atexit.register(_end, journal)
    _watch_os_exit(journal)
    when_imported("opentelemetry.trace", lambda module: _watch_providers(journal, module))
    when_imported("opentelemetry.sdk.trace", lambda module: _watch_tracers(journal, module.TracerProvider))
    when_imported("otelagent.record.sdk", lambda module: _watch_tracers(journal, module.Provider))
    when_imported("otelagent.record.native_provider", lambda module: _watch_tracers(journal, module.NativeProvider))
    when_imported("otelagent.agent", lambda module: _watch_agent(journal, module.Agent))
    when_imported("otelagent.lifecycle", lambda module: _watch_second_init(journal, module))
    when_imported("otelagent.signal_path", lambda module: _watch_queue(journal, module.SignalPath))
    when_imported("otelagent.delivery.worker", lambda module: _watch_tries(journal, module))


def _begin(journal: Journal, forked: bool = False) -> None:
    journal.tell(
        "started", ppid=os.getppid(), argv=(sys.orig_argv or sys.argv)[:2], executable=sys.executable, forked=forked
    )
    if forked and "otelagent.lifecycle" in sys.modules:
        _tell_status(journal)


def _end(journal: Journal) -> None:
    """At the interpreter's end, after the agent's."""
    left = [
        thread.name
        for thread in threading.enumerate()
        if thread.daemon and thread is not threading.main_thread() and not thread.name.startswith(_OWN_THREADS)
    ]
    _tell_status(journal)
    journal.tell("ended", daemon_threads=left[:10])


def _tell_status(journal: Journal, agent: Agent | None = None) -> None:
    lifecycle = sys.modules.get("otelagent.lifecycle")
    if lifecycle is None:
        return
    agent = agent or lifecycle._agent
    status = lifecycle.status() if agent is None else agent.status()
    # Values are the application's own; the sources are enough to say where to set another.
    status["sources"] = {one["name"]: one["source"] for one in status.pop("settings", ())}
    catalogue = agent.catalogue if agent is not None else None
    states = catalogue._states.values() if catalogue is not None else ()
    # What is switched off has no modules to wait for.
    imported = {
        state.name for state in states if any(module in sys.modules for module in state.modules or (state.name,))
    }
    covered = sorted({module.partition(".")[0] for state in states for module in state.modules})
    modules = sorted({name for name in tuple(sys.modules) if "." not in name} - set(sys.stdlib_module_names))
    journal.tell("status", status=status, imported=sorted(imported), covered=covered, modules=modules)


def _wrap(owner: Any, name: str, around: Callable[..., Any]) -> None:
    """Replaces a function by one that is given the original first."""
    original = getattr(owner, name)

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return around(original, *args, **kwargs)

    wrapper.__name__ = name
    setattr(owner, name, wrapper)


def _where(depth: int = 2) -> str:
    """The caller's file and line."""
    frame = sys._getframe(depth)
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _watch_os_exit(journal: Journal) -> None:
    def note(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        journal.tell("os_exit", where=_where(3))
        with suppress(Exception):  # it ends all the same
            _tell_status(journal)
        return original(*args, **kwargs)

    _wrap(os, "_exit", note)


def _watch_providers(journal: Journal, trace: Any) -> None:
    def note(original: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        where = _where(3)
        original(*args, **kwargs)
        provider = args[0] if args else kwargs.get("tracer_provider")
        journal.tell(
            "provider",
            type=f"{type(provider).__module__}.{type(provider).__qualname__}",
            where=where,
            taken=trace._TRACER_PROVIDER is provider,
            by_agent=f"{os.sep}otelagent{os.sep}agent.py" in where,
        )

    _wrap(trace, "set_tracer_provider", note)


def _watch_tracers(journal: Journal, provider: Any) -> None:
    def counted(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        from otelagent.doctor.counting import CountingTracer

        tracer = original(*args, **kwargs)
        if type(args[0]).get_tracer is not provider.get_tracer:
            return tracer  # a subclass asks, which is counted itself
        scope = kwargs.get("instrumenting_module_name", args[1] if len(args) > 1 else "")
        return CountingTracer(tracer, str(scope), lambda *seen: _count_span(journal, *seen))

    _wrap(provider, "get_tracer", counted)


def _count_span(journal: Journal, scope: str, span: Span, server: bool, unsampled_parent: bool) -> None:
    journal.count("traces", scope, "started")
    if span.get_span_context().trace_flags.sampled and span.is_recording():
        journal.count("traces", scope, "sampled")
    elif unsampled_parent:
        journal.count("traces", scope, "unsampled_parent")
    if server:
        journal.count("traces", scope, "server")


def _watch_agent(journal: Journal, agent: Any) -> None:
    def start(original: Callable[[Any], None], self: Any) -> None:
        before = sorted({name.partition(".")[0] for name in tuple(sys.modules)} - set(sys.stdlib_module_names))
        original(self)
        late = [
            {"name": state.name, "kind": state.kind, "state": state.state}
            for state in (self.catalogue._states.values() if self.catalogue is not None else ())
            if any(module.partition(".")[0] in before for module in state.modules)
        ]
        journal.tell("initialized", imported_before=late)
        _tell_status(journal, self)

    def close(original: Callable[[Any, float], bool], self: Any, timeout_s: float) -> bool:
        done = original(self, timeout_s)
        _tell_status(journal)
        journal.tell("closed", delivered_all=done)
        return done

    _wrap(agent, "start", start)
    _wrap(agent, "_close", close)


def _watch_second_init(journal: Journal, lifecycle: Any) -> None:
    def note(original: Callable[..., None], *args: Any) -> None:
        journal.tell("init_again", where=_where(4))
        original(*args)

    _wrap(lifecycle, "_warn_of_difference", note)


def _watch_queue(journal: Journal, path: Any) -> None:
    def deliver(original: Callable[..., None], self: Any, signal: str, body: bytes, items: int) -> None:
        for scope, count in _by_scope(signal, body).items():
            journal.count(signal, scope, "queued", count)
            if signal != "traces":
                journal.count(signal, scope, "started", count)
                journal.count(signal, scope, "sampled", count)
        original(self, signal, body, items)

    _wrap(path, "deliver", deliver)


def _watch_tries(journal: Journal, worker: Any) -> None:
    def tried(original: Callable[..., Any], transport: Any, payload: Any, timeout_s: float) -> Any:
        from otelagent.delivery.result import Accepted, Rejected

        outcome = original(transport, payload, timeout_s)
        result, halves = outcome
        where = transport.describe()
        if isinstance(result, (Accepted, Rejected)) and halves is None:
            scopes = _by_scope(payload.signal, payload.body)
            refused = result.rejected_items if isinstance(result, Accepted) else payload.items
            for scope, count in scopes.items():
                # Of a request with several scopes nobody says whose items were refused: the first ones are named.
                lost = min(refused, count)
                refused -= lost
                journal.count(payload.signal, scope, "sent", count, where)
                journal.count(payload.signal, scope, "accepted", count - lost, where)
                journal.count(payload.signal, scope, "refused", lost, where)
        return outcome

    _wrap(worker, "attempt", tried)


def _by_scope(signal: str, body: bytes) -> Counter[str]:
    """How many items of each scope a request has."""
    from otelagent.delivery.signals import SIGNALS

    counts: Counter[str] = Counter()
    try:
        groups, scopes, items = SIGNALS[signal].levels[:3]
        for group in getattr(SIGNALS[signal].message("Request").FromString(body), groups):
            for scope in getattr(group, scopes):
                counts[scope.scope.name] += len(getattr(scope, items))
    except Exception:
        counts.clear()
    return counts
