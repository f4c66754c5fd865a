"""The agent: one per process. It composes configuration, recording, delivery and instrumentations, and lives as
INIT → RUNNING ⇄ PAUSED → STOPPED.

Nothing here raises into the application for a telemetry reason; a wrong setting is the one thing that does
(`ConfigError`).
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from otelagent.config import Config, load
from otelagent.environment import hidden
from otelagent.errors import ConfigError
from otelagent.loss import LossReport
from otelagent.version import VERSION

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer, TracerProvider

    from otelagent.delivery import Destination, Ledger
    from otelagent.patching.catalogue import Catalogue
    from otelagent.patching.switch import Switch
    from otelagent.process import ProcessWatch
    from otelagent.record import Engine

__all__ = [
    "Agent",
    "flush",
    "get_tracer",
    "init",
    "pause",
    "resume",
    "shutdown",
    "startup_line",
    "status",
]

Lifecycle = Literal["INIT", "RUNNING", "PAUSED", "STOPPED"]

_log = logging.getLogger("otelagent")


class Agent:
    """The parts of one process's agent, wired together.

    :param config: the resolved settings.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.state: Lifecycle = "INIT"
        self.reason = ""
        self.ledger: Ledger | None = None
        self.destination: Destination | None = None
        self.engine: Engine | None = None
        self.catalogue: Catalogue | None = None
        self._lock = threading.RLock()
        self.watch: ProcessWatch | None = None
        self.warnings = list(config.warnings)
        self._foreign_resource: Any = None
        self._losses = LossReport(lambda: self.ledger.lost if self.ledger is not None else 0)
        self._delivered_all = True
        self._closed = False

    @property
    def service(self) -> str:
        """`service.name` as it is exported: the setting's, or what the program is called."""
        resource = self.engine.resource if self.engine is not None else {}
        if self._foreign_resource is not None:
            resource = self._foreign_resource.attributes
        return str(resource.get("service.name", self.config.service.name))

    def set_propagators(self) -> None:
        """Set the API's global propagator; also where the agent is switched off (specification, OTEL_SDK_DISABLED).

        :raises ConfigError: a propagator is unknown or can't be built.
        """
        from otelagent.patching.operation import propagate
        from otelagent.record import build_propagator, headers

        names, source = self.config.propagators, str(self.config.sources["propagators"])
        codec = headers if self.engine is None else self.engine.codec
        propagate.set_global_textmap(build_propagator(names, source, codec))

    def start(self) -> None:
        """INIT → RUNNING. Whatever can fail comes before anything is global.

        :raises ConfigError: a setting that only shows to be wrong when its part is built.
        """
        from otelagent.delivery import Ledger, open_delivery
        from otelagent.process import watch_process
        from otelagent.record import open_engine

        config = self.config
        self.ledger = Ledger("traces")
        if config.traces.exporter != "none":
            self.destination = open_delivery(config, {"traces": self.ledger})
        self.engine = open_engine(config, self.ledger, self._deliver, flush_delivery=self._flush_delivery)
        self.catalogue = self._open_catalogue()
        self.set_propagators()
        exit_timeout_s = config.exit_timeout_ms / 1000
        self.watch = watch_process(
            self.after_fork_in_child,
            self._exit,
            exit_timeout_s=exit_timeout_s,
            on_survived=lambda: self.flush(exit_timeout_s),
        )
        if not self.watch.handles_sigterm and threading.current_thread() is not threading.main_thread():
            self.warn("init() ran outside of the main thread, so that SIGTERM ends the process without a last delivery")
        self._install(self.engine.provider)
        _switch().excluded = _excluder(config.instrumentation.excluded_urls)
        self.state = "RUNNING"
        _switch().recording = True
        self.catalogue.start()

    def stay_off(self) -> None:
        """Do without everything but what applications rely on where the agent is switched off."""
        self.reason = f"switched off by {self.config.sources['enabled']}"
        self.set_propagators()
        self.catalogue = self._open_catalogue()
        self.catalogue.start(lasting_only=True)

    def give_up(self, error: Exception) -> None:
        """Take back what a start that failed has done."""
        self.reason = f"could not start: {type(error).__name__}: {error}"
        self.state = "STOPPED"
        _switch().recording = False
        for part in (self.catalogue, self.engine, self.destination, self.watch):
            try:
                if part is self.engine or part is self.destination:
                    part.shutdown(time.monotonic())  # type: ignore[union-attr]
                elif part is not None:
                    part.stop()  # type: ignore[union-attr]
            except Exception:
                _log.debug("%r could not be closed", part, exc_info=True)
        self._closed = True

    def _open_catalogue(self) -> Catalogue:
        from otelagent.patching.catalogue import Catalogue

        settings = self.config.instrumentation
        catalogue = Catalogue(
            VERSION, settings.disabled, contrib=settings.contrib, prefer_contrib=settings.prefer_contrib
        )
        for name, nearest in catalogue.unknown.items():
            hint = f"; did you mean {nearest!r}?" if nearest else ""
            self.warn(f"disabled_instrumentations or prefer_contrib: there is no instrumentation {name!r}{hint}")
        return catalogue

    def warn(self, message: str) -> None:
        """Tell something that is not as the user may think, in the log and in `status()`."""
        self.warnings.append(message)
        _log.warning("otelagent: %s", message)

    def _install(self, provider: TracerProvider) -> None:
        from opentelemetry import trace

        sampler = self.config.traces.sampler
        _switch().follows_parent = sampler.startswith("parentbased_") or sampler == "always_off"
        with hidden("OTEL_PYTHON_TRACER_PROVIDER"):  # the API would load what it names, or raise
            current = trace.get_tracer_provider()
        if isinstance(current, trace.ProxyTracerProvider):
            trace.set_tracer_provider(provider)
            return
        # OpenTelemetry allows one provider for the life of a process. An SDK provider that the application has set can
        # still hand its spans to us, with its own sampler and resource.
        assert self.engine is not None
        _switch().follows_parent = False
        add = getattr(current, "add_span_processor", None)
        if add is None:
            owner = type(current).__module__
            self.warn(f"a TracerProvider of {owner} is set already; its spans are not ours to export")
            return
        add(self.engine.span_processor)
        self._foreign_resource = getattr(current, "resource", None)
        self.warn(
            "the application set a TracerProvider first: its sampler, resource and limits apply, spans that it leaves"
            " out are not counted, and pause() stops instrumentations only"
        )

    # record hands bytes over here, and delivery takes them: neither knows the other.
    def _deliver(self, signal: str, body: bytes, items: int) -> None:
        from otelagent.delivery import Payload

        if self.destination is not None:
            self.destination.submit(Payload(signal, body, items))
        elif self.ledger is not None:
            self.ledger.dropped(items, "exporter_none")

    def _flush_delivery(self, deadline_s: float) -> bool:
        return self.destination is None or self.destination.flush(deadline_s)

    def pause(self) -> None:
        """RUNNING → PAUSED: context is still passed on, nothing is recorded, what was recorded is still delivered."""
        with self._lock:
            if self.state == "RUNNING" and self.engine is not None:
                self.state = "PAUSED"
                self.engine.pause()
                _switch().recording = False

    def resume(self) -> None:
        """PAUSED → RUNNING."""
        with self._lock:
            if self.state == "PAUSED" and self.engine is not None:
                self.state = "RUNNING"
                self.engine.resume()
                _switch().recording = True

    def flush(self, timeout_s: float) -> bool:
        """See `otelagent.flush`."""
        if self.engine is None or self.ledger is None:
            return True
        deadline_s = time.monotonic() + timeout_s
        told = self._losses.begin()
        handed_on = self.engine.flush(deadline_s)
        arrived = self._flush_delivery(deadline_s)
        return self._losses.end(told) and handed_on and arrived

    def shutdown(self, timeout_s: float) -> bool:
        """→ STOPPED: flushes, undoes the instrumentations, closes every part. See `otelagent.shutdown`."""
        if self.catalogue is not None and self.state != "STOPPED":
            self.catalogue.stop()
        if self.watch is not None:
            self.watch.stop()
        return self._close(timeout_s)

    def _exit(self) -> None:
        # The interpreter is on its way out: instrumentations stay, there is nothing left for which to undo them.
        self._close(self.config.exit_timeout_ms / 1000)

    def _close(self, timeout_s: float) -> bool:
        if self.engine is None or self._closed:
            return self._delivered_all
        with self._lock:
            self.state = "STOPPED"
            _switch().recording = False
        deadline_s = time.monotonic() + timeout_s
        told = self._losses.begin()
        # Ctrl-C may interrupt any of these; a second call then goes on where the first one was.
        handed_on = self.engine.shutdown(deadline_s)
        handed_on = self.engine.flush(deadline_s) and handed_on
        arrived = self.destination is None or self.destination.shutdown(deadline_s)
        self._delivered_all = self._losses.end(told) and handed_on and arrived
        self._closed = True
        return self._delivered_all

    def after_fork_in_child(self) -> None:
        """Start over in a fork child: nothing of the parent's is sent twice, and the child has its own identity."""
        self._lock = threading.RLock()
        self._losses.after_fork_in_child()
        if self.engine is not None:
            self.engine.after_fork_in_child()
        if self.destination is not None:
            self.destination.after_fork_in_child()
        elif self.ledger is not None:
            self.ledger.after_fork_in_child()

    def status(self) -> dict[str, Any]:
        """See `otelagent.status`."""
        destination = self.destination.describe() if self.destination is not None else "nowhere (exporter none)"
        return {
            "version": VERSION,
            "state": self.state,
            "reason": self.reason,
            "pid": os.getpid(),
            "service": self.service,
            "engine": {"name": self.engine.name, "reason": self.engine.reason} if self.engine is not None else None,
            "destination": destination,
            "ledger": {"traces": self.ledger.snapshot().to_dict()} if self.ledger is not None else {},
            "instrumentations": [
                {"name": state.name, "kind": state.kind, "state": state.state, "reason": state.reason}
                for state in (self.catalogue.states() if self.catalogue is not None else ())
            ],
            "settings": [
                {"name": name, "value": value, "source": source} for name, value, source in self.config.describe()
            ],
            "handles_sigterm": self.watch is not None and self.watch.handles_sigterm,
            "warnings": list(self.warnings),
        }


