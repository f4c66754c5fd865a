"""The one table of settings. The loader, ``otelagent-run``'s options, ``doctor`` and the README's table all read it.

A setting's name is the keyword of `otelagent.init()`; ``OTELAGENT_<NAME>`` and ``--<name-with-dashes>`` follow from it.
"""

from __future__ import annotations

from otelagent.config.mask import SECRET_KINDS
from otelagent.struct import struct

TYPE_CHECKING = False  # typing's own costs an import that otelagent-run doesn't need
if TYPE_CHECKING:
    from typing import Literal

    Kind = Literal[
        "text",
        "bool",
        "int",
        "ratio",
        "choice",
        "choices",
        "names",
        "patterns",
        "attributes",
        "headers",
        "endpoint",
        "url",
        "certificate",
        "path",
        "secret",
        "parameters",
        "destinations",
        "routes",
    ]

__all__ = [
    "CONFIG_FILE",
    "CREDENTIALS",
    "EXPORTERS",
    "INTERNAL_PREFIX",
    "KNOWN_UNUSED",
    "OPTIONS_VARIABLE",
    "PREFIX",
    "REFUSED_VARIABLE",
    "SETTINGS",
    "SETTINGS_BY_NAME",
    "TEST_RUN_DEFAULTS",
    "TEST_RUN_VARIABLE",
    "VIEWER_VARIABLE",
    "WITH_VIEWER",
    "Setting",
]

PREFIX = "OTELAGENT_"
# Names that the bootstrap passes to its child interpreters; never a user's.
INTERNAL_PREFIX = "OTELAGENT_INTERNAL_"
# The bootstrap passes options on as variables; this one lists, comma-separated, the settings that came so.
OPTIONS_VARIABLE = "OTELAGENT_INTERNAL_OPTIONS"
# What the launcher or the bootstrap found wrong with the environment before it let the application run all the same.
REFUSED_VARIABLE = "OTELAGENT_INTERNAL_REFUSED"
# Set where tests run, for them and their child processes: who says so, which is the source of these defaults; and the
# word `export` where the other defaults are to hold all the same.
TEST_RUN_VARIABLE = "OTELAGENT_INTERNAL_TEST_RUN"
TEST_RUN_DEFAULTS: dict[str, object] = {"exporter": "none", "logs_exporter": "none", "quiet": True}

# The viewer that `otelagent-run --ui` has found or started, as an endpoint for all signals.
VIEWER_VARIABLE = "OTELAGENT_INTERNAL_VIEWER"

# What isn't set otherwise, where there is a viewer: all there is to show, at once.
WITH_VIEWER: dict[str, object] = {
    "logs_exporter": "otlp",
    "batch_schedule_delay_ms": 250,
    "logs_batch_schedule_delay_ms": 250,
    "running_spans": True,
}

# The specification's declarative file. Not read yet; its place in the order of precedence is after OTEL_*.
CONFIG_FILE = "OTEL_CONFIG_FILE"

# By signal, the setting that says where it goes.
EXPORTERS: dict[str, str] = {"traces": "exporter", "logs": "logs_exporter"}

# Sizes and times stay inside what every consumer takes (a 32-bit integer; 24 days in milliseconds).
MAX_INT = 2**31 - 1


@struct(frozen=True)
class Setting:
    """One thing a user may set.

    :ivar name: flat; the keyword.
    :ivar path: where the value is in `otelagent.config.Config`, dotted.
    :ivar kind: how it is parsed, see `otelagent.config.parse`.
    :ivar help: one sentence for the options' help and the README.
    :ivar default: the parsed value; None means not set.
    :ivar otel: the specification's variables, the strongest first.
    :ivar unit: of the value, for display; part of the name where it is a time or a size in bytes.
    :ivar choices: valid values of a choice, in lower case.
    :ivar aliases: other spellings of a choice.
    :ivar refused: values that the specification defines and otelagent can't honour, with what to do. They are errors
        from every source: ignoring them would send the data elsewhere.
    :ivar minimum: smallest valid number.
    :ivar maximum: largest valid number.
    :ivar inverted: the specification's variable says the opposite.
    :ivar extensions: the entry-point group in which installed packages register more choices.
    :ivar general: the setting whose own values (keyword, option, ``OTELAGENT_*``) count for this one too where there
        is none of this one's from the same kind of source.
    :ivar default_text: shown in place of a default that depends on other settings.
    """

    name: str
    path: str
    kind: Kind
    help: str
    default: object = None
    otel: tuple[str, ...] = ()
    unit: str = ""
    choices: tuple[str, ...] = ()
    aliases: dict[str, str] = {}  # noqa: RUF012 - a row of data, never changed
    refused: dict[str, str] = {}  # noqa: RUF012
    minimum: int = 0
    maximum: int = MAX_INT
    inverted: bool = False
    default_text: str = ""
    extensions: str = ""
    general: str = ""

    @property
    def variable(self) -> str:
        """Its own environment variable."""
        return PREFIX + self.name.upper()

    @property
    def option(self) -> str:
        """Its option of ``otelagent-run``."""
        return "--" + self.name.replace("_", "-")

    @property
    def secret(self) -> bool:
        """Whether the value is never shown. (An endpoint is shown with its user and password masked.)"""
        return self.kind in SECRET_KINDS


