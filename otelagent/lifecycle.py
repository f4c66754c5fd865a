"""The one agent of this process, and what applications call: `init`, `flush`, `status` and the others that
``import otelagent`` gives them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from otelagent.agent import Agent, idle_status
from otelagent.config import Config, load
from otelagent.config.load import KEYWORD
from otelagent.config.settings import REFUSED_VARIABLE
from otelagent.errors import ConfigError
from otelagent.forks import at_fork
from otelagent.threads import RLock
from otelagent.version import VERSION

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

__all__ = [
    "agent",
    "flush",
    "get_tracer",
    "init",
    "pause",
    "resume",
    "shutdown",
    "startup_line",
    "status",
]

_log = logging.getLogger("otelagent")

_agent: Agent | None = None
_agent_lock = RLock()
_starting = False
# Why the last init() refused its settings.
_refusal: str | None = None


def _renew_lock() -> None:
    # Another thread may have been inside init() when this one forked; nobody would release its lock here.
    global _agent_lock, _starting
    _agent_lock = RLock()
    _starting = False


at_fork(in_child=_renew_lock)


def init(**settings: Any) -> None:
    """Start the agent in this process: spans of the application and its libraries are exported from now on.

    Call it once, as early as is convenient; before or after the application's imports makes no difference. A second
    call changes nothing (settings that differ are named in a warning), so a library may call it too, and so may an
    application that is started under ``otelagent-run``.

    :param settings: any of the settings (see the README's table) by its name. They win over ``OTELAGENT_*``, which win
        over ``OTEL_*``.
    :raises ConfigError: a setting is unknown or its value is wrong; under ``otelagent-run``, which has told of a wrong
        variable and gone on, for keywords alone. Nothing else is raised: whatever goes wrong with telemetry is logged
        by the logger ``otelagent`` and seen in `status()`.
    """
    global _agent, _starting
    try:
        config = load(settings, os.environ)
    except ConfigError as error:
        _without(error)
        if _is_news(error):
            raise
        return
    with _agent_lock:
        if _starting:
            return  # An extension that is loaded for the start has imported the application, which calls this.
        if _agent is not None:
            _warn_of_difference(_agent, config, settings)
            return
        _starting = True
        try:
            agent = _started(config)
        finally:
            _starting = False
        if agent is None:
            return
        _agent = agent
    if agent.state == "RUNNING" and not config.quiet and _log.hasHandlers():
        _log.info("%s", startup_line())


def _started(config: Config) -> Agent | None:
    """A new agent; None where its configuration can't be had and whoever calls has been told.

    :raises ConfigError: the same, and it is news.
    """
    logging.getLogger("otelagent").setLevel(config.log_level.upper())
    for warning in config.warnings:
        _log.warning("otelagent: %s", warning)
    agent = Agent(config)
    try:
        if config.enabled:
            agent.start()
        else:
            agent.stay_off()
    except ConfigError as error:
        agent.give_up(error)
        _without(error)
        if _is_news(error):
            raise
        return None
    except Exception as error:
        agent.give_up(error)
        _log.error("otelagent could not start, the application runs untraced", exc_info=error)
    return agent


def _without(error: ConfigError) -> None:
    """Keep what applications rely on although the agent doesn't start: the provider, log formats with its fields."""
    global _refusal
    if _agent is not None or _refusal is not None:
        return
    _refusal = str(error)
    try:
        from otelagent.patching.catalogue import Catalogue
        from otelagent.record.idle_provider import stand_in

        Catalogue(VERSION).start(lasting_only=True)
        stand_in()
    except Exception:
        _log.debug("what stands in for the agent could not be provided", exc_info=True)


def _is_news(error: ConfigError) -> bool:
    """Whether the user has still to be told of a wrong setting. The launcher has told what is wrong with the
    environment, and decided that the application runs all the same; a keyword it can't have seen."""
    if error.source == KEYWORD or REFUSED_VARIABLE not in os.environ:
        return True
    _log.warning("otelagent stays off: %s", error)
    return False


def _warn_of_difference(agent: Agent, config: Config, settings: Mapping[str, Any]) -> None:
    if agent.state == "STOPPED":
        _log.warning("otelagent was stopped in this process and does not start again")
        return
    before = {name: value for name, value, _ in agent.config.describe()}
    ignored = [name for name, value, _ in config.describe() if name in settings and before[name] != value]
    if ignored:
        _log.warning(
            "otelagent %s; these settings of a second init() change nothing: %s",
            f"is {agent.reason}" if agent.state == "DISABLED" else "runs already",
            ", ".join(sorted(ignored)),
        )


def shutdown(timeout_s: float | None = None) -> bool:
    """Deliver what is recorded, undo every instrumentation and stop; the agent doesn't start again in this process.

    In a test run, where one process starts and ends the application many times, it delivers and goes on.

    :param timeout_s: the most it may take, in seconds; the setting `exit_timeout_ms` by default.
    :returns: whether everything that had ended was delivered.
    """
    agent = _agent
    if agent is None:
        return True
    stop = agent.flush if agent.config.test_run else agent.shutdown
    return stop(agent.config.exit_timeout_ms / 1000 if timeout_s is None else timeout_s)


def flush(timeout_s: float | None = None) -> bool:
    """Deliver every span that ended, and every log record that was emitted, before the call.

    :param timeout_s: the most it may take, in seconds; the setting `batch_export_timeout_ms` by default.
    :returns: ``True`` only if all of them were delivered: none is still queued, and none was dropped or rejected
        since the flush before this one.
    """
    agent = _agent
    if agent is None:
        return True
    return agent.flush(agent.config.batch.export_timeout_ms / 1000 if timeout_s is None else timeout_s)


def pause() -> None:
    """Stop recording: instrumentations pass context on and do nothing else. What is recorded is still delivered."""
    if _agent is not None:
        _agent.pause()


def resume() -> None:
    """Record again after `pause`."""
    if _agent is not None:
        _agent.resume()


def status() -> dict[str, Any]:
    """What the agent is doing, as plain JSON values.

    Keys, the same in every state: ``version``, ``state`` (``INIT``, ``RUNNING``, ``PAUSED``, ``STOPPED``; ``DISABLED``
    where it is switched off), ``reason``, ``pid``, ``service``, ``engine`` (``None`` where nothing is recorded),
    ``destinations``, ``delivery`` (the circuit breaker, the spool and ``last_error``, the last try that failed:
    ``reason``, ``message``, ``when``; it stays when all is well again) and ``ledger`` (ended, adopted, sampled_out,
    filtered, delivered, rejected and dropped by reason, spooled, queued, balanced), each by signal (``traces``), or by
    signal and name for a destination beside the main one (``traces:<name>``), ``untaken`` (by signal the items that no
    destination's routes took, which each ledger has among its ``filtered``), ``instrumentations`` (each with state and
    reason), ``settings`` (each with value and source), ``handles_sigterm`` (whether the agent delivers on SIGTERM
    itself, see `otelagent.process`),
    ``warnings``. Secrets are masked.
    """
    agent = _agent
    if agent is None:
        refused = os.environ.get(REFUSED_VARIABLE)
        reason = _refusal or refused or "init() has not been called"
        return idle_status("DISABLED" if refused else "INIT", reason)
    return agent.status()


def agent() -> Agent | None:
    """The agent of this process, for what is built upon it; None before `init`."""
    return _agent


def get_tracer(name: str = "otelagent", version: str | None = None) -> Tracer:
    """A tracer of the OpenTelemetry API.

    :param name: the instrumentation scope: your module's or library's name.
    :param version: its version.
    """
    from opentelemetry import trace

    return trace.get_tracer(name, version)


def startup_line() -> str:
    """One line for a person: where spans go, what is instrumented; empty if nobody wants it (the setting `quiet`)."""
    agent = _agent
    if agent is not None and agent.config.quiet:
        return ""
    if agent is None or agent.state != "RUNNING" or agent.engine is None or agent.catalogue is None:
        return f"otelagent {VERSION}: {agent.reason if agent is not None and agent.reason else 'not running'}"
    where, *others = (_places(path.describe()) for path in agent.paths)
    available = agent.catalogue.available()
    own = [state.name for state in available if state.kind == "own"]
    contrib = [state.name for state in available if state.kind == "contrib"]
    engine = agent.engine.name
    if agent.config.engine == "auto" and engine != "native":
        engine += f": {agent.engine.reason}"
    line = f'otelagent {VERSION}: service "{agent.service}" → {where} (engine {engine})'
    line += "".join(f"; log records → {other}" for other in others)
    line += f"; instruments {', '.join(own) or 'nothing'}"
    return line + (f"; by contrib: {', '.join(contrib)}" if contrib else "")


def _places(described: Mapping[str, str]) -> str:
    """Where a signal goes, the main destination first and without its name."""
    main, *others = described.items()
    return ", ".join((main[1], *(f"{key.partition(':')[2]} → {where}" for key, where in others)))