def _switch() -> Switch:
    # Loads what instrumentations stand on, OpenTelemetry's API among it, which a program that is only told of a wrong
    # setting needn't wait for.
    from otelagent.patching.switch import SWITCH

    return SWITCH


def _excluder(patterns: tuple[str, ...]) -> Callable[[str], bool] | None:
    if not patterns:
        return None
    import re

    # One by one: patterns may have flags and groups of their own, which don't survive being joined.
    searches = [re.compile(pattern).search for pattern in patterns]
    return lambda text: any(search(text) for search in searches)


_agent: Agent | None = None
_agent_lock = threading.Lock()
# Why the last init() refused its settings.
_refusal: str | None = None


def _renew_lock() -> None:
    # Another thread may have been inside init() when this one forked; nobody would release its lock here.
    global _agent_lock
    _agent_lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


def init(**settings: Any) -> None:
    """Start the agent in this process: spans of the application and its libraries are exported from now on.

    Call it once, as early as is convenient; before or after the application's imports makes no difference. A second
    call changes nothing (settings that differ are named in a warning), so a library may call it too, and so may an
    application that is started under ``otelagent-run``.

    :param settings: any of the settings (see the README's table) by its name. They win over ``OTELAGENT_*``, which win
        over ``OTEL_*``.
    :raises ConfigError: a setting is unknown or its value is wrong. Nothing else is raised: whatever goes wrong with
        telemetry is logged by the logger ``otelagent`` and seen in `status()`.
    """
    global _agent
    try:
        config = load(settings, os.environ)
    except ConfigError as error:
        _without(error)
        raise
    with _agent_lock:
        if _agent is not None:
            _warn_of_difference(_agent, config, settings)
            return
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
            raise
        except Exception as error:
            agent.give_up(error)
            _log.error("otelagent could not start, the application runs untraced", exc_info=error)
        _agent = agent
    if agent.state == "RUNNING" and not config.quiet and _log.hasHandlers():
        _log.info("%s", startup_line())


