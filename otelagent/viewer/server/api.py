"""The API of the page, of terminals and scripts: JSON below ``/api/``."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from functools import partial
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from otelagent.version import VERSION
from otelagent.viewer.server import share
from otelagent.viewer.server.answers import Refused, refusal
from otelagent.viewer.server.bodies import read_body
from otelagent.viewer.server.checks import checks
from otelagent.viewer.server.parameters import (
    MAX_ID,
    PARAMETERS,
    between,
    flag,
    hexadecimal,
    integer,
    known,
    limit,
    log_position,
    milliseconds,
)
from otelagent.viewer.store import detail, export, listing, overview

if TYPE_CHECKING:
    from starlette.requests import Request

    from otelagent.viewer.server.events import Changes
    from otelagent.viewer.server.receiver import Receiver
    from otelagent.viewer.server.safety import Gate
    from otelagent.viewer.store.store import Store

__all__ = ["PAGE", "Api"]

PAGE = Path(__file__).resolve().parent.parent / "page"

_log = logging.getLogger(__name__)

_MAX_CONDITIONS = 16
_MAX_IMPORT_BYTES = 256 * 1024 * 1024
_MAX_OBJECT_BYTES = 64 * 1024 * 1024
"""Of an import, read at once: some ten times as much in memory."""
_MAX_NAMED = 20
_SIGNAL_OF = {"resourceSpans": "traces", "resourceLogs": "logs", "resourceMetrics": "metrics"}


class Api:
    """The routes.

    :param endpoints: gives where telemetry is taken: ``http``, ``grpc`` (None where it isn't).
    :param without_grpc: gives why it isn't.
    :param gate: whose refusals `status` tells, and whose token `session` checks.
    """

    def __init__(
        self,
        store: Store,
        receiver: Receiver,
        changes: Changes,
        gate: Callable[[], Gate],
        endpoints: Callable[[], Mapping[str, str | None]],
        without_grpc: Callable[[], str],
    ) -> None:
        self._store = store
        self._receiver = receiver
        self._changes = changes
        self._gate = gate
        self._endpoints = endpoints
        self._importing = asyncio.Lock()
        self._without_grpc = without_grpc

    def routes(self) -> list[Route]:
        """All of them."""
        get: Mapping[str, Callable[[Request], Any]] = {
            "/api/status": self.status,
            "/api/checks": self.checks,
            "/api/traces": self.traces,
            "/api/traces/{trace}": partial(self._one, detail.trace),
            "/api/traces/{trace}/spans/{span}": self.span,
            "/api/traces/{trace}/search": self.search,
            "/api/traces/{trace}/otlp": self.otlp,
            "/api/traces/{trace}/share": self.share,
            "/api/services": self.services,
            "/api/operations": self.operations,
            "/api/map": self.map,
            "/api/logs": self.logs,
            "/api/metrics": self.metrics,
            "/api/metrics/{metric:int}/points": self.points,
            "/api/events": self.events,
            "/api/follow": self.follow,
        }
        post = {"/api/session": self.session, "/api/import": self.take}
        return [
            Route(path, self._guarded(handler, PARAMETERS[path]), methods=[method])
            for method, handlers in (("GET", get), ("POST", post))
            for path, handler in handlers.items()
        ]

    def _guarded(self, handler: Callable[[Request], Any], parameters: tuple[str, ...]) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            try:
                known(request.scope["path"], request.query_params, parameters)
                found = await handler(request)
            except Refused as error:
                refused = error
            except sqlite3.Error as error:
                refused = _failed(error)
            except Exception as error:
                _log.exception("%s failed", request.scope["path"])
                refused = Refused(500, "failed", f"a defect of the viewer: {type(error).__name__}")
            else:
                # A trace of a hundred thousand spans takes a second to write: not on the loop that all wait for.
                return found if isinstance(found, Response) else await run_in_threadpool(_json, found)
            self._receiver.count(refused.code)
            return refusal(request, refused)

        return answer

    async def session(self, request: Request) -> Response:
        """Swaps the token for a cookie, so that it needn't stay in the address."""
        body = await read_body(request, 4096)
        gate = self._gate()
        if not gate.right(body.decode("utf-8", "replace").strip()):
            raise Refused(401, "no_token", "this is not the token of this run: open the address that otelagent printed")
        response = Response(status_code=204)
        response.set_cookie(gate.cookie, body.decode().strip(), path="/api", httponly=True, samesite="strict")
        return response

    async def status(self, request: Request) -> dict[str, Any]:
        """What the viewer is and holds."""
        return {
            "version": VERSION,
            "pid": os.getpid(),
            "endpoints": dict(self._endpoints()),
            "store": await run_in_threadpool(self._store.status),
            "left_out": self._receiver.left_out,
            "refused": {**self._receiver.refused, **self._gate().refused},
        }

    async def checks(self, request: Request) -> Any:
        """Why the page is empty, or lacks something; see `otelagent.doctor.check.Result.to_dict`."""
        arguments = self._store, self._receiver, self._endpoints(), self._without_grpc(), dict(self._gate().refused)
        return {"checks": await run_in_threadpool(checks, *arguments)}

    async def traces(self, request: Request) -> dict[str, Any]:
        """The list; see `listing.traces` and `listing.slowest`."""
        asked = request.query_params
        sort = asked.get("sort", "") or "latest"
        before = integer(asked, "before")
        if sort not in ("latest", "slowest"):
            raise Refused(400, "bad_order", f"sort={sort[:40]!r} must be latest or slowest")
        if sort == "slowest" and before is not None:
            raise Refused(
                400, "bad_order", "the slowest have no further page: ask for more of them, or for a shorter time"
            )
        try:
            attributes = tuple(listing.attribute_filter(text) for text in asked.getlist("attr") if text.strip())
        except ValueError as error:
            raise Refused(400, "bad_filter", str(error)) from None
        if len(attributes) > _MAX_CONDITIONS:
            raise Refused(400, "bad_filter", f"at most {_MAX_CONDITIONS} conditions on attributes")
        wanted = listing.TraceFilter(
            service=asked.get("service", ""),
            operation=asked.get("operation", ""),
            error=flag(asked, "error"),
            min_ns=milliseconds(asked, "min_ms"),
            max_ns=milliseconds(asked, "max_ms"),
            from_ns=integer(asked, "from"),
            to_ns=integer(asked, "to"),
            # FTS5 takes a zero byte for the end of the query.
            text=asked.get("q", "").replace("\0", " ").strip(),
            attributes=attributes,
        )
        found: dict[str, Any] = (
            await self._read(listing.slowest, wanted, limit(asked))
            if sort == "slowest"
            else await self._read(listing.traces, wanted, limit(asked), before)
        )
        return found

    async def _one(self, query: Callable[..., Any], request: Request) -> Any:
        found = await self._read(query, _id(request, "trace", 16))
        if found is None:
            raise Refused(404, "no_trace", "there is no such trace here, or not any more")
        return found

    async def span(self, request: Request) -> Any:
        """One span in full."""
        found = await self._read(detail.span, _id(request, "trace", 16), _id(request, "span", 8))
        if found is None:
            raise Refused(404, "no_span", "there is no such span here, or not any more")
        return found

    async def search(self, request: Request) -> Any:
        """What of a trace holds a text."""
        return await self._one(partial(detail.search, text=request.query_params.get("q", "")), request)

    async def otlp(self, request: Request) -> Response:
        """A trace as OTLP/JSON, to be kept."""
        try:
            found = await self._one(export.traces_data, request)
        except export.TooLarge as error:
            raise Refused(413, "too_large", str(error)) from None
        name = f"trace-{request.path_params['trace']}.json"
        return Response(
            await run_in_threadpool(json.dumps, found, ensure_ascii=False),
            media_type="application/json",
            headers={"content-disposition": f'attachment; filename="{name}"'},
        )

    async def share(self, request: Request) -> Response:
        """A trace as one HTML file."""
        found = await self._one(share.whole_trace, request)
        text = await run_in_threadpool(share.page_of, found, PAGE)
        name = f"trace-{request.path_params['trace']}.html"
        return Response(text, media_type="text/html", headers={"content-disposition": f'attachment; filename="{name}"'})

    async def services(self, request: Request) -> Any:
        """Their names."""
        return await self._read(overview.services)

    async def operations(self, request: Request) -> Any:
        """Of a service."""
        return await self._read(overview.operations, request.query_params.get("service", ""))

    async def map(self, request: Request) -> Any:
        """Who calls whom."""
        return await self._read(overview.service_map, *between(request.query_params))

    async def logs(self, request: Request) -> Any:
        """Log records."""
        asked = request.query_params
        trace = asked.get("trace", "")
        return await self._read(
            overview.logs,
            service=asked.get("service", ""),
            severity=integer(asked, "severity") or 0,
            text=asked.get("q", ""),
            trace_id=hexadecimal(trace, 16, "trace") if trace else None,
            before=log_position(asked),
            limit=limit(asked),
        )

    async def metrics(self, request: Request) -> Any:
        """Their names."""
        return {"metrics": await self._read(overview.metrics, request.query_params.get("service", ""))}

    async def points(self, request: Request) -> Any:
        """Of one metric."""
        low, high = between(request.query_params)
        return {"series": await self._read(overview.points, min(request.path_params["metric"], MAX_ID), low, high)}

    async def take(self, request: Request) -> Any:
        """Imports OTLP/JSON: one object, or one a line as the exporter ``file`` writes them. Names the first traces."""
        if self._importing.locked():
            raise Refused(429, "busy", "another import is under way: wait for it")
        async with self._importing:
            return await self._import(await read_body(request, _MAX_IMPORT_BYTES))

    async def _import(self, body: bytes) -> dict[str, Any]:
        spans = logs = points = left_out = 0
        traces: dict[str, None] = {}
        for line in _objects(body):
            head = line[:4096]
            signal = next((name for key, name in _SIGNAL_OF.items() if f'"{key}"'.encode() in head), None)
            if signal is None:
                told = Refused(400, "malformed", f"OTLP/JSON begins with one of {', '.join(_SIGNAL_OF)}")
                raise _after(told, spans + logs + points)
            try:
                batch = await self._receiver.take(signal, line, json=True, aside=True)
            except Refused as error:
                raise _after(error, spans + logs + points) from None
            spans += len(batch.spans) + len(batch.running)
            logs += len(batch.logs)
            points += len(batch.points)
            left_out += sum(batch.rejected.values())
            for span in batch.spans if len(traces) < _MAX_NAMED else ():
                traces[span[0].hex()] = None
        named = list(traces)[:_MAX_NAMED]
        return {"spans": spans, "logs": logs, "points": points, "left_out": left_out, "traces": named}

    async def events(self, request: Request) -> Response:
        """Notifications for the page."""
        self._need_room()
        return StreamingResponse(
            self._changes.events(), media_type="text/event-stream", headers={"cache-control": "no-store"}
        )

    async def follow(self, request: Request) -> Response:
        """A line of JSON for each trace that is new or has grown, for terminals and scripts.

        ``{"more": true}`` stands for those that were too many at once.
        """
        self._need_room()

        async def lines() -> AsyncIterator[bytes]:
            async for change in self._changes.watch():
                for trace in change["traces"] if change is not None else ():
                    found = await self._read(listing.summary, bytes.fromhex(trace))
                    if found is not None:
                        yield json.dumps(found, ensure_ascii=False).encode() + b"\n"
                if change is not None and change["more"]:
                    yield b'{"more": true}\n'

        return StreamingResponse(lines(), media_type="application/x-ndjson", headers={"cache-control": "no-store"})

    def _need_room(self) -> None:
        if self._changes.full:
            raise Refused(429, "busy", "too many watch already: close a page or a script that does")

    async def _read(self, query: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        return await run_in_threadpool(self._store.read, query, *arguments, **options)


def _failed(error: sqlite3.Error) -> Refused:
    if "interrupted" in str(error):
        return Refused(503, "too_slow", "the search took too long: ask for less")
    _log.error("the store can't be read: %s", error)
    return Refused(500, "store_failed", f"the store can't be read: {error}")


def _after(error: Refused, items: int) -> Refused:
    """The refusal of an import, of which some is stored already."""
    told = f"{error} ({items} items before that are imported)" if items else str(error)
    return Refused(error.status, error.code, told)


def _objects(body: bytes) -> Iterator[bytes]:
    """The body's lines, or the whole of it where that is one object written over many lines."""
    lines = (line for line in BytesIO(body) if line.strip())
    first = next(lines, b"")
    whole = not first.rstrip().endswith(b"}")
    for one in [body] if whole and first else chain([first] if first else [], lines):
        if len(one) > _MAX_OBJECT_BYTES:
            raise Refused(413, "too_large", f"an object of more than {_MAX_OBJECT_BYTES} bytes is not imported")
        yield one


def _json(value: Any) -> Response:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return Response(text, media_type="application/json", headers={"cache-control": "no-store"})


def _id(request: Request, name: str, size: int) -> bytes:
    return hexadecimal(request.path_params[name], size, name)
