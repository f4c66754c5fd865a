"""The agent's books as metrics of the application's own MeterProvider: `otel.sdk.*`, and the whole ledger beside them.

Nothing is measured for it: each instrument reads the ledgers when a metric reader collects. The API's metrics are
imported by the application or not at all.

Source: semantic conventions, "OpenTelemetry SDK metrics" (in development). `otel.sdk.span.live` and `started` are left
out: the engines count spans at their end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from otelagent.environment import hidden
from otelagent.import_hooks import when_imported
from otelagent.struct import struct
from otelagent.version import VERSION

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Observation

    from otelagent.config import Config
    from otelagent.delivery import LedgerSnapshot
    from otelagent.signal_path import SignalPath

__all__ = ["offer_self_metrics"]

_SCOPE = "otelagent"

# What the conventions call the items of a signal, and their unit.
_ITEMS = {"traces": ("span", "{span}"), "logs": ("log", "{log_record}")}
_COMPONENTS = {
    ("otlp", "http/protobuf"): "otlp_http_exporter",
    ("otlp", "grpc"): "otlp_grpc_exporter",
    ("console", ""): "console_exporter",
    ("file", ""): "otelagent_file_exporter",
    ("terminal", ""): "otelagent_terminal_exporter",
    ("none", ""): "otelagent_no_exporter",
}
_PROCESSORS = {"traces": "batching_span_processor", "logs": "batching_log_processor"}
_ERROR = "error.type"
# The conventions have a name of their own for one of our reasons.
_REASONS = {"shutdown": "already_shutdown"}
# What was given up from disk had been handed to the exporter before.
_OF_THE_EXPORTER = "spool_"

Values = Iterator[tuple[int, Mapping[str, str]]]
Attributes = Mapping[str, str]


@struct(frozen=True)
class _Book:
    """One destination's ledger at one moment.

    :ivar in_memory: items that wait in the destination's memory; the rest of `queued` waits to be encoded.
    :ivar capacity: how many may wait to be encoded.
    """

    key: str
    ledger: LedgerSnapshot
    in_memory: int
    capacity: int
    exporter: Attributes
    processor: Attributes


@struct(frozen=True)
class _Metric:
    """An instrument.

    :ivar name: with ``{}`` for what the signal's items are called.
    :ivar kind: what creates it: ``counter``, ``up_down_counter``.
    :ivar of_signal: of the signal, whose processor is one however many destinations there are.
    """

    name: str
    kind: str
    description: str
    values: Callable[[_Book], Values]
    of_signal: bool = False


def _exported(book: _Book) -> Values:
    yield book.ledger.delivered, book.exporter
    for reason, count in book.ledger.rejected.items():
        yield count, {**book.exporter, _ERROR: reason}
    for reason, count in book.ledger.dropped.items():
        if reason.startswith(_OF_THE_EXPORTER):
            yield count, {**book.exporter, _ERROR: reason}


def _inflight(book: _Book) -> Values:
    yield book.in_memory + book.ledger.spooled, book.exporter


def _processed(book: _Book) -> Values:
    ledger = book.ledger
    dropped = {reason: count for reason, count in ledger.dropped.items() if not reason.startswith(_OF_THE_EXPORTER)}
    waiting = max(ledger.queued - book.in_memory, 0)
    # What left the processor for the exporter, whatever became of it there. Adopted items never were in it.
    yield ledger.ended - ledger.sampled_out - waiting - sum(dropped.values()), book.processor
    for reason, count in dropped.items():
        yield count, {**book.processor, _ERROR: _REASONS.get(reason, reason)}


def _queue_size(book: _Book) -> Values:
    yield max(book.ledger.queued - book.in_memory, 0), book.processor


def _queue_capacity(book: _Book) -> Values:
    yield book.capacity, book.processor


def _items(book: _Book) -> Values:
    about = {"otelagent.destination": book.key}
    for state, counts in book.ledger.to_dict().items():
        if isinstance(counts, dict):
            for reason, count in counts.items():
                yield count, {**about, "otelagent.state": state, _ERROR: reason}
        elif isinstance(counts, int) and not isinstance(counts, bool):
            yield counts, {**about, "otelagent.state": state}


_METRICS = (
    _Metric("otel.sdk.exporter.{}.exported", "counter", "Items whose export has ended, well or not.", _exported),
    _Metric(
        "otel.sdk.exporter.{}.inflight",
        "up_down_counter",
        "Items handed to the exporter whose export has not ended: in memory, being sent, or on disk.",
        _inflight,
    ),
    _Metric("otel.sdk.processor.{}.processed", "counter", "Items that the processor is done with.", _processed, True),
    _Metric("otel.sdk.processor.{}.queue.size", "up_down_counter", "Items that wait to be encoded.", _queue_size, True),
    _Metric(
        "otel.sdk.processor.{}.queue.capacity",
        "up_down_counter",
        "Items that may wait to be encoded.",
        _queue_capacity,
        True,
    ),
    _Metric(
        "otelagent.ledger.{}",
        "up_down_counter",
        "Every item by its state: ended + adopted = sampled_out + filtered + delivered + rejected + dropped + spooled"
        " + queued.",
        _items,
    ),
)


def offer_self_metrics(config: Config, paths: Sequence[SignalPath]) -> None:
    """Registers the instruments once the application has imported the API's metrics.

    :param paths: those of the agent; one that is added later is seen too.
    """
    when_imported("opentelemetry.metrics", lambda metrics: _register(metrics, config, paths))


def _register(metrics: Any, config: Config, paths: Sequence[SignalPath]) -> None:
    with hidden("OTEL_PYTHON_METER_PROVIDER"):  # the API would load what it names, or raise
        meter = metrics.get_meter(_SCOPE, VERSION)
    for signal, (item, unit) in _ITEMS.items():
        for metric in _METRICS:
            create = getattr(meter, f"create_observable_{metric.kind}")
            observe = _observer(metrics.Observation, config, paths, signal, metric)
            create(metric.name.format(item), [observe], unit, metric.description)


def _observer(
    observation: Callable[[int, Attributes], Observation],
    config: Config,
    paths: Sequence[SignalPath],
    signal: str,
    metric: _Metric,
) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def observe(options: CallbackOptions) -> Iterable[Observation]:
        return [
            observation(value, attributes)
            for path in tuple(paths)
            if path.signal == signal
            for book in _books(config, path)
            if book.key == signal or not metric.of_signal
            for value, attributes in metric.values(book)
        ]

    return observe


def _books(config: Config, path: SignalPath) -> Iterator[_Book]:
    batch = config.logs.batch if path.signal == "logs" else config.batch
    processor = _component(_PROCESSORS[path.signal], path.signal)
    for key in path.ledgers:
        # Read in this order, an item that moves on in between is seen twice rather than not at all.
        in_memory = path.in_memory(key)
        export = config.export(path.signal, key.partition(":")[2])
        kind = _COMPONENTS[export.exporter, export.otlp.protocol if export.exporter == "otlp" else ""]
        snapshot = path.ledgers[key].snapshot()
        yield _Book(key, snapshot, in_memory, batch.max_queue_size, _component(kind, key), processor)


def _component(kind: str, name: str) -> Attributes:
    return {"otel.component.type": kind, "otel.component.name": f"{kind}/{name}"}
