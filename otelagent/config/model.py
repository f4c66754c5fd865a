"""The configuration as the rest of the agent sees it: frozen, typed, every value final and in its documented unit."""

from __future__ import annotations

from otelagent.config.mask import Secret, display
from otelagent.struct import struct

TYPE_CHECKING = False  # see otelagent.config.settings
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Literal

    Exporter = Literal["otlp", "console", "file", "none", "terminal"]
    Console = Literal["off", "lines", "tree", "json"]
    SourceKind = Literal["keyword", "option", "otelagent_env", "otel_env", "file", "default"]

__all__ = [
    "CONSOLE",
    "Batch",
    "Config",
    "Export",
    "Instrumentation",
    "Limits",
    "Logs",
    "NamedDestination",
    "OAuth2",
    "Otlp",
    "Queue",
    "Retry",
    "Rule",
    "Secret",
    "Service",
    "Source",
    "Spool",
    "Traces",
]


CONSOLE = "console"
"""The name of the terminal among the destinations; no other may have it."""


@struct(frozen=True)
class Source:
    """Where a value came from.

    :ivar kind: the kind of source; the kinds are in order of precedence in `otelagent.config.load`.
    :ivar name: what to show a user: ``init()``, ``--sampler``, a variable's name, or ``default``. A value merged from
        several sources names them all, the strongest first, and has the strongest one's kind.
    """

    kind: SourceKind
    name: str

    def __str__(self) -> str:
        return self.name


@struct(frozen=True, kw_only=True)
class Service:
    """Who emits the telemetry. `resource_attributes` holds the attributes that have no field of their own here."""

    name: str
    version: str | None
    namespace: str | None
    environment: str | None
    resource_attributes: Mapping[str, str]


@struct(frozen=True, kw_only=True)
class Traces:
    """Where spans go and which are kept. `sampler_arg` is a probability, and None for a sampler that takes none."""

    exporter: Exporter
    sampler: str
    sampler_arg: float | None
    running_spans: bool


@struct(frozen=True, kw_only=True)
class OAuth2:
    """Tokens by the client-credentials grant (RFC 6749 section 4.4).

    :ivar token_url: the token endpoint; None for no tokens. Its query may hold a credential.
    :ivar client_secret: None where `client_secret_file` has it.
    :ivar parameters: further fields of the token request.
    :ivar certificate: PEM file to trust for the token endpoint; None for the public authorities.
    """

    token_url: str | None
    client_id: str | None
    client_secret: Secret | None
    client_secret_file: str | None
    scopes: tuple[str, ...]
    parameters: Mapping[str, Secret]
    certificate: str | None

    @property
    def masked_token_url(self) -> str:
        """The token endpoint as it may be shown."""
        return display("url", self.token_url)

    def __repr__(self) -> str:
        shown = {**vars(self), "token_url": self.masked_token_url}
        return f"OAuth2({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


@struct(frozen=True, kw_only=True)
class Otlp:
    """The OTLP exporter.

    :ivar endpoint: for ``http/protobuf`` the final URL of the signal; for ``grpc`` always ``http://host:port``
        (plaintext) or ``https://host:port`` (TLS), whatever form the user wrote. It may hold a user and password: show
        `masked_endpoint` instead.
    :ivar headers: names in lower case, values decoded.
    :ivar timeout_ms: for one attempt to export.
    :ivar insecure: as the user set it; already applied to `endpoint`.
    :ivar headers_file: more headers, over `headers`; like the file below it needn't be there yet.
    :ivar bearer_token_file: a token. Of this, `oauth2` and an ``authorization`` in `headers` there is one at most.
    """

    endpoint: str
    protocol: Literal["http/protobuf", "grpc"]
    headers: Mapping[str, Secret]
    timeout_ms: int
    compression: Literal["none", "gzip"]
    certificate: str | None
    client_certificate: str | None
    client_key: str | None
    insecure: bool | None
    headers_file: str | None
    bearer_token_file: str | None
    oauth2: OAuth2

    @property
    def masked_endpoint(self) -> str:
        """The endpoint as it may be shown."""
        return display("endpoint", self.endpoint)

    def __repr__(self) -> str:
        shown = {**vars(self), "endpoint": self.masked_endpoint}
        return f"Otlp({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


@struct(frozen=True, kw_only=True)
class Batch:
    """How the items of a signal wait and are grouped before they are encoded; sizes in items but `queue_max_bytes`."""

    schedule_delay_ms: int
    export_timeout_ms: int
    max_queue_size: int
    queue_max_bytes: int
    max_export_batch_size: int


@struct(frozen=True, kw_only=True)
class Queue:
    """Encoded requests that wait for the destination. `export_max_bytes_per_s` is 0 for no limit."""

    max_bytes: int
    export_max_bytes_per_s: int


@struct(frozen=True, kw_only=True)
class Spool:
    """Encoded requests on disk. `directory` is None for the user's state directory."""

    enabled: bool
    directory: str | None
    max_bytes: int
    max_age_ms: int
    full: Literal["drop_oldest", "reject"]
    replay_bytes_per_s: int


