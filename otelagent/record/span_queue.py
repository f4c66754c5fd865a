"""Ended spans, and log records, of the stock SDK on their way to an OTLP request."""

from __future__ import annotations

import logging
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from itertools import count, islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace import ReadableSpan

from otelagent.fork_gate import whole_imports
from otelagent.record.isolation import ISOLATED
from otelagent.record.rate_limited_log import RateLimitedLog, RateLimitFilter
from otelagent.record.weight import NORMAL, PRIORITIES, weigh_span

if TYPE_CHECKING:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    from otelagent.record.engine import LedgerPort

__all__ = ["EncoderMissing", "SpanQueue", "encode_spans"]

_log = RateLimitedLog(logging.getLogger(__name__))

# What a request may have unless it is of a single span, bytes. Servers refuse more than a few MiB: gRPC's own limit.
_MAX_REQUEST_BYTES = 4 * 1024 * 1024


# Number (they grow from entry to entry, all lanes together), priority, bytes, item. A named tuple takes four times as
# long to make.
_Entry = tuple[int, int, int, Any]

# What an item weighs that can't be weighed: its own code raises, or it is no item of the stock SDK.
_UNKNOWN = (NORMAL, 4096)


class _Lane:
    """What waits of one priority."""

    __slots__ = ("bytes", "entries")

    def __init__(self) -> None:
        self.entries: deque[_Entry] = deque()
        self.bytes = 0

    def take_into(self, taken: list[_Entry], max_items: int) -> None:
        """Moves the oldest."""
        before = len(taken)
        # One call, so that nothing comes between the taking and the having: a signal's handler runs after it.
        try:
            taken.extend(islice(iter(self.entries.popleft, None), max_items))
        except IndexError:
            pass
        self.bytes -= _bytes(taken[before:])

    def put_back(self, taken: list[_Entry], items: int) -> None:
        """Moves the last ones of `taken` to where they were."""
        size = _bytes(taken[len(taken) - items :])
        self.entries.extendleft(islice(iter(taken.pop, None), items))
        self.bytes += size

    def waits(self, until: int) -> bool:
        """Whether the oldest has a lower number."""
        try:
            return self.entries[0][0] < until
        except IndexError:
            return False


