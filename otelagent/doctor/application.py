"""The checks of a command that has run: whether the agent was in it, and what it recorded."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from otelagent.bootstrap.interpreter import read_program
from otelagent.doctor.check import Check, Finding
from otelagent.doctor.contrib import PACKAGES
from otelagent.doctor.journal import COLUMNS
from otelagent.doctor.observe import Observation
from otelagent.doctor.wording import count_text, setting_text

__all__ = ["CHECKS", "ledger"]

_SERVERS = {"uvicorn", "gunicorn", "werkzeug", "wsgiref"}
_NOT_CALLED = "init() has not been called"
_AFTER_ITS_END = "find out first why the command ended: The command runs"
# What only carries the context on.
_WITHOUT_SPANS = {"concurrent.futures", "logging", "threading"}
_ISOLATED = {
    "I": "isolates Python from its environment",
    "E": "has Python ignore its environment",
    "S": "leaves out sitecustomize",
}


def _command(seen: Observation) -> Iterator[Finding]:
    if flag := _isolation(seen):
        advice = f"leave out -{flag}, or call otelagent.init() in the application"
        yield Finding("fail", f"python -{flag} {_ISOLATED[flag]}, by which otelagent comes in", advice)
        return
    if any(os.path.basename(word) == "opentelemetry-instrument" for word in seen.command):
        advice = "leave it out: otelagent brings its own instrumentations, and uses those that are installed, too"
        detail = "opentelemetry-instrument starts Python with its own sitecustomize, and the agent's isn't reached"
        yield Finding("fail", detail, advice)
        return
    how = f", ended by {seen.stopped}" if seen.stopped else ""
    if seen.stopped == "SIGKILL":
        advice = "find out what keeps it: what is killed delivers nothing"
        yield Finding("fail", f"it didn't end by itself and was killed after {seen.seconds:.0f} s", advice)
    elif seen.code and not seen.stopped:
        advice = "look at what it printed: telemetry has no part in an exit code"
        yield Finding("warn", f"it ended with {seen.code} after {seen.seconds:.1f} s", advice)
    else:
        yield Finding("pass", f"it ran for {seen.seconds:.1f} s{how}")


def _isolation(seen: Observation) -> str:
    """The flag of the command that keeps the agent out; empty for none."""
    if os.path.basename(seen.command[0]).rstrip("t").rstrip("0123456789.") not in ("python", "pypy"):
        return ""
    return next((flag for flag in read_program(seen.command[1:]).flags if flag in _ISOLATED), "")


def _started(seen: Observation) -> Iterator[Finding]:
    if not seen.processes:
        advice = "name a command that starts Python, with the environment it is given (no sudo, no env -i)"
        if _isolation(seen):
            advice = "see what fails: The command runs"
        yield Finding("fail", "no Python process of it met otelagent", advice)
        return
    for process in seen.processes:
        if without := process.last("without_agent"):
            advice = f"install otelagent for {without['executable']}, or use the environment that has it"
            yield Finding("fail", str(without["problem"]), advice, process.title)
            continue
        status = process.status
        state, reason = status.get("state", "INIT"), status.get("reason", "")
        if process.last("initialized"):
            engine = (status.get("engine") or {}).get("name", "?")
            service = str(status.get("service"))
            nameless = service.startswith("unknown_service")
            advice = f"set {setting_text(process.sources, 'service_name')}" if nameless else ""
            origin = "" if nameless or process.sources.get("service_name") != "default" else " (after its program)"
            detail = f'service "{service}"{origin}, engine {engine}'
            yield Finding("warn" if nameless else "pass", detail, advice, process.title)
        elif process.last("started").get("forked") and status.get("engine"):
            yield Finding("pass", "forked from a process with an agent, has one of its own", about=process.title)
        elif state == "INIT" and seen.as_is and reason in ("", _NOT_CALLED):
            advice = "call otelagent.init() there, or run it without --as-is"
            yield Finding("fail", "otelagent.init() was never called", advice, process.title)
        else:
            switched_off = seen.failed.get("enabled")
            advice = "take that out" if reason.startswith("switched off") else "correct what the reason names"
            if switched_off:
                advice = f"see what fails: {switched_off}"
            yield Finding("fail", reason or "the agent didn't start", advice, process.title)


def _imports(seen: Observation) -> Iterator[Finding]:
    any_start = False
    for process in seen.processes:
        for start in process.facts("initialized"):
            any_start = True
            late = [one for one in start["imported_before"] if one["kind"] == "contrib"]
            missed = [one["name"] for one in late if one["state"] != "disabled"]
            if missed:
                advice = "call otelagent.init() before these imports, or start the application by otelagent-run"
                names = ", ".join(missed)
                detail = (
                    f"imported before the agent started: {names} (contrib); what was taken from there may be untraced"
                )
                yield Finding("warn", detail, advice, process.title)
        for again in process.facts("init_again"):
            where = again["where"]
            detail = f"otelagent.init() at {where} changes nothing: the agent ran already"
            yield Finding("pass", detail, about=process.title)
    if any_start:
        yield Finding("pass", "otelagent's own instrumentations don't depend on the order of imports")


def _instrumented(seen: Observation) -> Iterator[Finding]:
    told: dict[tuple[str, str], str] = {}
    sources: dict[str, str] = {}
    applied: set[str] = set()
    for process in seen.agents:
        fact = process.last("status")
        sources = sources or process.sources
        imported = set(fact["imported"])
        states = process.status["instrumentations"]
        applied |= {one["name"] for one in states if one["state"] == "applied"}
        for one in states:
            if one["name"] in imported and one["state"] not in ("applied", "absent"):
                told[one["name"], one["kind"]] = f"{one['state']}\0{one['reason']}"
        for module in set(fact["modules"]) & set(PACKAGES) - set(fact["covered"]):
            told[module, "missing"] = "missing\0"
    for (name, kind), text in sorted(told.items()):
        state, _, reason = text.partition("\0")
        if name in applied and kind != "missing":
            continue
        yield _not_instrumented(name, state, reason, sources)
    if applied:
        yield Finding("pass", f"instrumented: {', '.join(sorted(applied))}")
    elif seen.agents and not told:
        advice = "make spans yourself: otelagent.span, @otelagent.instrument"
        yield Finding("warn", "no library that can be instrumented was imported", advice)


def _not_instrumented(name: str, state: str, reason: str, sources: Mapping[str, str]) -> Finding:
    if state == "missing":
        return Finding("warn", f"{name} is imported and nothing instruments it", f"pip install {PACKAGES[name]}")
    if state == "waiting":
        return Finding("skip", f"{name} is imported and not set up, which is when it is instrumented")
    if state == "disabled":
        _, by_setting, setting = reason.partition("by the setting ")
        if not by_setting:
            return Finding("skip", f"{name} is imported and not instrumented: {reason}")
        advice = f"change {setting_text(sources, setting)} to trace {name}"
        return Finding("warn", f"{name} is imported and switched off {reason}", advice)
    if state == "unsupported":
        return Finding("fail", f"{name} is not instrumented: {reason}", "install a version that is supported")
    silenced = setting_text(sources, "disabled_instrumentations", name)
    return Finding("fail", f"{name} is {state}: {reason}", f"see the log; {silenced} silences it")


def _provider(seen: Observation) -> Iterator[Finding]:
    for process in seen.processes:
        if not process.status.get("engine"):  # of which another check tells
            continue
        others = [one for one in process.facts("provider") if not one["by_agent"]]
        for one in others:
            where = f"{one['type']} is set at {one['where']}"
            if one["taken"]:
                advice = "leave out the application's own TracerProvider: the agent sets one, with all settings"
                detail = f"{where}, before the agent: its sampler, resource and limits apply"
            else:
                advice = "take that line out: OpenTelemetry keeps the first one, and what is added to this is lost"
                detail = f"{where}, and not used: there is one already"
            yield Finding("warn", detail, advice, process.title)
        if process.last("initialized") and not others:
            yield Finding("pass", "the agent's is the only one", about=process.title)


def _workers(seen: Observation) -> Iterator[Finding]:
    words = [os.path.basename(word) for word in seen.command]
    uwsgi = any(word in ("uwsgi", "pyuwsgi") for word in words)
    if uwsgi and not any("threads" in word for word in words):
        advice = "add --enable-threads: without it telemetry is sent only while requests are handled"
        yield Finding("warn", "uWSGI runs without --enable-threads", advice)
    for process in seen.agents:
        for key, books in process.status["ledger"].items():
            if count := books["rejected"].get("grpc_after_fork"):
                protocol = setting_text(process.sources, "protocol", "http/protobuf")
                advice = f"set {protocol}: gRPC doesn't survive a fork of the process that uses it"
                detail = f"{count_text(count, 'item')} of {key} refused after a fork inside gRPC"
                yield Finding("fail", detail, advice, process.title)
    forked = sum(bool(process.last("started").get("forked")) for process in seen.agents)
    if len(seen.processes) > 1:
        detail = f"{len(seen.processes)} Python processes, {forked} of them forked; each has an agent of its own"
        if "--reload" in words or "--debug" in words:
            detail += "; one of them only watches files"
        without = [process for process in seen.processes if process not in seen.agents]
        if without:
            detail = f"{len(seen.processes)} Python processes, {len(without)} without an agent"
            yield Finding("warn", detail, "see why where the agent starts")
        else:
            yield Finding("pass", detail)
    elif seen.agents and not uwsgi:
        yield Finding("pass", "one Python process")


def _servers(seen: Observation) -> set[str]:
    """The servers that are instrumented."""
    return {
        one["name"]
        for process in seen.agents
        for one in process.status["instrumentations"]
        if one["state"] == "applied" and one["name"] in _SERVERS
    }


def _traffic(seen: Observation) -> Iterator[Finding]:
    servers = _servers(seen)
    if not servers:
        return
    requests = sum(process.total("server") for process in seen.agents)
    if requests:
        has = "has" if requests == 1 else "have"
        yield Finding("pass", f"{count_text(requests, 'request')} {has} reached the server")
    else:
        advice = "send one while it runs; look at the port, the host (0.0.0.0 in a container) and excluded_urls"
        if seen.code and not seen.stopped:
            advice = _AFTER_ITS_END
        yield Finding("warn", f"no request has reached the server ({', '.join(sorted(servers))})", advice)


def _parent(seen: Observation) -> Iterator[Finding]:
    left_out = sum(process.total("unsampled_parent") for process in seen.agents)
    started = sum(process.total("started") for process in seen.agents)
    sampled = sum(process.total("sampled") for process in seen.agents)
    if left_out:
        were = "was" if left_out == 1 else "were"
        detail = (
            f"{left_out:,} of {count_text(started, 'span')} {were} left out: the caller's traceparent isn't sampled"
        )
        here = setting_text(seen.agents[0].sources, "sampler", "always_on")
        advice = f"raise the caller's sampler (a gateway, a mesh, a load test), or set {here}"
        yield Finding("fail" if not sampled else "warn", detail, advice)
    elif sampled:
        yield Finding("pass", "no caller has a traceparent that isn't sampled")


def _spans(seen: Observation) -> Iterator[Finding]:
    if not seen.agents:
        return
    started = sum(process.total("started") for process in seen.agents)
    sampled = sum(process.total("sampled") for process in seen.agents)
    if not started:
        yield Finding("warn", "no span was started", _advice_on_no_span(seen))
    elif not sampled:
        sources = seen.agents[0].sources
        advice = f"set {setting_text(sources, 'sampler', 'parentbased_always_on')}"
        if sources.get("sampler_arg", "default") != "default":
            advice = f"raise {setting_text(sources, 'sampler_arg')}, to 1 for all traces"
        if title := seen.failed.get("sampler"):
            advice = f"see what fails: {title}"
        if sum(process.total("unsampled_parent") for process in seen.agents):
            advice = "see what fails: Callers sample"
        yield Finding("fail", f"none of {count_text(started, 'span')} was sampled", advice)
    else:
        were = "was" if sampled == 1 else "were"
        yield Finding("pass", f"{sampled:,} of {count_text(started, 'span')} {were} sampled")


def _advice_on_no_span(seen: Observation) -> str:
    if seen.code and not seen.stopped:
        return _AFTER_ITS_END
    if servers := _servers(seen):
        return f"send a request while it runs: spans of {', '.join(sorted(servers))} come of requests"
    applied = {
        one["name"]
        for process in seen.agents
        for one in process.status["instrumentations"]
        if one["state"] == "applied" and one["name"] not in _WITHOUT_SPANS
    }
    used = f"use what is instrumented while it runs ({', '.join(sorted(applied))}), or " if applied else ""
    return f"{used}make spans yourself: otelagent.span, @otelagent.instrument"


def ledger(seen: Observation) -> list[dict[str, Any]]:
    """What became of the items of each scope, over all processes: the columns, and those of each destination."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for process in seen.processes:
        for row in process.rows:
            one = found.setdefault(
                (row.signal, row.scope),
                {"signal": row.signal, "scope": row.scope, **dict.fromkeys(COLUMNS[:5], 0), "destinations": {}},
            )
            if not row.destination:
                for name in COLUMNS[:5]:
                    one[name] += row.counts[name]
                continue
            place = one["destinations"].setdefault(row.destination, dict.fromkeys(COLUMNS[5:], 0))
            for name in COLUMNS[5:]:
                place[name] += row.counts[name]
    return [found[key] for key in sorted(found)]