def _otlp(suffix: str, signal: str = "TRACES") -> tuple[str, str]:
    return f"OTEL_EXPORTER_OTLP_{signal}_{suffix}", f"OTEL_EXPORTER_OTLP_{suffix}"


def _of_logs(setting: Setting) -> Setting:
    """The row of the exporter of log records that goes with one of the exporter of spans."""
    changes = {
        "name": f"logs_{setting.name}",
        "path": f"logs.{setting.path}",
        "help": f"`{setting.name}` for log records alone; what that one says where this isn't given.",
        "otel": setting.otel and _otlp(setting.otel[0].removeprefix("OTEL_EXPORTER_OTLP_TRACES_"), "LOGS"),
        "default_text": setting.default_text.replace("traces", "logs"),
        "general": setting.name,
    }
    return Setting(**{**vars(setting), **changes})


_TO_COLLECTOR = "send OTLP to a collector, which forwards to {}"
_SAMPLERS = (
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
)

# fmt: off
_OTLP: tuple[Setting, ...] = (
    Setting("endpoint", "otlp.endpoint", "endpoint",
            "The collector's address. With `http/protobuf`, `/v1/traces` is appended unless it is there already; "
            "always to `OTEL_EXPORTER_OTLP_ENDPOINT`, never to `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`.", None,
            _otlp("ENDPOINT"), default_text="`http://localhost:4318/v1/traces`; gRPC: `http://localhost:4317`"),
    Setting("protocol", "otlp.protocol", "choice", "How OTLP is sent.", "http/protobuf", _otlp("PROTOCOL"),
            choices=("http/protobuf", "grpc"), refused={"http/json": "it is not there yet; use 'http/protobuf'"}),
    Setting("headers", "otlp.headers", "headers",
            "Headers of every export, `name=value,name2=value2`, values percent-encoded.", {}, _otlp("HEADERS")),
    Setting("timeout_ms", "otlp.timeout_ms", "int", "How long one attempt to export may take.", 10_000,
            _otlp("TIMEOUT"), "ms", minimum=1),
    Setting("compression", "otlp.compression", "choice", "Compression of exports.", "none", _otlp("COMPRESSION"),
            choices=("none", "gzip")),
    Setting("certificate", "otlp.certificate", "certificate",
            "PEM file with the certificates to trust, for the collector's.", None, _otlp("CERTIFICATE")),
    Setting("client_certificate", "otlp.client_certificate", "certificate",
            "PEM file with the client's certificate (mTLS).", None, _otlp("CLIENT_CERTIFICATE")),
    Setting("client_key", "otlp.client_key", "certificate", "PEM file with the client's private key (mTLS).", None,
            _otlp("CLIENT_KEY")),
    Setting("insecure", "otlp.insecure", "bool", "Whether a gRPC endpoint written without a scheme is plaintext.", None,
            _otlp("INSECURE"), default_text="`false`"),
    Setting("headers_file", "otlp.headers_file", "path",
            "File with more headers, a `name: value` a line, over those of `headers`; read again when it changes."),
    Setting("bearer_token_file", "otlp.bearer_token_file", "path",
            "File with the token that goes as `Authorization: Bearer …`; read again when it changes."),
    Setting("oauth2_token_url", "otlp.oauth2.token_url", "url",
            "Where tokens are fetched (OAuth 2.0 client credentials), `https` unless on this machine."),
    Setting("oauth2_client_id", "otlp.oauth2.client_id", "text", "The client's name at the token endpoint."),
    Setting("oauth2_client_secret", "otlp.oauth2.client_secret", "secret", "The client's secret."),
    Setting("oauth2_client_secret_file", "otlp.oauth2.client_secret_file", "path",
            "File with the client's secret, read for every token."),
    Setting("oauth2_scopes", "otlp.oauth2.scopes", "names", "Scopes to ask for, comma-separated.", ()),
    Setting("oauth2_parameters", "otlp.oauth2.parameters", "parameters",
            "What else the token endpoint wants, such as `audience=…`: `name=value,name2=value2`, percent-encoded.",
            {}),
    Setting("oauth2_certificate", "otlp.oauth2.certificate", "certificate",
            "PEM file with the certificates to trust, for the token endpoint's."),
)

