"""The agent: the parts of one process's telemetry, wired together. It composes configuration, recording, delivery and
instrumentations, and lives as INIT → RUNNING ⇄ PAUSED → STOPPED, or as DISABLED where it is switched off.

Nothing here raises into the application for a telemetry reason; a wrong setting is the one thing that does
(`ConfigError`).
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from otelagent import forks
from otelagent.environment import hidden
from otelagent.threads import RLock
from otelagent.version import VERSION

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

    from otelagent.config import Config
    from otelagent.delivery import Destination
    from otelagent.patching.catalogue import Catalogue
    from otelagent.patching.switch import Switch
    from otelagent.process import ProcessWatch
    from otelagent.record import Engine
    from otelagent.record.open_spans import OpenSpans
    from otelagent.running_spans import RunningSpans
    from otelagent.signal_path import SignalPath

__all__ = ["Agent", "idle_status"]

_Provider = TypeVar("_Provider")
Lifecycle = Literal["INIT", "RUNNING", "PAUSED", "STOPPED", "DISABLED"]

_log = logging.getLogger("otelagent")


class Agent:
    """The parts of one process's agent, wired together.

    :param config: the resolved settings.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.state: Lifecycle = "INIT"
        self.reason = ""
        # The traces' first.
        self.paths: list[SignalPath] = []
        self.engine: Engine | None = None
        self.catalogue: Catalogue | None = None
        self._lock = RLock()
        self.watch: ProcessWatch | None = None
        self.warnings = list(config.warnings)
        self._foreign_resource: Any = None
        self._running_spans: RunningSpans | None = None
        self._delivered_all = True
        self._closed = False

    @property
    def service(self) -> str:
        """`service.name` as it is exported: the setting's, or what the program is called."""
        return str(self._resource().get("service.name", self.config.service.name))

    def _resource(self) -> Mapping[str, object]:
        """What spans are exported with."""
        if self._foreign_resource is not None:
            attributes: Mapping[str, object] = self._foreign_resource.attributes
            return attributes
        return self.engine.resource if self.engine is not None else {}

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
        from otelagent.process import watch_process
        from otelagent.record import open_engine
        from otelagent.self_metrics import offer_self_metrics
        from otelagent.signal_path import SignalPath
        from otelagent.standard_streams import keep_closed

        keep_closed()
        config = self.config
        traces = SignalPath(config, "traces", self._resource)
        self.paths.append(traces)
        open_spans = self._watch_open_spans() if config.traces.running_spans else None
        self.engine = open_engine(
            config, traces.ledger, traces.deliver, flush_delivery=traces.flush_delivery, open_spans=open_spans
        )
        traces.recording = self.engine
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
        self._install(self._lasting(self.engine.provider))
        if config.logs.exporter != "none":
            self.record_logs()
        elif config.test_run:
            _switch().log_level = sys.maxsize  # None is recorded until a test asks for them.
        _switch().excluded = _excluder(config.instrumentation.excluded_urls)
        self.state = "RUNNING"
        _switch().recording = True
        self.catalogue.start()
        for path in self.paths:
            path.start_delivery()
        offer_self_metrics(config, self.paths)

    def _watch_open_spans(self) -> OpenSpans | None:
        from otelagent.record.open_spans import OpenSpans
        from otelagent.running_spans import RunningSpans, viewer_endpoints

        endpoints = viewer_endpoints(self.config)
        if not endpoints:
            return None
        open_spans = OpenSpans()
        self._running_spans = RunningSpans(open_spans, endpoints)
        return open_spans

    def stay_off(self) -> None:
        """INIT → DISABLED: do without everything but what applications rely on where the agent is switched off."""
        self.state = "DISABLED"
        self.reason = f"switched off by {self.config.sources['enabled']}"
        self.set_propagators()
        self.catalogue = self._open_catalogue()
        self.catalogue.start(lasting_only=True)
        _stand_in()

    def give_up(self, error: Exception) -> None:
        """Take back what a start that failed has done."""
        self.reason = f"could not start: {type(error).__name__}: {error}"
        self.state = "STOPPED"
        _switch().recording = False
        _switch().log_level = None
        now_s = time.monotonic()
        parts = (self.catalogue, self.watch, self._running_spans)
        stops: list[Callable[[], object]] = [part.stop for part in parts if part is not None]
        stops += [partial(path.stop_recording, now_s) for path in self.paths]
        stops += [partial(destination.shutdown, now_s) for destination in self._destinations()]
        stops.append(_stand_in)
        for stop in stops:
            try:
                stop()
            except Exception:
                _log.debug("%r could not be closed", stop, exc_info=True)
        self._closed = True

    def _open_catalogue(self) -> Catalogue:
        from otelagent.patching.catalogue import Catalogue

        settings = self.config.instrumentation
        catalogue = Catalogue(
            VERSION, settings.disabled, contrib=settings.contrib, prefer_contrib=settings.prefer_contrib
        )
        for setting, name, nearest in catalogue.unknown:
            hint = f"; did you mean {nearest!r}?" if nearest else ""
            source = self.config.sources[setting]
            self.warn(f"{setting} (from {source}): there is no instrumentation {name!r}{hint}")
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

    def _lasting(self, provider: _Provider) -> _Provider:
        """In a test run, what the application calls at each of its ends is not the end of this provider."""
        if self.config.test_run:
            vars(provider)["shutdown"] = provider.force_flush  # type: ignore[attr-defined]
        return provider

    def record_logs(self) -> SignalPath | None:
        """Begin to record log records, also where they go nowhere.

        :returns: their path, the same if there is one; None where the application's own LoggerProvider has them.
        """
        if (path := next((path for path in self.paths if path.signal == "logs"), None)) is not None:
            return path
        from opentelemetry import _logs
        from opentelemetry._logs._internal import ProxyLoggerProvider

        from otelagent.record import open_logs
        from otelagent.signal_path import SignalPath

        engine = self.engine
        assert engine is not None
        with hidden("OTEL_PYTHON_LOGGER_PROVIDER"):  # the API would load what it names, or raise
            current = _logs.get_logger_provider()
        if not isinstance(current, ProxyLoggerProvider):
            # OpenTelemetry allows one for the life of a process.
            owner = type(current).__module__
            self.warn(f"a LoggerProvider of {owner} is set already; log records are its to export")
            return None
        path = SignalPath(self.config, "logs", lambda: engine.resource)
        logs = open_logs(self.config, engine, path.ledger, path.deliver, flush_delivery=path.flush_delivery)
        path.recording = logs
        self.paths.append(path)
        _logs.set_logger_provider(self._lasting(logs.provider))
        _switch().log_level = getattr(logging, self.config.logs.level.upper())
        return path

    def pause(self) -> None:
        """RUNNING → PAUSED: context is still passed on, nothing is recorded, what was recorded is still delivered."""
        with self._lock:
            if self.state == "RUNNING" and self.engine is not None:
                self.state = "PAUSED"
                for path in self.paths:
                    if path.recording is not None:
                        path.recording.pause()
                _switch().recording = False

    def resume(self) -> None:
        """PAUSED → RUNNING."""
        with self._lock:
            if self.state == "PAUSED" and self.engine is not None:
                self.state = "RUNNING"
                for path in self.paths:
                    if path.recording is not None:
                        path.recording.resume()
                _switch().recording = True

    def flush(self, timeout_s: float) -> bool:
        """See `otelagent.flush`."""
        if not self.paths:
            return True
        from otelagent.delivery import flush_all

        deadline_s = time.monotonic() + timeout_s
        told = [path.begin_flush() for path in self.paths]
        # First everything that is recorded, so that all destinations send at the same time.
        done = [path.recording is None or path.recording.flush(deadline_s) for path in self.paths]
        done.append(flush_all(self._destinations(), deadline_s))
        done += [path.end_flush(one) for path, one in zip(self.paths, told, strict=True)]
        return all(done)

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
            _switch().log_level = None
        if self._running_spans is not None:
            self._running_spans.stop()
        from otelagent.delivery import shutdown_all

        deadline_s = time.monotonic() + timeout_s
        told = [path.begin_flush() for path in self.paths]
        # Ctrl-C may interrupt any of these; a second call then goes on where the first one was.
        done = [path.stop_recording(deadline_s) for path in self.paths]
        done.append(shutdown_all(self._destinations(), deadline_s))
        done += [path.end_flush(one) for path, one in zip(self.paths, told, strict=True)]
        self._delivered_all = all(done)
        self._closed = True
        return self._delivered_all

    def _destinations(self) -> list[Destination]:
        return [destination for path in self.paths for destination in path.destinations.values()]

    def after_fork_in_child(self) -> None:
        """Start over in a fork child: nothing of the parent's is sent twice, and the child has its own identity."""
        self._lock = RLock()
        if self._running_spans is not None:
            self._running_spans.after_fork_in_child()
        for path in self.paths:
            path.after_fork_in_child(inherit=forks.inherits())

    def status(self) -> dict[str, Any]:
        """See `otelagent.status`."""
        books = {
            "destinations": {key: where for path in self.paths for key, where in path.describe().items()},
            "delivery": {key: state for path in self.paths for key, state in path.status().items()},
            "ledger": {key: ledger.snapshot().to_dict() for path in self.paths for key, ledger in path.ledgers.items()},
            "untaken": {path.signal: path.untaken for path in self.paths},
        }
        return {
            "version": VERSION,
            "state": self.state,
            "reason": self.reason,
            "pid": os.getpid(),
            "service": self.service,
            "engine": {"name": self.engine.name, "reason": self.engine.reason} if self.engine is not None else None,
            **(books if self.paths else _no_books(self.reason)),
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


def idle_status(state: Lifecycle, reason: str) -> dict[str, Any]:
    """What `otelagent.status` says where there is no agent: all its keys."""
    from otelagent.record.resource import UNKNOWN_SERVICE

    return {
        "version": VERSION,
        "state": state,
        "reason": reason,
        "pid": os.getpid(),
        "service": UNKNOWN_SERVICE,
        "engine": None,
        **_no_books(reason),
        "instrumentations": [],
        "settings": [],
        "handles_sigterm": False,
        "warnings": [],
    }


def _no_books(reason: str) -> dict[str, Any]:
    """The books of an agent that records nothing: without an entry."""
    from otelagent.delivery import Ledger

    return {
        "destinations": {"traces": f"nowhere, {reason}"},
        "delivery": {"traces": None},
        "ledger": {"traces": Ledger("traces").snapshot().to_dict()},
        "untaken": {"traces": 0},
    }


def _switch() -> Switch:
    # Loads what instrumentations stand on, OpenTelemetry's API among it, which a program that is only told of a wrong
    # setting needn't wait for.
    from otelagent.patching.switch import SWITCH

    return SWITCH


def _stand_in() -> None:
    from otelagent.record.idle_provider import stand_in

    stand_in()


def _excluder(patterns: tuple[str, ...]) -> Callable[[str], bool] | None:
    if not patterns:
        return None
    import re

    # One by one: patterns may have flags and groups of their own, which don't survive being joined.
    searches = [re.compile(pattern).search for pattern in patterns]
    return lambda text: any(search(text) for search in searches)