CHECKS = (
    Check(
        "command",
        "The command runs",
        "command",
        "`python -I`, `-E`, `-S`; `opentelemetry-instrument`; its exit code; whether it had to be killed",
        "leave out the flag, or the other launcher",
        _command,
    ),
    Check(
        "started",
        "The agent starts in each process",
        "command",
        "every Python process of the command: whether the agent runs there, and why not",
        "install otelagent where it is missing; call `otelagent.init()`",
        _started,
    ),
    Check(
        "imports",
        "The agent comes before imports",
        "command",
        "libraries of contrib instrumentations that were imported before the agent started",
        "`otelagent-run`, or `init()` first",
        _imports,
    ),
    Check(
        "instrumented",
        "Imported libraries are instrumented",
        "command",
        "libraries that are imported and not instrumented: disabled, unsupported version, contrib missing",
        "the setting, the version or the package that is named",
        _instrumented,
    ),
    Check(
        "provider",
        "There is one TracerProvider",
        "command",
        "`set_tracer_provider` called by the application, before the agent or after it",
        "leave it to the agent",
        _provider,
    ),
    Check(
        "workers",
        "Workers can send",
        "command",
        "reloaders, forked workers, uWSGI without threads, gRPC after a fork",
        "`--enable-threads`; `protocol=http/protobuf`",
        _workers,
    ),
    Check(
        "traffic",
        "Requests reach the server",
        "command",
        "whether a server that is instrumented got any request",
        "send one; look at port and host",
        _traffic,
    ),
    Check(
        "spans",
        "Spans are started and sampled",
        "command",
        "how many spans were started, and how many of them sampled",
        "the sampler; what is instrumented",
        _spans,
    ),
    Check(
        "parent",
        "Callers sample",
        "command",
        "spans left out because the inbound `traceparent` isn't sampled",
        "the caller's sampler, or `sampler=always_on`",
        _parent,
    ),
)
