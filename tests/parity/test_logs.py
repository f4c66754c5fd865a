"""The same log records give the same request with either engine, field by field; and where not, on purpose, why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from tests.parity.test_differences import differs
from tests.parity.test_programs import contexts, errors, keys, text, values
from tests.support import native_or_skip
from tests.unit.record.log_recorder import LogRecorder

Logs = Callable[..., LogRecorder]

SETTINGS: dict[str, Any] = {
    "logs_attribute_count_limit": 4,
    "logs_attribute_value_length_limit": 6,
    "logs_batch_schedule_delay_ms": 60_000,
}

times = st.one_of(st.none(), st.integers(1, 2**64 - 1))
records = st.fixed_dictionaries(
    {"observed_timestamp": st.integers(1, 2**64 - 1)},
    optional={
        "timestamp": times,
        "context": st.one_of(st.none(), contexts.filter(lambda context: context.is_valid)),
        "severity_number": st.one_of(st.none(), st.sampled_from(SeverityNumber)),
        "severity_text": st.one_of(st.none(), text),
        "body": values,
        "attributes": st.one_of(st.none(), st.dictionaries(keys, values, max_size=6)),
        "event_name": st.one_of(st.none(), text),
        "exception": st.one_of(st.none(), errors),
    },
)
programs = st.lists(
    st.tuples(
        records,
        st.booleans(),
        st.sampled_from([("scope", "1.0"), ("other", None, "https://schema"), ("third", "2", None, {"k": [1]})]),
    ),
    min_size=1,
    max_size=5,
)


def run(recorder: LogRecorder, program: list[tuple[dict[str, Any], bool, tuple[Any, ...]]]) -> list[object]:
    """Emits the records, and returns the requests without what is different in each process."""
    recorder.requests.clear()
    for fields, as_object, scope in program:
        fields = dict(fields)
        if fields.get("context") is not None:
            fields["context"] = trace.set_span_in_context(NonRecordingSpan(fields["context"]), Context())
        logger = recorder.logs.provider.get_logger(*scope)
        if as_object:
            logger.emit(LogRecord(**fields))
        else:
            logger.emit(**fields)
    assert recorder.flush()
    requests = recorder.decoded()
    for request in requests:
        for resource in request.resource_logs:
            for pair in resource.resource.attributes:
                if pair.key == "service.instance.id":
                    pair.value.string_value = ""
    return list(requests)


@pytest.fixture(scope="module")
def pair() -> Any:
    native_or_skip()
    recorders = [LogRecorder(engine, **SETTINGS) for engine in ("sdk", "native")]
    yield recorders
    for recorder in recorders:
        recorder.close()


@settings(max_examples=300)
@given(program=programs)
def test_random_records(pair: list[LogRecorder], program: Any) -> None:
    sdk, native = (run(recorder, program) for recorder in pair)
    assert native == sdk
    counts = [recorder.ledger.snapshot() for recorder in pair]
    assert counts[0] == counts[1]


@differs(sdk=(b"\0" * 7 + b"\5", 1), native=(b"", 0))
def test_an_invalid_span_context_is_none(record_logs: Logs, expected: tuple[bytes, int]) -> None:
    # The API's LogRecord copies what is valid of it. Half an identity finds no trace.
    recorder = record_logs()
    invalid = NonRecordingSpan(SpanContext(0, 5, False, TraceFlags(1)))
    recorder.logger.emit(context=trace.set_span_in_context(invalid, Context()))
    (got,) = recorder.records()
    assert (got.span_id, got.flags) == expected
