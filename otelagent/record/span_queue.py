"""Ended spans of the stock SDK on their way to an OTLP request."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from opentelemetry.sdk.trace import ReadableSpan

from otelagent.record.rate_limited_log import RateLimitedLog, RateLimitFilter

if TYPE_CHECKING:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    from otelagent.record.engine import LedgerPort

__all__ = ["SpanQueue"]

_log = RateLimitedLog(logging.getLogger(__name__))

# What encoding a span may raise. SystemExit comes from a value whose code calls sys.exit().
_ISOLATED = (Exception, SystemExit)


class SpanQueue:
    """Ended spans that wait to be encoded: the batch's source.

    No lock: appending to and popping from a deque are atomic. Each is popped once, so each is counted once. The limit
    is checked before the append, so that n threads ending spans at the same instant may exceed it by n - 1.

    :param ledger: hears of spans refused and of spans that can't be encoded.
    :param max_items: most spans that wait; the newest is refused when full.
    """

    def __init__(self, ledger: LedgerPort, max_items: int) -> None:
        self._ledger = ledger
        self._max_items = max_items
        self._spans: deque[ReadableSpan] = deque()

    def offer(self, span: ReadableSpan) -> int:
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
        """Takes and encodes up to `max_items`; a span that can't be encoded is dropped alone, as `encode_error`."""
        while spans := self._take(max_items):
            try:
                return _encode(spans), len(spans)
            except _ISOLATED:
                pass
            good = [span for span in spans if self._encodable(span)]
            if not good:
                continue
            try:
                return _encode(good), len(good)
            except _ISOLATED:
                # Each can be encoded and all together can't: 2 GiB of protobuf, or no memory.
                self._ledger.dropped(len(good), "encode_error")
                _log.warning("batch", "A batch of %d spans can't be encoded", len(good), exc_info=True)
        return None

    def discard(self, reason: str) -> None:
        """Drops every waiting span under `reason`."""
        while spans := self._take(512):
            self._ledger.dropped(len(spans), reason)

    def forget(self) -> None:
        """Lets go of every waiting span uncounted."""
        self._spans = deque()

    def _take(self, max_items: int) -> list[ReadableSpan]:
        taken: list[ReadableSpan] = []
        try:
            while len(taken) < max_items:
                taken.append(self._spans.popleft())
        except IndexError:
            pass
        return taken

    def _encodable(self, span: ReadableSpan) -> bool:
        try:
            _encode([span])
        except _ISOLATED as error:
            self._ledger.dropped(1, "encode_error")
            _log.warning("encode", "A span can't be encoded and is dropped: %s", type(error).__name__, exc_info=True)
            return False
        return True


_Encoder = Callable[[Sequence[ReadableSpan]], "ExportTraceServiceRequest"]

_encoder: _Encoder | None = None


def _encode(spans: Sequence[ReadableSpan]) -> bytes:
    encode_spans = _encoder or _import_encoder()
    return encode_spans(spans).SerializeToString()


def _import_encoder() -> _Encoder:
    # Imported at the first batch: protobuf costs tens of milliseconds that the application's start shouldn't pay.
    global _encoder
    with _import_gate.entered:
        from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

        # It logs each attribute value that it can't encode, with a traceback.
        logging.getLogger("opentelemetry.exporter.otlp.proto.common._internal").addFilter(RateLimitFilter())
        _encoder = encode_spans
    return encode_spans


class _ImportGate:
    """Keeps a fork out of the import that the batch thread is in.

    A module's import lock isn't released in a fork child when another thread held it at the fork: whoever imports that
    module in the child then waits for ever. So a fork waits for the import, once in a process's life and for as long as
    an import takes; after five seconds it goes ahead.
    """

    def __init__(self) -> None:
        self.entered = threading.Lock()
        self._closed = False
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=self._close, after_in_parent=self._open, after_in_child=self._renew)

    def _close(self) -> None:
        if _encoder is None:
            self._closed = self.entered.acquire(timeout=5.0)

    def _open(self) -> None:
        if self._closed:
            self._closed = False
            self.entered.release()

    def _renew(self) -> None:
        self._closed = False
        self.entered = threading.Lock()


_import_gate = _ImportGate()
