"""OTLP/HTTP: a request is answered when it is in the store.

Source: OTLP specification, "OTLP/HTTP". What is not taken is told: 400 for what can't be read, 413 and 415, 429 with
Retry-After where there is no room for the moment, a partial success for items that are left out.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from starlette.responses import Response

from otelagent.viewer.ingest import SIGNALS, Malformed, TooMuch, decode, empty_response
from otelagent.viewer.server.answers import JSON, PROTOBUF, Refused, media_of, refusal
from otelagent.viewer.server.arrivals import Arrivals
from otelagent.viewer.server.bodies import MAX_BODY_BYTES, read_body

if TYPE_CHECKING:
    from starlette.requests import Request

    from otelagent.viewer.rows import Batch
    from otelagent.viewer.store.store import Store

__all__ = ["Receiver"]

_MAX_BODIES_BYTES = 3 * MAX_BODY_BYTES
_ROOM_EVERY_S = 0.05


class Receiver:
    """Takes requests of all signals.

    :ivar refused: requests that were not taken, by code.
    :ivar left_out: items of requests that were, by reason: what a partial success tells the sender.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        # One thread: decoding holds the interpreter's lock anyway, and so what it takes in memory has a bound.
        self._decoding = ThreadPoolExecutor(1, "otelagent-viewer-decode")
        self._decoding_aside = ThreadPoolExecutor(1, "otelagent-viewer-import")
        self._bytes = 0
        self.refused: dict[str, int] = {}
        self.left_out: dict[str, int] = {}
        self.arrivals = Arrivals()

    def close(self) -> None:
        """Ends the threads."""
        self._decoding.shutdown()
        self._decoding_aside.shutdown()

    async def receive(self, request: Request) -> Response:
        """``POST /v1/{signal}``."""
        signal = request.path_params["signal"]
        media = media_of(request)
        try:
            if signal not in SIGNALS:
                raise Refused(404, "unknown_signal", f"there is no /v1/{signal[:40]}: {', '.join(SIGNALS)}")
            if media not in (PROTOBUF, JSON):
                raise Refused(415, "unknown_type", f"Content-Type must be {PROTOBUF} or {JSON}, not {media[:60]!r}")
            with self.room() as keep:
                body = await read_body(request, keep=keep)
                batch = await self.take(signal, body, json=media == JSON)
            self.arrivals.took(batch)
        except Refused as error:
            self.count(error.code)
            return refusal(request, error)
        return _answer(signal, batch, media)

    async def miss(self, request: Request) -> Response:
        """``POST`` to a path that nothing takes."""
        self.arrivals.missed(request.scope["path"])
        self.count("wrong_path")
        paths = ", ".join(f"/v1/{signal}" for signal in SIGNALS)
        return refusal(request, Refused(404, "wrong_path", f"OTLP/HTTP is taken on {paths}"))

    async def take(self, signal: str, body: bytes, *, json: bool, aside: bool = False) -> Batch:
        """Decodes a request and waits until it is in the store.

        :param aside: for what is large and not live: it is decoded beside what is, and waits where there is no room.
        :raises Refused: it can't be read, or there is no room.
        """
        loop = asyncio.get_running_loop()
        thread = self._decoding_aside if aside else self._decoding
        try:
            batch = await loop.run_in_executor(thread, lambda: decode(signal, body, json=json))
        except Malformed as error:
            raise Refused(400, "malformed", str(error)) from None
        except TooMuch as error:
            raise Refused(413, "too_large", str(error)) from None
        while (written := self._store.put(batch)) is None:
            if not aside:
                raise Refused(429, "busy", "the store has more to write than it can hold: send it again")
            await asyncio.sleep(_ROOM_EVERY_S)
        try:
            await asyncio.wrap_future(written)
        except Exception as error:
            raise Refused(503, "store_failed", f"the store could not write it: {error}") from None
        for reason, items in batch.rejected.items():
            self.left_out[reason] = self.left_out.get(reason, 0) + items
        return batch

    @contextmanager
    def room(self) -> Iterator[Callable[[int], None]]:
        """Room for one body until it is stored; gives what is called with the bytes of each part that comes.

        That raises `Refused` when those that are being taken leave no more room.
        """
        kept = 0

        def keep(size: int) -> None:
            nonlocal kept
            if self._bytes > kept and self._bytes + size > _MAX_BODIES_BYTES:
                raise Refused(429, "busy", "too many requests at once: send it again")
            self._bytes += size
            kept += size

        try:
            yield keep
        finally:
            self._bytes -= kept

    def count(self, code: str) -> None:
        """Counts a request that is refused."""
        self.refused[code] = self.refused.get(code, 0) + 1


def _answer(signal: str, batch: Batch, media: str) -> Response:
    response = empty_response(signal, batch)
    if media == JSON:
        from google.protobuf.json_format import MessageToDict

        return Response(json.dumps(MessageToDict(response)), media_type=JSON)
    return Response(response.SerializeToString(), media_type=PROTOBUF)