def _without(error: ConfigError) -> None:
    """Keep what applications rely on although the agent doesn't start: log formats that name its fields."""
    global _refusal
    if _agent is not None or _refusal is not None:
        return
    _refusal = str(error)
    try:
        from otelagent.patching.catalogue import Catalogue

        Catalogue(VERSION).start(lasting_only=True)
    except Exception:
        _log.debug("the fields of log records could not be provided", exc_info=True)


def _warn_of_difference(agent: Agent, config: Config, settings: Mapping[str, Any]) -> None:
    if agent.state == "STOPPED":
        _log.warning("otelagent was stopped in this process and does not start again")
        return
    before = {name: value for name, value, _ in agent.config.describe()}
    ignored = [name for name, value, _ in config.describe() if name in settings and before[name] != value]
    if ignored:
        _log.warning(
            "otelagent runs already; these settings of a second init() change nothing: %s", ", ".join(sorted(ignored))
        )


def shutdown(timeout_s: float | None = None) -> bool:
    """Deliver what is recorded, undo every instrumentation and stop; the agent doesn't start again in this process.

    :param timeout_s: the most it may take, in seconds; the setting `exit_timeout_ms` by default.
    :returns: whether everything that had ended was delivered.
    """
    agent = _agent
    if agent is None:
        return True
    return agent.shutdown(agent.config.exit_timeout_ms / 1000 if timeout_s is None else timeout_s)


def flush(timeout_s: float | None = None) -> bool:
    """Deliver every span that ended before the call.

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

    Keys: ``version``, ``state`` (``INIT``, ``RUNNING``, ``PAUSED``, ``STOPPED``), ``reason``, ``pid``, ``service``,
    ``engine``, ``destination``, ``ledger`` (per signal: ended, sampled_out, delivered, rejected and dropped by reason,
    spooled, queued, balanced), ``instrumentations`` (each with state and reason), ``settings`` (each with value and
    source), ``handles_sigterm`` (whether the agent delivers on SIGTERM itself, see `otelagent.process`), ``warnings``.
    Secrets are masked.
    """
    agent = _agent
    if agent is None:
        reason = _refusal or "init() has not been called"
        return {"version": VERSION, "state": "INIT", "reason": reason, "pid": os.getpid()}
    return agent.status()


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
    where = agent.destination.describe() if agent.destination is not None else "nowhere (exporter none)"
    available = agent.catalogue.available()
    own = [state.name for state in available if state.kind == "own"]
    contrib = [state.name for state in available if state.kind == "contrib"]
    line = f'otelagent {VERSION}: service "{agent.service}" → {where} (engine {agent.engine.name})'
    line += f"; instruments {', '.join(own) or 'nothing'}"
    return line + (f"; by contrib: {', '.join(contrib)}" if contrib else "")