@struct(frozen=True, kw_only=True)
class Retry:
    """The backoff between attempts to deliver one request."""

    initial_backoff_ms: int
    max_backoff_ms: int


@struct(frozen=True, kw_only=True)
class Limits:
    """What one span may hold. `attribute_value_length` is in characters, None for no limit."""

    attribute_count: int
    attribute_value_length: int | None
    event_count: int
    link_count: int
    event_attribute_count: int
    link_attribute_count: int


@struct(frozen=True, kw_only=True)
class Logs:
    """Log records: where they go, which of them, what one may hold.

    :ivar level: the lowest level of `logging` that is exported.
    :ivar attribute_value_length: in characters, None for no limit.
    """

    exporter: Exporter
    level: Literal["notset", "debug", "info", "warning", "error", "critical"]
    file_path: str
    otlp: Otlp
    batch: Batch
    attribute_count: int
    attribute_value_length: int | None


@struct(frozen=True, kw_only=True)
class Rule:
    """Takes an item for which all of its conditions are true; see ``docs/routing.md``.

    `name`, `attributes` and `resource` hold patterns, any of which has to match; what is empty or None is no condition.

    :ivar unrouted: whether no rule without this condition takes the item, whichever destination's it is.
    :ivar excluded: must not take the item.
    :ivar text: the rule as it was given, as JSON.
    """

    error: bool | None = None
    name: tuple[str, ...] = ()
    attributes: Mapping[str, tuple[str, ...]] = {}
    resource: Mapping[str, tuple[str, ...]] = {}
    unrouted: bool | None = None
    excluded: Rule | None = None
    text: str = ""

    def __str__(self) -> str:
        return self.text


@struct(frozen=True, kw_only=True)
class NamedDestination:
    """A destination beside the main one.

    :ivar otlp: by signal; of those signals that go there.
    :ivar routes: any of which takes an item; all are taken where there are none.
    """

    name: str
    otlp: Mapping[str, Otlp]
    routes: tuple[Rule, ...]

    def __str__(self) -> str:
        endpoints = dict.fromkeys(otlp.masked_endpoint for otlp in self.otlp.values())
        return f"{self.name} → {' and '.join(endpoints)}"


@struct(frozen=True)
class Export:
    """Where one signal goes; `otlp`, `file_path` and `console` are for the exporters ``otlp``, ``file`` and
    ``terminal``, `routes` say what of it."""

    exporter: Exporter
    otlp: Otlp
    file_path: str
    routes: tuple[Rule, ...] = ()
    console: Console = "off"


@struct(frozen=True, kw_only=True)
class Instrumentation:
    """Which instrumentations run, and what they leave out. `excluded_urls` are regular expressions that compile."""

    disabled: tuple[str, ...]
    contrib: bool
    prefer_contrib: tuple[str, ...]
    excluded_urls: tuple[str, ...]


@struct(frozen=True, kw_only=True)
class Config:
    """Everything a user may set, resolved.

    :ivar sources: by the setting's name (`otelagent.config.SETTINGS`), one for every setting.
    :ivar warnings: what was ignored or looks wrong, one sentence each, secrets masked; for the log and for ``doctor``.
    :ivar test_run: who says that tests run, empty where none do: then one process starts and ends the application many
        times.
    """

    enabled: bool
    engine: Literal["auto", "sdk", "native"]
    log_level: Literal["debug", "info", "warning", "error", "critical"]
    quiet: bool
    exit_timeout_ms: int
    file_path: str
    console: Console
    propagators: tuple[str, ...]
    service: Service
    traces: Traces
    otlp: Otlp
    destinations: tuple[NamedDestination, ...]
    routes: tuple[Rule, ...]
    batch: Batch
    queue: Queue
    spool: Spool
    retry: Retry
    limits: Limits
    logs: Logs
    instrumentation: Instrumentation
    sources: Mapping[str, Source]
    warnings: tuple[str, ...]
    test_run: str

    def destination_names(self, signal: str) -> tuple[str, ...]:
        """The destinations of a signal, the main one first, whose name is empty; none for the exporter ``none``.

        :param signal: ``traces`` or ``logs``.
        """
        if self.export(signal).exporter == "none":
            return ()
        return ("", *(one.name for one in self.destinations if signal in one.otlp))

    def export(self, signal: str, name: str = "") -> Export:
        """Where a signal goes.

        :param signal: ``traces`` or ``logs``.
        :param name: one of `destination_names`, or `CONSOLE`.
        """
        if name == CONSOLE:
            return Export("terminal", self.otlp, "", console=self.console)
        for one in self.destinations:
            if one.name == name:
                return Export("otlp", one.otlp[signal], "", one.routes)
        if signal == "logs":
            return Export(self.logs.exporter, self.logs.otlp, self.logs.file_path, self.routes)
        return Export(self.traces.exporter, self.otlp, self.file_path, self.routes)

    def describe(self) -> list[tuple[str, str, str]]:
        """Every setting as (name, value as it may be shown, source), in the table's order."""
        from operator import attrgetter

        from otelagent.config.settings import SETTINGS

        return [
            (setting.name, display(setting.kind, attrgetter(setting.path)(self)), str(self.sources[setting.name]))
            for setting in SETTINGS
        ]
