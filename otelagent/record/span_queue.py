"""Ended spans, and log records, of the stock SDK on their way to an OTLP request."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace import ReadableSpan

from otelagent.fork_gate import whole_imports
from otelagent.record.rate_limited_log import RateLimitedLog, RateLimitFilter

if TYPE_CHECKING:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    from otelagent.record.engine import LedgerPort

__all__ = ["SpanQueue"]

_log = RateLimitedLog(logging.getLogger(__name__))

# What encoding a span may raise. SystemExit comes from a value whose code calls sys.exit().
_ISOLATED = (Exception, SystemExit)

# What a request may have unless it is of a single span, bytes. Servers refuse more than a few MiB: gRPC's own limit.
_MAX_REQUEST_BYTES = 4 * 1024 * 1024


class SpanQueue:
    """Ended spans, or another signal's items, that wait to be encoded: the batch's source.

    No lock: appending to and popping from a deque are atomic. Each is popped once, so each is counted once. The limit
    is checked before the append, so that n threads ending spans at the same instant may exceed it by n - 1.

    :param ledger: hears of spans refused and of spans that can't be encoded.
    :param max_items: most spans that wait; the newest is refused when full.
    :param encode: makes the request of some items; of spans by default.
    :param item: what an item is called in messages.
    """

    def __init__(
        self,
        ledger: LedgerPort,
        max_items: int,
        encode: Callable[[Sequence[Any]], bytes] | None = None,
        item: str = "span",
    ) -> None:
        self._ledger = ledger
        self._encode = encode or (lambda spans: _encode(spans))
        self._item = item
        self._max_items = max_items
        self._spans: deque[Any] = deque()
        # How many spans may fit into a request, by the last ones: or each would be encoded anew for every halving.
        self._fitting = max_items

    def offer(self, span: Any) -> int:
        """Takes a span, or drops it as `queue_full`.

        :returns: how many wait now, 0 when it was refused.
        """
        pending = len(self._spans)
        if pending >= self._max_items:
            self._ledger.dropped(1, "queue_full")
            return 0
        self._spans.append(span)
        return pending + 1

    def pending(self) -> int:
        """How many spans wait."""
        return len(self._spans)

    def drain(self, max_items: int) -> tuple[bytes, int] | None:
        """Takes and encodes up to `max_items`, fewer if they would be more than 4 MiB.

        A span that can't be encoded is dropped alone, as `encode_error`.
        """
        spans: list[Any] = []
        try:
            while True:
                self._take_into(spans, min(max_items, self._fitting))
                if not spans:
                    return None
                body = self._encode_some(spans)
                if body is not None:
                    return body, len(spans)
        except BaseException:
            # Ctrl-C, or a timeout of gevent's: they are nobody's yet, and wait again.
            self._put_back(spans)
            raise

    def _encode_some(self, spans: list[Any]) -> bytes | None:
        # Of `spans`, leaves those that are in the returned request; None if none can be encoded.
        while spans:
            try:
                body = self._encode(spans)
            except _ISOLATED:
                self._drop_bad(spans)
                continue
            if len(body) <= _MAX_REQUEST_BYTES or len(spans) == 1:
                if len(body) <= _MAX_REQUEST_BYTES // 2:
                    self._fitting = min(max(self._fitting, 2 * len(spans)), self._max_items)
                return body
            self._fitting = len(spans) // 2
            self._put_back(spans, self._fitting)
        return None

    def discard(self, reason: str) -> None:
        """Drops every waiting span under `reason`."""
        spans: list[Any] = []
        try:
            while True:
                self._take_into(spans, 512)
                if not spans:
                    return
                self._ledger.dropped(len(spans), reason)
                spans.clear()
        except BaseException:
            self._put_back(spans)
            raise

    def forget(self) -> None:
        """Lets go of every waiting span uncounted."""
        self._spans = deque()

    def _take_into(self, taken: list[Any], max_items: int) -> None:
        # One call, so that nothing comes between the taking and the having: a signal's handler runs after it.
        try:
            taken.extend(islice(iter(self._spans.popleft, None), max_items))
        except IndexError:
            pass

    def _put_back(self, taken: list[Any], kept: int = 0) -> None:
        # In the same order; those of `discard` and `forget` in the meantime are gone.
        self._spans.extendleft(reversed(taken[kept:]))
        del taken[kept:]

    def _drop_bad(self, spans: list[Any]) -> None:
        # From the end, so that what is still there when something interrupts is still to be looked at.
        dropped = 0
        for position in reversed(range(len(spans))):
            try:
                self._encode(spans[position : position + 1])
            except _ISOLATED as error:
                del spans[position]
                self._ledger.dropped(1, "encode_error")
                dropped += 1
                _log.warning(
                    "encode",
                    "A %s can't be encoded and is dropped: %s",
                    self._item,
                    type(error).__name__,
                    exc_info=True,
                )
        if not dropped:
            # Each can be encoded and all together can't: no memory for that.
            self._fitting = max(1, len(spans) // 2)
            self._put_back(spans, self._fitting)


_Encoder = Callable[[Sequence[ReadableSpan]], "ExportTraceServiceRequest"]

_encoder: _Encoder | None = None


def _encode(spans: Sequence[ReadableSpan]) -> bytes:
    encode_spans = _encoder or _import_encoder()
    return encode_spans(spans).SerializeToString()


def _import_encoder() -> _Encoder:
    # Imported at the first batch: protobuf costs tens of milliseconds that the application's start shouldn't pay.
    global _encoder
    with whole_imports():
        from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

        # It logs each attribute value that it can't encode, with a traceback.
        logging.getLogger("opentelemetry.exporter.otlp.proto.common._internal").addFilter(RateLimitFilter())
        _encoder = encode_spans
    return encode_spans
