"""The queue of ended spans: how much of it becomes one request, and that an interruption costs nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import pytest

from otelagent.record import span_queue
from tests.unit.record.recorder import Recorder

Record = Callable[..., Recorder]

MIB = 1024 * 1024


@pytest.mark.parametrize("engine", ["sdk"], indirect=True)  # the native queue runs no Python code
def test_an_interrupted_flush_leaves_the_spans_to_the_next(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = record()

    def interrupt(spans: Sequence[object]) -> bytes:
        raise KeyboardInterrupt

    for number in range(10):
        recorder.tracer.start_span(str(number)).end()
    with monkeypatch.context() as patched:
        patched.setattr(span_queue, "encode_spans", interrupt)
        with pytest.raises(KeyboardInterrupt):
            recorder.flush()
    assert [span.name for span in recorder.spans()] == [str(number) for number in range(10)]


def test_a_request_has_at_most_4_mib_unless_it_is_one_span(record: Record) -> None:
    recorder = record()
    sizes = [200_000] * 60 + [5 * MIB] + [10] * 50
    for number, size in enumerate(sizes):
        recorder.tracer.start_span(str(number), attributes={"v": "a" * size}).end()
    assert [span.name for span in recorder.spans()] == [str(number) for number in range(len(sizes))]
    assert all(len(body) <= 4 * MIB or items == 1 for _, body, items in recorder.requests)
    assert len(recorder.requests) < 20
    assert recorder.ledger.snapshot().delivered == len(sizes)


def test_large_spans_are_not_encoded_over_and_over(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = record(batch_queue_max_bytes=100 * MIB)
    encoded = 0
    encode = span_queue.encode_spans

    def counting(spans: Sequence[object]) -> bytes:
        nonlocal encoded
        encoded += len(spans)
        return encode(spans)  # type: ignore[arg-type]

    monkeypatch.setattr(span_queue, "encode_spans", counting)
    for _ in range(100):
        recorder.tracer.start_span("a", attributes={"v": "a" * 400_000}).end()
    assert recorder.engine.flush(time.monotonic() + 20)
    assert recorder.ledger.snapshot().delivered == 100
    assert encoded < 400
