"""Every instrumentation there is for this process, ours and contrib's, and the state each is in."""

from __future__ import annotations

import functools
import importlib
import importlib.machinery
import importlib.util
import logging
import os
import sys
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import TYPE_CHECKING, Any

from otelagent.import_hooks import when_imported
from otelagent.patching.entry_points import Found, find

if TYPE_CHECKING:
    from otelagent.patching.instrumentation import Instrumentation

__all__ = ["Catalogue", "State"]

_log = logging.getLogger("otelagent.instrumentation")

OWN_GROUP = "otelagent_instrumentation"
CONTRIB_GROUP = "opentelemetry_instrumentor"

#: As a name of `disabled`: every instrumentation, as contrib has it.
ALL = "*"

# Distributions whose import name isn't their own with "-" for "_".
_IMPORT_NAMES = {
    "kafka-python": "kafka",
    "kafka-python-ng": "kafka",
    "mysql-connector-python": "mysql.connector",
    "mysqlclient": "MySQLdb",
    "psycopg-binary": "psycopg",
    "psycopg2-binary": "psycopg2",
    "tortoise-orm": "tortoise",
    "grpcio": "grpc",
    "google-cloud-aiplatform": "vertexai",
    "google-genai": "google.genai",
}

# Contrib instrumentors that read the application's configuration must wait until the application has named it: Django's
# would otherwise configure the settings itself, and an application that names them a line later doesn't start. Of each
# the function whose call is waited for, and what is true where the agent has come after it.
_AFTER_CALL = {"django": ("django", "setup", "django.apps:apps.models_ready")}

# What applications rely on while the agent is off: a log format that names our fields fails without them. These stay
# applied when the agent is stopped, and are applied where it is switched off.
_LASTING = frozenset({"logging"})

# They have nothing to do without a MeterProvider, and start threads or observers all the same.
_METRICS_ONLY = frozenset({"system_metrics"})


class State:
    """One instrumentation's state.

    :ivar name: the library's.
    :ivar kind: ``own`` or ``contrib``.
    :ivar state: ``waiting`` for the application to import the library, ``applied``, ``absent``, ``unsupported``,
        ``disabled`` or ``failed``.
    :ivar reason: why, in words; empty where the state says it.
    :ivar source: the entry point that provides it.
    """

    __slots__ = ("active", "kind", "modules", "name", "reason", "source", "state")

    def __init__(self, name: str, kind: str, source: str, state: str = "waiting", reason: str = "") -> None:
        self.name = name
        self.kind = kind
        self.source = source
        self.state = state
        self.reason = reason
        self.modules: tuple[str, ...] = ()
        self.active: Any = None

    def __repr__(self) -> str:
        return f"State({self.name!r}, {self.kind!r}, {self.source!r}, {self.state!r}, {self.reason!r})"


