"""Sends spans to an OTLP/HTTP address as fast as they are taken:
``python -m benchmarks.wire ADDRESS SHAPE SECONDS [MAX_SPANS [spread]]``.

Bodies of 2,000 five-attribute spans are encoded once; before one is sent again its ids, times and one attribute are
overwritten, so that making them costs next to nothing, and the same whoever takes them. Prints one line of JSON.
With ``spread`` the times are those of the last 24 hours, and one span in 100,000 takes 3 s and ends with an exception.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

__all__ = ["BATCH", "DAY_S", "SHAPES", "Body", "Sent", "long_trace", "send"]

BATCH = 2_000
SHAPES = {"one": 1, "two": 2, "ten": 10}
"""Spans of a trace; telemetrygen's traces have two."""
CONNECTIONS = 4
SERVICES, OPERATIONS = 4, 12
DAY_S = 86_400
RARE_BODIES = 50
_HEADERS = {"Content-Type": "application/x-protobuf"}
# Overwritten in every body: the upper half of times, and a text of the same length in an attribute.
_TIME = b"\xfe\xed\xfa\x7e"
_TEXT = b"BODYBODY"


class Body:
    """One encoded request that can be made new again and again.

    :param spans_per_trace: of which all but the first are children of the first.
    :param rare: whether the last span is a slow one with an exception.
    """

    def __init__(self, spans_per_trace: int, spans: int = BATCH, *, rare: bool = False) -> None:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
        from opentelemetry.proto.trace.v1.trace_pb2 import Status

        self.spans = spans
        request = ExportTraceServiceRequest()
        scopes = []
        for number in range(SERVICES):
            resource = request.resource_spans.add()
            resource.resource.attributes.add(key="service.name").value.string_value = f"service-{number}"
            resource.resource.attributes.add(key="service.version").value.string_value = "1.0.0"
            scopes.append(resource.scope_spans.add())
            scopes[-1].scope.name = "benchmark"
        ids: list[list[tuple[bytes, bytes, bytes]]] = [[] for _ in scopes]
        time_base = int.from_bytes(_TIME, "little") << 32
        for number in range(spans):
            place = number % spans_per_trace
            if not place:
                trace, root = os.urandom(16), b""
            # A trace goes through several services, as real ones do.
            service = (number // spans_per_trace + place // 3) % SERVICES
            one = (trace, os.urandom(8), root)
            root = root or one[1]
            ids[service].append(one)
            start = time_base + 1_000_000 * (number // spans_per_trace) + 1_000 * place
            span = scopes[service].spans.add(
                trace_id=one[0],
                span_id=one[1],
                parent_span_id=one[2],
                name=f"GET /items/{number % OPERATIONS}",
                kind=2 if not place else 1,
                start_time_unix_nano=start,
                end_time_unix_nano=start + 1_000 * (1 + number * 7919 % 2_000),
            )
            if number % 100 == 99:
                span.status.code = Status.STATUS_CODE_ERROR
            if rare and number == spans - 1:
                span.end_time_unix_nano = start | 2**32 - 1
                event = span.events.add(name="exception", time_unix_nano=1)
                event.attributes.add(key="exception.type").value.string_value = "TimeoutError"
                event.attributes.add(key="exception.message").value.string_value = "the warehouse does not answer"
            _put_attributes(span, number, f"{_TEXT.decode()}{number:08x}")
        self._template = request.SerializeToString()
        if self._template.count(_TIME) != 2 * spans or self._template.count(_TEXT) != spans:
            raise AssertionError("the marks occur in what they should not")
        self._traces: dict[bytes, list[int]] = {}
        self._ids: dict[bytes, list[int]] = {}
        at = 0
        for trace, span_id, parent in (one for of in ids for one in of):
            at = self._template.index(trace, at)
            self._traces.setdefault(trace, []).append(at)
            at = self._template.index(span_id, at)
            self._ids.setdefault(span_id, []).append(at)
            if parent:
                at = self._template.index(parent, at)
                self._ids.setdefault(parent, []).append(at)

    def fresh(self, number: int, time_ns: int | None = None) -> bytearray:
        """The request with other ids.

        :param number: of the body; the attribute that differs says it.
        :param time_ns: about when it is; now by default.
        """
        high = ((time.time_ns() if time_ns is None else time_ns) >> 32).to_bytes(4, "little")
        body = bytearray(self._template.replace(_TIME, high).replace(_TEXT, b"%08x" % number))
        for size, places in ((16, self._traces), (8, self._ids)):
            fresh = random.randbytes(size * len(places))
            for index, offsets in enumerate(places.values()):
                one = fresh[size * index : size * index + size]
                for at in offsets:
                    body[at : at + size] = one
        return body


@dataclass
class Sent:
    """What came of it, in spans.

    :ivar taken: answered with 200.
    :ivar refused: by the answer's status; they were not sent again.
    """

    spans: int = 0
    taken: int = 0
    refused: dict[int, int] = field(default_factory=dict)
    seconds: float = 0.0
    process_s: float = 0.0


def _put_attributes(span: Any, number: int, request: str) -> None:
    put = span.attributes.add
    put(key="http.request.method").value.string_value = "GET"
    put(key="url.path").value.string_value = f"/items/{number % OPERATIONS}"
    put(key="http.response.status_code").value.int_value = 200
    put(key="item.number").value.int_value = number
    put(key="request.id").value.string_value = request


def long_trace(spans: int) -> tuple[bytes, list[bytes]]:
    """The id of one trace, and the requests that it comes in; a span's parent is some span before it."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    trace, ids = os.urandom(16), [os.urandom(8) for _ in range(spans)]
    start, bodies = time.time_ns() - 10**10, []
    for first in range(0, spans, BATCH):
        request = ExportTraceServiceRequest()
        resource = request.resource_spans.add()
        resource.resource.attributes.add(key="service.name").value.string_value = "service-0"
        scope = resource.scope_spans.add()
        for number in range(first, min(first + BATCH, spans)):
            span = scope.spans.add(
                trace_id=trace,
                span_id=ids[number],
                parent_span_id=ids[random.randrange(max(0, number - 200), number)] if number else b"",
                name=f"GET /items/{number % OPERATIONS}",
                start_time_unix_nano=start + 100_000 * number,
                end_time_unix_nano=start + 100_000 * (number + 20),
            )
            _put_attributes(span, number, f"{number:016x}")
        bodies.append(request.SerializeToString())
    return trace, bodies


def send(
    address: str,
    shape: str,
    seconds: float,
    *,
    max_spans: int = 0,
    spread: bool = False,
    connections: int = CONNECTIONS,
) -> Sent:
    """Sends until the time is over, or so many spans are sent.

    :param spread: times are those of the last 24 hours, and few spans are slow ones with an exception.
    :raises OSError: the connection broke: it isn't known what has become of the spans.
    """
    sent = Sent()
    lock = threading.Lock()
    errors: list[OSError] = []
    numbers: Iterator[int] = iter(range(2**32))
    bodies = [(Body(SHAPES[shape]), Body(SHAPES[shape], rare=True)) for _ in range(connections)]
    day_ns, first_ns = DAY_S * 10**9, time.time_ns() - DAY_S * 10**9
    began, process = time.perf_counter(), time.process_time()

    def work(usual: Body, rare: Body) -> None:
        target = urllib.parse.urlsplit(address)
        connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=60)
        while time.perf_counter() - began < seconds:
            with lock:
                if max_spans and sent.spans >= max_spans:
                    return
                sent.spans += BATCH
                number = next(numbers)
            body = rare if spread and number % RARE_BODIES == RARE_BODIES - 1 else usual
            time_ns = first_ns + day_ns * number * BATCH // max_spans if spread else None
            try:
                connection.request("POST", "/v1/traces", body.fresh(number, time_ns), _HEADERS)
                with connection.getresponse() as answer:
                    text = answer.read()
            except OSError as error:
                errors.append(error)
                return
            rejected = _rejected(text) if answer.status == 200 and text else 0
            with lock:
                if answer.status == 200:
                    sent.taken += body.spans - rejected
                if (lost := rejected or (body.spans if answer.status != 200 else 0)) > 0:
                    sent.refused[answer.status] = sent.refused.get(answer.status, 0) + lost
            if answer.status != 200:
                time.sleep(0.05)
        connection.close()

    threads = [threading.Thread(target=work, args=pair) for pair in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    sent.seconds, sent.process_s = time.perf_counter() - began, time.process_time() - process
    return sent


def _rejected(answer: bytes) -> int:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    return int(ExportTraceServiceResponse.FromString(answer).partial_success.rejected_spans)


def main() -> None:
    """One run."""
    address, shape, seconds, *more = sys.argv[1:]
    sent = send(address, shape, float(seconds), max_spans=int(more[0]) if more else 0, spread="spread" in more)
    print(json.dumps(vars(sent)), flush=True)


if __name__ == "__main__":
    main()