class SpanQueue:
    """Ended spans, or another signal's items, that wait to be encoded: the batch's source.

    When there is no room, the oldest of the lowest priority give way, as many as it needs; none, if those below the
    newcomer's own priority are not enough. The oldest, for they begin the lane, and what is said of the present is said
    by the newest.

    No lock: appending to and popping from a deque are atomic. Each is popped once, so each is counted once. The limits
    are checked before the append, so that n threads ending spans at the same instant may exceed them by n - 1. Sizes
    are summed by in-place additions, which no other thread and no signal handler interrupts in CPython with its GIL;
    where one did, the sum of estimates would be off by the size of an item.

    :param ledger: hears of spans refused and of spans that can't be encoded.
    :param max_items: most spans that wait.
    :param max_bytes: most bytes that those that wait or are being encoded may hold, by their estimated sizes; a span
        that alone has more is dropped as `too_large`.
    :param max_batch_items: most spans of a request.
    :param weigh: gives an item's priority and its size in bytes.
    :param encode: makes the request of some items; of spans by default.
    :param item: what an item is called in messages.
    """

    def __init__(
        self,
        ledger: LedgerPort,
        *,
        max_items: int,
        max_bytes: int,
        max_batch_items: int,
        weigh: Callable[[Any], tuple[int, int]] = weigh_span,
        encode: Callable[[Sequence[Any]], bytes] | None = None,
        item: str = "span",
    ) -> None:
        self._ledger = ledger
        self._weigh = weigh
        self._encode = encode or (lambda spans: encode_spans(spans))
        self._item = item
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._max_batch_items = min(max_batch_items, max_items)
        self._enough_bytes = max(1, min(_MAX_REQUEST_BYTES, max_bytes // 2))
        # How many spans may fit into a request, by the last ones: or each would be encoded anew for every halving.
        self._fitting = max_items
        self.forget()

    def offer(self, span: Any) -> bool | None:
        """Takes a span, or drops it as `queue_full` or `too_large`.

        :returns: whether as much waits now as is worth a request; None when it was refused.
        """
        try:
            priority, size = self._weigh(span)
        except ISOLATED:
            priority, size = _UNKNOWN
        high, normal, low = self._lanes
        pending = len(high.entries) + len(normal.entries) + len(low.entries)
        held = high.bytes + normal.bytes + low.bytes + self._encoding_bytes + size
        if (pending >= self._max_items or held > self._max_bytes) and not self._make_room(priority, size):
            return None
        lane = self._lanes[priority]
        lane.entries.append((next(self._numbers), priority, size, span))
        lane.bytes += size
        return pending + 1 >= self._max_batch_items or held >= self._enough_bytes

    def _make_room(self, priority: int, size: int) -> bool:
        lower = self._lanes[priority + 1 :]
        lower_items, lower_bytes = sum([len(lane.entries) for lane in lower]), sum([lane.bytes for lane in lower])
        if size > self._max_bytes:
            self._drop(1, "too_large")
            return False
        if not self._has_room(self.pending() - lower_items, self._held() - lower_bytes + size):
            self._drop(1, "queue_full")
            return False
        while not self._has_room(self.pending(), self._held() + size):
            lane = next((lane for lane in reversed(lower) if lane.entries), None)
            if lane is None:  # Others were faster.
                self._drop(1, "queue_full")
                return False
            self._drop_some(lane, 1, "queue_full")
        return True

    def _has_room(self, others: int, held: int) -> bool:
        return others < self._max_items and held <= self._max_bytes

    def _held(self) -> int:
        return sum([lane.bytes for lane in self._lanes]) + self._encoding_bytes

    def pending(self) -> int:
        """How many wait."""
        return sum([len(lane.entries) for lane in self._lanes])

    def mark(self) -> int:
        """The moment, for `waits` and `drain`."""
        return next(self._numbers)

    def waits(self, until: int) -> bool:
        """Whether anything still waits that came before a moment."""
        return any(lane.waits(until) for lane in self._lanes)

    def enough(self) -> bool:
        """Whether as much waits as is worth a request, by items or by bytes."""
        return (
            self.pending() >= self._max_batch_items or sum([lane.bytes for lane in self._lanes]) >= self._enough_bytes
        )

    def dropped(self) -> dict[str, int]:
        """How many were dropped, by reason, since the queue was made or `forget`."""
        return dict(self._dropped)

    def drain(self, until: int | None = None) -> tuple[bytes, int] | None:
        """Takes and encodes up to `max_batch_items`, fewer if they would be more than 4 MiB: the highest priority first
        and of each the oldest, in the request all in the order of their end.

        A span that can't be encoded is dropped alone, as `encode_error`.

        :param until: a `mark()`: leaves out what came later.
        """
        taken: list[_Entry] = []
        try:
            while True:
                self._take_into(taken, min(self._max_batch_items, self._fitting), until)
                if not taken:
                    return None
                body = self._encode_some(taken)
                if body is not None:
                    return body, len(taken)
        except EncoderMissing as error:
            self._put_back(taken)
            _log.warning("encoder", "Every %s waits: what encodes it can't be imported: %s", self._item, error)
            return None
        except BaseException:
            # Ctrl-C, or a timeout of gevent's: they are nobody's yet, and wait again.
            self._put_back(taken)
            raise
        finally:
            self._encoding_bytes = 0

    def _encode_some(self, taken: list[_Entry]) -> bytes | None:
        # Of `taken`, leaves those that are in the returned request; None if none can be encoded.
        while taken:
            # Each time anew: what is put back counts in its lane again.
            self._encoding_bytes = _bytes(taken)
            try:
                body = self._encode([item for *_, item in sorted(taken, key=_number)])
            except EncoderMissing:
                raise
            except ISOLATED:
                self._drop_bad(taken)
                continue
            if len(body) <= _MAX_REQUEST_BYTES or len(taken) == 1:
                if len(body) <= _MAX_REQUEST_BYTES // 2:
                    self._fitting = min(max(self._fitting, 2 * len(taken)), self._max_items)
                return body
            self._fitting = len(taken) // 2
            self._put_back(taken, self._fitting)
        return None

    def discard(self, reason: str) -> None:
        """Drops every waiting span under `reason`."""
        for lane in self._lanes:
            while lane.entries:
                self._drop_some(lane, 512, reason)

    def forget(self) -> None:
        """Lets go of every waiting span uncounted."""
        self._lanes = tuple([_Lane() for _ in PRIORITIES])
        self._numbers = count()
        self._encoding_bytes = 0
        self._dropped: dict[str, int] = defaultdict(int)

    def _drop(self, items: int, reason: str) -> None:
        self._ledger.dropped(items, reason)
        self._dropped[reason] += items

    def _drop_some(self, lane: _Lane, max_items: int, reason: str) -> None:
        taken: list[_Entry] = []
        try:
            lane.take_into(taken, max_items)
            if taken:
                self._drop(len(taken), reason)
            taken.clear()
        except BaseException:
            lane.put_back(taken, len(taken))
            raise

    def _take_into(self, taken: list[_Entry], max_items: int, until: int | None) -> None:
        for lane in self._lanes:
            before = len(taken)
            if before < max_items and (until is None or lane.waits(until)):
                lane.take_into(taken, max_items - before)
                if until is not None:
                    lane.put_back(taken, sum([number >= until for number, *_ in taken[before:]]))

    def _put_back(self, taken: list[_Entry], kept: int = 0) -> None:
        # In the same order; those of `discard` and `forget` in the meantime are gone.
        for priority, lane in reversed(list(enumerate(self._lanes))):
            lane.put_back(taken, sum([entry[1] == priority for entry in taken[kept:]]))

    def _drop_bad(self, taken: list[_Entry]) -> None:
        # From the end, so that what is still there when something interrupts is still to be looked at.
        dropped = 0
        for position in reversed(range(len(taken))):
            try:
                self._encode([taken[position][3]])
            except ISOLATED as error:
                del taken[position]
                self._drop(1, "encode_error")
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
            self._fitting = max(1, len(taken) // 2)
            self._put_back(taken, self._fitting)


_number = itemgetter(0)


def _bytes(entries: Sequence[_Entry]) -> int:
    return sum([size for _, _, size, _ in entries])


_Encoder = Callable[[Sequence[ReadableSpan]], "ExportTraceServiceRequest"]

_encoder: _Encoder | None = None


class EncoderMissing(Exception):
    """What encodes can't be imported now, as when a process has no descriptor left. That is no fault of the items."""


def encode_spans(spans: Sequence[ReadableSpan]) -> bytes:
    """An OTLP request of spans of the stock SDK.

    :raises EncoderMissing: what encodes them can't be imported.
    """
    encoder = _encoder or _import_encoder()
    return encoder(spans).SerializeToString()


def _import_encoder() -> _Encoder:
    # Imported at the first batch: protobuf costs tens of milliseconds that the application's start shouldn't pay.
    global _encoder
    with whole_imports():
        try:
            from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
        except (OSError, ImportError) as error:
            raise EncoderMissing(str(error)) from error

        # It logs each attribute value that it can't encode, with a traceback.
        logging.getLogger("opentelemetry.exporter.otlp.proto.common._internal").addFilter(RateLimitFilter())
        _encoder = encode_spans
    return encode_spans