class Catalogue:
    """The instrumentations of one process.

    :param version: otelagent's version, which becomes the version of every scope.
    :param disabled: names that stay off, ours and contrib's alike; ``*`` is all of them.
    :param contrib: load contrib instrumentors for libraries that ours don't cover.
    :param prefer_contrib: names for which an installed contrib instrumentor is used instead of ours.
    :ivar unknown: names given that no instrumentation has: the setting, the name, and the nearest one that there is.
    """

    def __init__(
        self,
        version: str,
        disabled: Iterable[str] = (),
        *,
        contrib: bool = True,
        prefer_contrib: Iterable[str] = (),
    ) -> None:
        self._version = version
        self._states: dict[tuple[str, str], State] = {}
        self._applied: list[State] = []
        self._started = False
        disabled_names = {name.strip().lower() for name in disabled}
        preferred = {name.strip().lower() for name in prefer_contrib}
        entries = list(find((OWN_GROUP, CONTRIB_GROUP)))
        known = {entry.name.lower() for entry in entries}
        self.unknown = [
            (setting, name, _nearest(name, known))
            for setting, names in (("disabled_instrumentations", disabled_names), ("prefer_contrib", preferred))
            for name in sorted(names - known - {ALL})
        ]
        contrib_names = {entry.name for entry in entries if entry.group == CONTRIB_GROUP}
        own_names = {entry.name for entry in entries if entry.group == OWN_GROUP} - (
            preferred & contrib_names if contrib else set()
        )
        for entry in entries:
            kind = "own" if entry.group == OWN_GROUP else "contrib"
            state = State(entry.name, kind, entry.value)
            if ALL in disabled_names or entry.name.lower() in disabled_names:
                state.state, state.reason = "disabled", "by the setting disabled_instrumentations"
            elif kind == "own":
                if entry.name not in own_names:
                    state.state, state.reason = "disabled", "by the setting prefer_contrib"
                state.modules = (entry.name,)
            elif not contrib:
                state.state, state.reason = "disabled", "by the setting contrib"
            elif entry.name in own_names:
                state.state, state.reason = "disabled", "otelagent's own is used; prefer_contrib reverses it"
            elif entry.name in _METRICS_ONLY:
                state.state, state.reason = "disabled", "it gives metrics only, which are not exported yet"
            else:
                state.modules = _modules(entry)
            self._states.setdefault((kind, entry.name), state)

    def start(self, *, lasting_only: bool = False) -> None:
        """Apply every instrumentation whose library is imported, and each other one when its library is.

        :param lasting_only: the agent is switched off: apply what applications rely on all the same.
        """
        if self._started:
            return
        self._started = True
        waiting = [state for state in self._states.values() if state.state == "waiting"]
        if lasting_only:
            lasting = [state for state in waiting if state.kind == "own" and state.name in _LASTING]
            for state in waiting:
                if state not in lasting:
                    state.state, state.reason = "disabled", "the agent is switched off"
            waiting = lasting
        if any(state.kind == "contrib" for state in waiting):
            # Contrib still defaults to the conventions of 2022; the user's own choice stands.
            os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http,database")
        for state in waiting:
            for module in state.modules:
                when_imported(module, self._loader(state))

    def stop(self) -> None:
        """Undo every instrumentation, the last one first: where two patch the same point, each finds its own there."""
        for state in self._applied[::-1]:
            if state.state == "applied" and not (state.kind == "own" and state.name in _LASTING):
                self._undo(state, "the agent is shut down")

    def switch(self, name: str, on: bool) -> bool:
        """Switch one instrumentation on or off at run time; ``False`` when there is none of that name."""
        states = [state for (_, own), state in self._states.items() if own == name]
        for state in states:
            if not on and state.state in ("applied", "waiting"):
                self._undo(state, "at run time")
            elif on and state.state == "disabled" and state.reason == "at run time":
                state.state, state.reason = "waiting", ""
                for module in state.modules:
                    when_imported(module, self._loader(state))
        return bool(states)

    def states(self) -> list[State]:
        """The state of each, by name. A library that is waited for and isn't installed is ``absent``."""
        return sorted(map(_seen, self._states.values()), key=lambda state: (state.name, state.kind))

    def available(self) -> list[State]:
        """Those that are applied or will be once the application imports their library."""
        return [state for state in self.states() if state.state in ("applied", "waiting")]

    def _loader(self, state: State) -> Callable[[ModuleType], None]:
        def load(_module: ModuleType) -> None:
            if state.state != "waiting":
                return
            after = _AFTER_CALL.get(state.name) if state.kind == "contrib" else None
            if after is not None and not _true(after[2]):
                _call_once_after(*after[:2], lambda: self._apply(state))
            else:
                self._apply(state)

        return load

    def _apply(self, state: State) -> None:
        # Runs inside the application's import: whatever goes wrong stays here.
        if state.state != "waiting":
            return
        self._applied = [applied for applied in self._applied if applied is not state] + [state]
        try:
            module, _, attribute = state.source.partition(":")
            cls: Any = importlib.import_module(module)
            for part in attribute.split("."):
                cls = getattr(cls, part)
            if state.kind == "own":
                self._apply_own(state, cls)
            else:
                self._apply_contrib(state, cls)
        except (Exception, SystemExit) as error:
            state.state, state.reason = "failed", f"{type(error).__name__}: {error}"
            _log.warning("%s (%s) is not instrumented", state.name, state.source, exc_info=error)

    def _apply_own(self, state: State, cls: Callable[[str], Instrumentation]) -> None:
        instrumentation = state.active or cls(self._version)
        reason = instrumentation.unsupported()
        if reason is not None:
            state.state, state.reason = "unsupported", reason
            _log.warning("%s is not instrumented: %s", state.name, reason)
            return
        state.active = instrumentation
        state.state = "applied"
        instrumentation.apply()

    def _apply_contrib(self, state: State, cls: Callable[[], Any]) -> None:
        instrumentor = state.active or cls()
        state.active = instrumentor
        conflict = instrumentor._check_dependency_conflicts()
        if conflict is not None:
            state.state, state.reason = "unsupported", str(conflict)
            return
        # Already there when the application instruments by hand: then it is the application's, and stays.
        if instrumentor.is_instrumented_by_opentelemetry:
            state.state, state.reason = "applied", "by the application"
            return
        state.state = "applied"
        instrumentor.instrument(skip_dep_check=True)

    def _undo(self, state: State, reason: str) -> None:
        try:
            if state.kind == "own" and state.active is not None:
                state.active.undo()
            elif state.active is not None and state.reason != "by the application":
                state.active.uninstrument()
        except (Exception, SystemExit) as error:
            _log.warning("%s could not be undone", state.name, exc_info=error)
        state.state, state.reason = "disabled", reason


