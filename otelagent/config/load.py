"""The loader: the only reader of the environment and, later, of files.

Precedence: keyword > option of ``otelagent-run`` > ``OTELAGENT_*`` > ``OTEL_*`` > file > default. An empty variable is
an unset one. A wrong value of our own is an error. A wrong value of an ``OTEL_*`` variable is ignored with a warning,
as the specification asks, unless going on would send data to another place than the user meant, or without what the
place asks for. A value that a stronger source hides is not looked at.
"""

from __future__ import annotations

from types import MappingProxyType

from otelagent.config.mask import display, quoted
from otelagent.config.model import (
    Batch,
    Config,
    Instrumentation,
    Limits,
    Logs,
    OAuth2,
    Otlp,
    Queue,
    Retry,
    Service,
    Source,
    Spool,
    Traces,
)
from otelagent.config.parse import Invalid, parse, suggest
from otelagent.config.settings import (
    CONFIG_FILE,
    CREDENTIALS,
    EXPORTERS,
    INTERNAL_PREFIX,
    OPTIONS_VARIABLE,
    PREFIX,
    SETTINGS,
    SETTINGS_BY_NAME,
    TEST_RUN_DEFAULTS,
    TEST_RUN_VARIABLE,
    VIEWER_VARIABLE,
    WITH_VIEWER,
    Setting,
)
from otelagent.errors import ConfigError, UnknownSettingError

TYPE_CHECKING = False  # see otelagent.config.settings
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any, NoReturn

    from otelagent.config.model import SourceKind

__all__ = ["KEYWORD", "load"]

KEYWORD = "init()"
"""The source of a keyword, as a user is told of it."""

_RANK: dict[SourceKind, int] = {
    "keyword": 0,
    "option": 1,
    "otelagent_env": 2,
    "otel_env": 3,
    "file": 4,  # not read yet, see CONFIG_FILE
    "default": 5,
}
_DEFAULT = Source("default", "default")
_UI = Source("default", "--ui")
# What is in another section stands before it.
_SECTIONS: dict[str, Any] = {
    "service": Service,
    "traces": Traces,
    "otlp.oauth2": OAuth2,
    "otlp": Otlp,
    "batch": Batch,
    "queue": Queue,
    "spool": Spool,
    "retry": Retry,
    "limits": Limits,
    "logs.otlp.oauth2": OAuth2,
    "logs.otlp": Otlp,
    "logs.batch": Batch,
    "logs": Logs,
    "instrumentation": Instrumentation,
}
_SERVICE_ATTRIBUTES = {
    "service_name": "service.name",
    "service_version": "service.version",
    "service_namespace": "service.namespace",
    "deployment_environment": "deployment.environment.name",
}
# What a batch waits at most with `console`, unless it is said.
_CONSOLE_DELAY_MS = 100
_LISTED = "otelagent-run --help lists them all"


def load(settings: Mapping[str, object], environ: Mapping[str, str]) -> Config:
    """The configuration from what the caller gave and from the environment.

    :param settings: by the settings' names; None means not given. Python values or their string forms.
    :param environ: usually `os.environ`.
    :raises ConfigError: a name is unknown, a value of ours is wrong, or an ``OTEL_*`` variable's value makes the
        destination unusable.
    """
    return _Loader(settings, environ).load()


def _own(source: Source) -> bool:
    return _RANK[source.kind] < _RANK["otel_env"]