# What must agree with each other, see `otelagent.config.credentials`; for log records each with its prefix.
CREDENTIALS: tuple[str, ...] = (
    "headers",
    "bearer_token_file",
    *(setting.name for setting in _OTLP if setting.name.startswith("oauth2_")),
)

SETTINGS: tuple[Setting, ...] = (
    Setting("enabled", "enabled", "bool", "Whether the agent does anything; propagation goes on either way.", True,
            ("OTEL_SDK_DISABLED",), inverted=True),

    Setting("service_name", "service.name", "text", "The service's name (`service.name`).", "unknown_service:python",
            ("OTEL_SERVICE_NAME",), default_text="what the program is called"),
    Setting("service_version", "service.version", "text", "The service's version (`service.version`)."),
    Setting("service_namespace", "service.namespace", "text",
            "The group the service belongs to (`service.namespace`)."),
    Setting("deployment_environment", "service.environment", "text",
            "Where it runs: `production`, `staging`, … (`deployment.environment.name`)."),
    Setting("resource_attributes", "service.resource_attributes", "attributes",
            "More resource attributes, `key=value,key2=value2`, percent-encoded; merged key by key over all sources.",
            {}, ("OTEL_RESOURCE_ATTRIBUTES",)),

    Setting("exporter", "traces.exporter", "choice", "Where spans go.", "otlp", ("OTEL_TRACES_EXPORTER",),
            choices=("otlp", "console", "file", "none"), aliases={"logging": "console"},
            refused={"zipkin": _TO_COLLECTOR.format("Zipkin"), "jaeger": "Jaeger takes OTLP: use 'otlp'"}),
    Setting("console", "console", "choice",
            "What standard error shows of traces beside the export: a line for each, errors and slow ones as a tree "
            "too, or JSON; see [docs/terminal.md](docs/terminal.md).", "off",
            choices=("off", "lines", "tree", "json")),
    Setting("file", "file_path", "text", "The file that the `file` exporter appends to, one OTLP/JSON request a line.",
            "otelagent-traces.jsonl"),
    *_OTLP,
    Setting("destinations", "destinations", "destinations",
            "More destinations beside this one, by name; JSON or a JSON file's path, see "
            "[docs/routing.md](docs/routing.md).", ()),
    Setting("routes", "routes", "routes",
            "Which items go to the main destination, all without it; JSON or a JSON file's path, see "
            "[docs/routing.md](docs/routing.md).", ()),

    Setting("sampler", "traces.sampler", "choice", "Which traces are kept.", "parentbased_always_on",
            ("OTEL_TRACES_SAMPLER",), choices=_SAMPLERS, extensions="opentelemetry_traces_sampler"),
    Setting("sampler_arg", "traces.sampler_arg", "ratio",
            "The share of traces that the `traceidratio` samplers keep, 0 to 1.", None, ("OTEL_TRACES_SAMPLER_ARG",),
            default_text="`1.0` for a `traceidratio` sampler"),
    Setting("running_spans", "traces.running_spans", "bool",
            "Whether a viewer on this machine is told of spans that are still open after half a second; see "
            "[docs/viewer.md](docs/viewer.md).", False, default_text="`false`; with `otelagent-run --ui` `true`"),
    Setting("propagators", "propagators", "choices",
            "How context crosses processes, comma-separated; `none` for not at all.", ("tracecontext", "baggage"),
            ("OTEL_PROPAGATORS",), choices=("tracecontext", "baggage", "b3", "b3multi", "jaeger", "none"),
            extensions="opentelemetry_propagator"),

    Setting("logs_exporter", "logs.exporter", "choice", "Where log records go.", "none", ("OTEL_LOGS_EXPORTER",),
            choices=("otlp", "console", "file", "none"), aliases={"logging": "console"}),
    Setting("logs_level", "logs.level", "choice",
            "The lowest level that is exported; what the application's loggers leave out never is.", "notset",
            ("OTEL_PYTHON_LOG_HANDLER_LEVEL",),
            choices=("notset", "debug", "info", "warning", "error", "critical"),
            aliases={"trace": "debug", "warn": "warning", "fatal": "critical"}),
    Setting("logs_file", "logs.file_path", "text", "The file of `logs_exporter` `file`.", "otelagent-logs.jsonl"),
    *map(_of_logs, _OTLP),
    Setting("logs_batch_schedule_delay_ms", "logs.batch.schedule_delay_ms", "int",
            "Longest wait before a batch of log records is exported.", 1_000, ("OTEL_BLRP_SCHEDULE_DELAY",), "ms",
            minimum=1),
    Setting("logs_batch_export_timeout_ms", "logs.batch.export_timeout_ms", "int",
            "How long exporting a batch of log records may take.", 30_000, ("OTEL_BLRP_EXPORT_TIMEOUT",), "ms",
            minimum=1),
    Setting("logs_batch_max_queue_size", "logs.batch.max_queue_size", "int",
            "Log records that may wait to be encoded.", 2_048, ("OTEL_BLRP_MAX_QUEUE_SIZE",), "log records", minimum=1),
    Setting("logs_batch_queue_max_bytes", "logs.batch.queue_max_bytes", "int",
            "Memory that log records may take while they wait to be encoded.", 32 * 2**20, unit="bytes", minimum=1,
            maximum=2**63 - 1),
    Setting("logs_batch_max_export_batch_size", "logs.batch.max_export_batch_size", "int",
            "Log records in one export, at most.", 512, ("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE",), "log records",
            minimum=1),
    Setting("logs_attribute_count_limit", "logs.attribute_count", "int", "Attributes of a log record.", 128,
            ("OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT")),
    Setting("logs_attribute_value_length_limit", "logs.attribute_value_length", "int",
            "Characters of an attribute's value of a log record.", None,
            ("OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"), "characters",
            default_text="no limit"),

    Setting("disabled_instrumentations", "instrumentation.disabled", "names",
            "Instrumentations that stay off, comma-separated.", (), ("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS",)),
    Setting("excluded_urls", "instrumentation.excluded_urls", "patterns",
            "Requests to leave out: comma-separated regular expressions, searched in path and whole URL.", (),
            ("OTEL_PYTHON_EXCLUDED_URLS",)),
    Setting("contrib", "instrumentation.contrib", "bool",
            "Whether OpenTelemetry contrib instrumentations are used for libraries that otelagent has none for.",
            True),
    Setting("prefer_contrib", "instrumentation.prefer_contrib", "names",
            "Libraries for which an installed contrib instrumentation is used instead of otelagent's, comma-separated.",
            ()),

    Setting("batch_schedule_delay_ms", "batch.schedule_delay_ms", "int", "Longest wait before a batch is exported.",
            5_000, ("OTEL_BSP_SCHEDULE_DELAY",), "ms", minimum=1, default_text="`5000`; with `console` `100`"),
    Setting("batch_export_timeout_ms", "batch.export_timeout_ms", "int", "How long exporting a batch may take.", 30_000,
            ("OTEL_BSP_EXPORT_TIMEOUT",), "ms", minimum=1),
    Setting("batch_max_queue_size", "batch.max_queue_size", "int", "Spans that may wait to be encoded.", 2_048,
            ("OTEL_BSP_MAX_QUEUE_SIZE",), "spans", minimum=1),
    Setting("batch_queue_max_bytes", "batch.queue_max_bytes", "int",
            "Memory that spans may take while they wait to be encoded.", 32 * 2**20, unit="bytes", minimum=1,
            maximum=2**63 - 1),
    Setting("batch_max_export_batch_size", "batch.max_export_batch_size", "int", "Spans in one export, at most.", 512,
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE",), "spans", minimum=1),
    Setting("queue_max_bytes", "queue.max_bytes", "int", "Encoded requests that may wait for the destination.",
            64 * 2**20, unit="bytes", minimum=1, maximum=2**63 - 1),
    Setting("export_max_bytes_per_s", "queue.export_max_bytes_per_s", "int",
            "The rate at which encoded requests are sent at most; 0 is no limit.", 0, unit="bytes/s"),
    Setting("spool", "spool.enabled", "bool",
            "Whether what can't be delivered goes to disk, where it outlives the process. Only with `exporter=otlp`.",
            True),
    Setting("spool_directory", "spool.directory", "text", "The spool's directory, made when it is needed.", None,
            default_text="`$XDG_STATE_HOME/otelagent/spool`, else `~/.local/state/otelagent/spool`"),
    Setting("spool_max_bytes", "spool.max_bytes", "int",
            "Disk that one service's payloads for one destination may take, all its processes together.",
            256 * 1024 * 1024, unit="bytes", minimum=64 * 1024),
    Setting("spool_max_age_ms", "spool.max_age_ms", "int", "How long what is on disk is kept.", 3 * 86_400_000,
            unit="ms", minimum=1_000),
    Setting("spool_full", "spool.full", "choice",
            "What a full spool does: gives up its oldest file, or leaves what is new in memory.", "drop_oldest",
            choices=("drop_oldest", "reject")),
    Setting("spool_replay_bytes_per_s", "spool.replay_bytes_per_s", "int",
            "The rate at which what an outage has left on disk is sent at most.", 1024 * 1024, unit="bytes/s",
            minimum=1),
    Setting("retry_initial_backoff_ms", "retry.initial_backoff_ms", "int", "First wait after a failed export.", 1_000,
            unit="ms", minimum=1),
    Setting("retry_max_backoff_ms", "retry.max_backoff_ms", "int", "Longest wait between two attempts.", 30_000,
            unit="ms", minimum=1),
    Setting("exit_timeout_ms", "exit_timeout_ms", "int",
            "How long the process may wait for the last export when it ends.", 2_000, unit="ms"),

    Setting("attribute_count_limit", "limits.attribute_count", "int", "Attributes of a span.", 128,
            ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT")),
    Setting("attribute_value_length_limit", "limits.attribute_value_length", "int",
            "Characters of an attribute's value.", None,
            ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"), "characters",
            default_text="no limit"),
    Setting("event_count_limit", "limits.event_count", "int", "Events of a span.", 128,
            ("OTEL_SPAN_EVENT_COUNT_LIMIT",)),
    Setting("link_count_limit", "limits.link_count", "int", "Links of a span.", 128, ("OTEL_SPAN_LINK_COUNT_LIMIT",)),
    Setting("event_attribute_count_limit", "limits.event_attribute_count", "int", "Attributes of an event.", 128,
            ("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT")),
    Setting("link_attribute_count_limit", "limits.link_attribute_count", "int", "Attributes of a link.", 128,
            ("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT")),

    Setting("engine", "engine", "choice", "What records spans.", "auto", choices=("auto", "sdk", "native")),
    Setting("log_level", "log_level", "choice", "What the agent logs about itself.", "info", ("OTEL_LOG_LEVEL",),
            choices=("debug", "info", "warning", "error", "critical"),
            aliases={"trace": "debug", "warn": "warning", "fatal": "critical"}),
    Setting("quiet", "quiet", "bool", "Whether the line at start is left out.", False,
            default_text="`false`; with `console=json` `true`"),
)
# fmt: on

SETTINGS_BY_NAME: dict[str, Setting] = {setting.name: setting for setting in SETTINGS}

# Variables of the specification and of OpenTelemetry Python that this release knows and has no use for: no warning, no
# error. A name that ends in "*" stands for all that start so.
KNOWN_UNUSED: tuple[str, ...] = (
    "OTEL_METRICS_EXPORTER",
    "OTEL_METRICS_EXEMPLAR_FILTER",
    "OTEL_METRIC_*",
    "OTEL_EXPORTER_OTLP_METRICS_*",
    "OTEL_EXPORTER_PROMETHEUS_*",
    "OTEL_EXPORTER_ZIPKIN_*",
    "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS",
    "OTEL_SEMCONV_STABILITY_OPT_IN",
    "OTEL_INSTRUMENTATION_HTTP_*",
    # Choices of the stock SDK's parts, which otelagent constructs itself.
    "OTEL_PYTHON_CONTEXT",
    "OTEL_PYTHON_CONFIGURATOR",
    "OTEL_PYTHON_DISTRO",
    "OTEL_PYTHON_ID_GENERATOR",
    "OTEL_PYTHON_TRACER_PROVIDER",
    "OTEL_PYTHON_METER_PROVIDER",
    "OTEL_PYTHON_LOGGER_PROVIDER",
    "OTEL_PYTHON_TRACER_CONFIGURATOR",
    "OTEL_PYTHON_METER_CONFIGURATOR",
    "OTEL_PYTHON_LOGGER_CONFIGURATOR",
    "OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED",
    "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED",
    "OTEL_PYTHON_EXPORTER_OTLP_*",
)