def _true(place: str) -> bool:
    """Whether an attribute of a module that is imported is true."""
    module, _, path = place.partition(":")
    value: Any = sys.modules.get(module)
    for part in path.split("."):
        value = getattr(value, part, None)
    return bool(value)


def _nearest(name: str, known: Iterable[str]) -> str | None:
    import difflib

    return next(iter(difflib.get_close_matches(name, list(known), 1)), None)


def _modules(entry: Found) -> tuple[str, ...]:
    """The modules whose import a contrib instrumentor waits for."""
    names = [_IMPORT_NAMES.get(name.lower(), name.replace("-", "_")) for name in entry.instruments()]
    return tuple(dict.fromkeys(names)) or (entry.name,)


def _seen(state: State) -> State:
    """A state as it looks from outside. It is still waited for what is absent: the import path may grow."""
    if state.state == "waiting" and not any(map(_installed, state.modules)):
        return State(state.name, state.kind, state.source, "absent", "the library is not installed")
    if state.state == "applied" and state.kind == "own" and (problem := state.active.problem()):
        return State(state.name, state.kind, state.source, state.state, problem)
    return state


def _installed(module: str) -> bool:
    """Whether a module can be found, without importing the packages it is in."""
    if module in sys.modules:
        return True
    name, _, rest = module.partition(".")
    try:
        spec = importlib.util.find_spec(name)
        while spec is not None and rest:
            part, _, rest = rest.partition(".")
            name = f"{name}.{part}"
            spec = importlib.machinery.PathFinder.find_spec(name, spec.submodule_search_locations)
    except (ImportError, ValueError, OSError):  # OSError: no descriptor is left to look with.
        return False
    return spec is not None


def _call_once_after(module: str, function: str, then: Callable[[], None]) -> None:
    """Call `then` when the application's first call of ``module.function`` has returned, and leave no trace."""
    owner = importlib.import_module(module)
    original = getattr(owner, function)

    @functools.wraps(original)
    def once(*args: Any, **kwargs: Any) -> Any:
        if getattr(owner, function) is once:
            setattr(owner, function, original)
        result = original(*args, **kwargs)
        then()
        return result

    setattr(owner, function, once)