class _Loader:
    """One load: values and sources by the settings' names, and what is to be told about them."""

    def __init__(self, settings: Mapping[str, object], environ: Mapping[str, str]) -> None:
        self.settings = settings
        self.environ = environ
        self.test_run, _, self.test_export = environ.get(TEST_RUN_VARIABLE, "").partition(" ")
        self.options = {name.strip().replace("-", "_") for name in environ.get(OPTIONS_VARIABLE, "").split(",")}
        self.viewer = environ.get(VIEWER_VARIABLE, "")
        self.values: dict[str, Any] = {}
        self.sources: dict[str, Source] = {}
        self.ignored: list[tuple[Setting, str, str]] = []
        self.warnings: list[str] = []

    def load(self) -> Config:
        self.refuse_unknown_names()
        for setting in SETTINGS:
            if setting.kind == "attributes":
                self.merge(setting)
            else:
                self.take_first(setting)
        self.settle_service()
        self.settle_sampler()
        self.settle_console()
        self.settle_pairs()
        beside = [signal for signal in EXPORTERS if not self.settle_viewer(signal)] if self.viewer else []
        for signal in ("traces", "logs"):
            self.settle_endpoint(signal)
            self.settle_credentials(signal)
        self.settle_destinations(beside)
        if path := self.environ.get(CONFIG_FILE, "").strip():
            self.warnings.append(
                f"{CONFIG_FILE}={path!r} is not read yet: settings come from keywords and variables alone"
            )
        return self.build()

    def refuse_unknown_names(self) -> None:
        for name in self.settings:
            if name not in SETTINGS_BY_NAME:
                nearest = suggest(str(name).lower(), tuple(SETTINGS_BY_NAME))
                raise UnknownSettingError(str(name), KEYWORD, f"did you mean {nearest}?" if nearest else _LISTED)
        for variable, text in self.environ.items():
            if not variable.startswith(PREFIX) or variable.startswith(INTERNAL_PREFIX) or not text.strip():
                continue
            name = variable[len(PREFIX) :]
            if name.lower() not in SETTINGS_BY_NAME or name != name.upper():
                nearest = suggest(name.lower(), tuple(SETTINGS_BY_NAME))
                hint = f"did you mean {SETTINGS_BY_NAME[nearest].variable}?" if nearest else _LISTED
                raise UnknownSettingError(variable, variable, hint)

    def given(self, setting: Setting) -> Iterator[tuple[object, Source]]:
        """What was given for a setting, the strongest source first."""
        own = self.given_as(setting)
        if setting.general:
            # Of one kind of source, what was given for the setting itself comes first: the sort is stable.
            own += self.given_as(SETTINGS_BY_NAME[setting.general])
            own.sort(key=lambda one: _RANK[one[1].kind])
        yield from own
        for variable in setting.otel:
            if (text := self.environ.get(variable, "")).strip():
                yield text, Source("otel_env", variable)
        # The declarative file's value comes here, as Source("file", its path).

    def given_as(self, setting: Setting) -> list[tuple[object, Source]]:
        """What was given under a setting's own name."""
        found: list[tuple[object, Source]] = []
        if (value := self.settings.get(setting.name)) is not None:
            found.append((value, Source("keyword", KEYWORD)))
        if (text := self.environ.get(setting.variable, "")).strip():
            if setting.name in self.options:
                found.append((text, Source("option", setting.option)))
            else:
                found.append((text, Source("otelagent_env", setting.variable)))
        return found

    def valid(self, setting: Setting) -> Iterator[tuple[Any, Source]]:
        """What was given and can be used, parsed, the strongest source first.

        What can't be used is an error or noted as ignored.
        """
        for raw, source in self.given(setting):
            spec = source.kind == "otel_env"
            try:
                parsed = parse(setting, raw, spec)
            except Invalid as error:
                if self.idle(setting, source):
                    continue
                if error.fatal or not spec:
                    self.fail(setting, raw, source, error.problem, error.hint)
                hint = f" ({error.hint})" if error.hint else ""
                self.ignored.append((setting, f"{source.name}={quoted(setting.kind, raw)!r}", error.problem + hint))
                continue
            if parsed.note and not self.idle(setting, source):
                self.warnings.append(f"{source.name}={quoted(setting.kind, raw)!r}: {parsed.note}")
            yield (not parsed.value if spec and setting.inverted else parsed.value), source

    def idle(self, setting: Setting, source: Source) -> bool:
        """Whether a value is one of the specification's for log records that don't go there: a mistake in it is none
        of ours."""
        return (
            source.kind == "otel_env"
            and setting.path.startswith("logs.otlp.")
            and self.values["logs_exporter"] != "otlp"
        )

    def take_first(self, setting: Setting) -> None:
        self.values[setting.name], self.sources[setting.name] = next(self.valid(setting), self.default(setting))

    def default(self, setting: Setting) -> tuple[object, Source]:
        """What holds where nothing was given: with a viewer all there is to show; in tests nothing is sent unless they
        are told to."""
        if self.viewer:
            if setting.name in WITH_VIEWER:
                return WITH_VIEWER[setting.name], _UI
        elif self.test_run and not self.test_export and setting.name in TEST_RUN_DEFAULTS:
            return TEST_RUN_DEFAULTS[setting.name], Source("default", self.test_run)
        return setting.default, _DEFAULT

    def merge(self, setting: Setting) -> None:
        """A mapping each of whose keys comes from the strongest source that has it."""
        merged: dict[str, tuple[str, Source]] = {}
        for mapping, source in self.valid(setting):
            for key, value in mapping.items():
                merged.setdefault(key, (value, source))
        self.attributes = merged

    def settle_service(self) -> None:
        """The attributes that have settings of their own go there.

        Of one level the setting wins: "OTEL_SERVICE_NAME takes precedence over service.name in
        OTEL_RESOURCE_ATTRIBUTES". Of two levels the stronger one does.
        """
        for name, attribute in _SERVICE_ATTRIBUTES.items():
            value, source = self.attributes.pop(attribute, ("", _DEFAULT))
            if value and _RANK[source.kind] < _RANK[self.sources[name].kind]:
                self.values[name], self.sources[name] = value, source
        self.values["resource_attributes"] = {key: value for key, (value, _) in self.attributes.items()}
        used = sorted({source for _, source in self.attributes.values()}, key=lambda source: _RANK[source.kind])
        joined = Source(used[0].kind, ", ".join(source.name for source in used)) if used else _DEFAULT
        self.sources["resource_attributes"] = joined

    def settle_sampler(self) -> None:
        """A sampler that takes an argument has one; an argument without its sampler is a mistake worth telling."""
        sampler, arg = self.values["sampler"], self.values["sampler_arg"]
        if sampler.endswith("traceidratio"):
            if arg is None:
                self.values["sampler_arg"] = 1.0
            return
        if sampler not in SETTINGS_BY_NAME["sampler"].choices:
            return  # an installed package's, which knows what it takes
        self.values["sampler_arg"] = None
        source = self.sources["sampler_arg"]
        if source.kind == "default":
            return
        stronger = _RANK[source.kind] <= _RANK[self.sources["sampler"].kind]
        if _own(source) and stronger:
            setting = SETTINGS_BY_NAME["sampler_arg"]
            self.fail(setting, arg, source, f"sampler {sampler} takes none", "use sampler 'parentbased_traceidratio'")
        if stronger:
            self.warnings.append(f"{source.name}={arg} has no effect: sampler {sampler} takes none")
        self.sources["sampler_arg"] = _DEFAULT

    def settle_console(self) -> None:
        """Who looks at the terminal is shown what ends at once; who reads it as JSON, no line that is none."""
        name = "batch_schedule_delay_ms"
        if self.values["console"] != "off" and self.sources[name].kind == "default":
            self.values[name] = _CONSOLE_DELAY_MS
        if self.values["console"] == "json" and self.sources["quiet"].kind == "default":
            self.values["quiet"] = True

    def settle_pairs(self) -> None:
        self.at_most("batch_max_export_batch_size", "batch_max_queue_size")
        self.at_most("logs_batch_max_export_batch_size", "logs_batch_max_queue_size")
        self.at_most("retry_initial_backoff_ms", "retry_max_backoff_ms")
        for key, certificate in (("client_key", "client_certificate"), ("logs_client_key", "logs_client_certificate")):
            setting, source = SETTINGS_BY_NAME[key], self.sources[key]
            if self.values[key] and not self.values[certificate] and not self.idle(setting, source):
                self.fail(setting, self.values[key], source, f"needs {certificate} too")

    def at_most(self, name: str, limit: str) -> None:
        """A number must not exceed another.

        One of ours that does is an error; the specification's is lowered with a warning, a default quietly.
        """
        value, bound, source = self.values[name], self.values[limit], self.sources[name]
        if value <= bound:
            return
        if _own(source):
            problem = f"must not exceed {limit}, which is {bound} (from {self.sources[limit]})"
            self.fail(SETTINGS_BY_NAME[name], value, source, problem, f"try {bound}")
        if source.kind != "default":
            self.warnings.append(f"{source.name}={value} exceeds {limit}, which is {bound}; using {bound}")
        self.values[name] = bound

    def settle_viewer(self, signal: str) -> bool:
        """The viewer is the main destination of a signal that nobody has sent anywhere.

        :returns: whether it is; if not, it is one beside the main one.
        """
        prefix = "" if signal == "traces" else f"{signal}_"
        given = self.sources[EXPORTERS[signal]] is not _UI and self.values[f"{prefix}endpoint"] is not None
        if given or self.values[EXPORTERS[signal]] != "otlp":
            return False
        section = "otlp." if signal == "traces" else f"{signal}.otlp."
        for setting in SETTINGS:
            if setting.path.startswith(section):  # headers and certificates are for another one
                self.values[setting.name], self.sources[setting.name] = setting.default, _UI
        self.values[f"{prefix}endpoint"] = f"{self.viewer}/v1/{signal}"
        return True

    def settle_endpoint(self, signal: str) -> None:
        prefix = "" if signal == "traces" else f"{signal}_"
        setting = SETTINGS_BY_NAME[f"{prefix}endpoint"]
        name, protocol = setting.name, self.values[f"{prefix}protocol"]
        text, source = self.values[name], self.sources[name]
        default = "http://localhost:4317" if protocol == "grpc" else f"http://localhost:4318/v1/{signal}"
        if text is None:
            self.values[name] = default
            return
        from otelagent.config.endpoint import resolve  # urllib.parse takes 3 ms, which the default doesn't need

        try:
            endpoint = resolve(
                text,
                protocol,
                insecure=bool(self.values[f"{prefix}insecure"]),
                signal_specific=source.name == setting.otel[0],
                own=_own(source) or source is _UI,
                signal=signal,
            )
        except Invalid as error:
            if self.idle(setting, source):
                self.values[name], self.sources[name] = default, _DEFAULT
                return
            self.fail(setting, text, source, error.problem, error.hint)
        self.values[name] = endpoint.url
        if endpoint.warning and self.values[f"{prefix}exporter"] == "otlp":
            self.warnings.append(f"{name} = {quoted('endpoint', text)!r} (from {source}): {endpoint.warning}")

    def settle_credentials(self, signal: str) -> None:
        """The credentials of a signal's exports agree with each other."""
        prefix = "" if signal == "traces" else f"{signal}_"
        names = [name for name in CREDENTIALS if self.values[prefix + name]]
        if not names:
            return
        from otelagent.config.credentials import Conflict, settle  # for those who have any

        given = frozenset(name for name in CREDENTIALS if self.given_as(SETTINGS_BY_NAME[prefix + name]))
        try:
            kept = settle({name: self.values[prefix + name] for name in CREDENTIALS}, given, prefix)
        except Conflict as conflict:
            setting = SETTINGS_BY_NAME[prefix + conflict.name]
            value, source = self.values[setting.name], self.sources[setting.name]
            self.fail(setting, value, source, conflict.problem, conflict.hint)
        for name in names:
            if name not in kept:
                setting = SETTINGS_BY_NAME[prefix + name]
                self.values[setting.name], self.sources[setting.name] = setting.default, _DEFAULT

    def settle_destinations(self, viewed: list[str]) -> None:
        """The destinations beside the main one, with the viewer for those signals that it isn't the main one of."""
        off = [signal for signal, exporter in EXPORTERS.items() if self.values[exporter] == "none"]
        given = dict(self.values["destinations"])
        if signals := [signal for signal in viewed if signal not in off]:
            name = next(name for name in ("ui", "otelagent-ui", "otelagent-ui-viewer") if name not in given)
            given[name] = {"endpoint": self.viewer, "signals": signals}
        if not given:
            return
        from otelagent.config.destinations import resolve_destinations

        self.values["destinations"], warnings = resolve_destinations(given, self.sources["destinations"], off)
        self.warnings += warnings

    def fail(self, setting: Setting, value: object, source: Source, problem: str, hint: str = "") -> NoReturn:
        raise ConfigError(setting.name, quoted(setting.kind, value), source.name, problem, hint) from None

    def build(self) -> Config:
        fields: dict[str, Any] = {}
        sections: dict[str, dict[str, Any]] = {name: {} for name in _SECTIONS}
        for setting in SETTINGS:
            value = self.values[setting.name]
            section, _, field = setting.path.rpartition(".")
            (sections[section] if section else fields)[field] = (
                MappingProxyType(value) if isinstance(value, dict) else value
            )
        for name, build in _SECTIONS.items():
            section, _, field = name.rpartition(".")
            (sections[section] if section else fields)[field] = build(**sections[name])
        sources = MappingProxyType({setting.name: self.sources[setting.name] for setting in SETTINGS})
        # Made last: now it is known what is used instead of an ignored value.
        warnings = (*(self.instead(*ignored) for ignored in self.ignored), *self.warnings)
        return Config(**fields, sources=sources, warnings=tuple(dict.fromkeys(warnings)), test_run=self.test_run)

    def instead(self, setting: Setting, given: str, problem: str) -> str:
        value = self.values[setting.name]
        used = display(setting.kind, value) if value is not None else setting.default_text.replace("`", "")
        return f"{given} ignored: {problem}; using {used} ({self.sources[setting.name]})"
