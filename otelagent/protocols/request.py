"""The one SERVER span of an incoming request, whichever server took it and whatever is mounted inside."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any, Protocol

from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.context import Context

from otelagent.patching.operation import Operation, current, extract, propagate, suppressed, without_call
from otelagent.patching.switch import SWITCH
from otelagent.semconv.http import ServerRequest, route_name, server_error
from otelagent.suppression import suppress

__all__ = ["MARKER", "Carrier", "Entrance", "PassedOn", "Request", "accept", "accepted", "current_request", "failed"]

_log = logging.getLogger("otelagent.instrumentation")

#: Where a carrier (an ASGI scope, a WSGI environ) says that its request was taken already. Copies of a carrier keep it,
#: whatever a middleware does to method and path; a carrier made for a call to another application doesn't have it.
MARKER = "otelagent.request"

# The request that the running code serves, for bridges alone: they make a carrier of the other protocol.
_REQUEST_KEY = context_api.create_key("otelagent-request")

# Where bridges (a2wsgi) keep the carrier they made theirs from: the ASGI scope in an environ, the environ in a scope.
_SCOPE, _ENVIRON = _BRIDGED_CARRIERS = ("asgi.scope", "wsgi_environ")

Carrier = MutableMapping[str, Any]

_NO_CONTEXT = Context()


class Entrance(Protocol):
    """How a protocol's carriers are read. Any of the methods may raise: the request is then served untraced.

    :ivar layout: tells an engine that reads requests by itself how they lie: `asgi` or `wsgi`.
    """

    layout: str

    def target(self, carrier: Carrier) -> tuple[str, str]:
        """The HTTP method and the whole path."""

    def describe(self, carrier: Carrier, method: str, path: str) -> ServerRequest:
        """The description of the SERVER span."""

    def url(self, carrier: Carrier, path: str) -> str:
        """The whole URL, not redacted, with the query where there is one."""


class _Taken:
    """A request under way.

    :ivar entrance: the protocol it was taken from.
    :ivar method: the HTTP method.
    :ivar path: the whole path as the server got it, by which an application behind a bridge knows its request again.
    """

    __slots__ = ("_context", "entrance", "method", "path")

    def __init__(self, entrance: Entrance, method: str, path: str) -> None:
        self._context: Context | None = None
        self.entrance = entrance
        self.method = method
        self.path = path

    def take_context(self) -> Context:
        """The context the application runs in, for the one that attaches it. The request lets go of it: the request is
        in there, and the two would be garbage that takes a collector to find."""
        context, self._context = self._context, None
        assert context is not None
        return context

    @property
    def ended(self) -> bool:
        """Whether the response is complete."""
        raise NotImplementedError

    # Applications copy and even pickle their carriers, and what lies in them must not be in the way.

    def __deepcopy__(self, _: dict[int, Any]) -> _Taken:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return (_nothing, ())


def _nothing() -> None:
    """What a pickled mark becomes in another process."""


class PassedOn(_Taken):
    """A request that is served without a span: excluded, or arriving while recording is off."""

    __slots__ = ("_ended",)

    def __init__(self, context: Context, entrance: Entrance, method: str, path: str) -> None:
        super().__init__(entrance, method, path)
        self._context = context_api.set_value(_REQUEST_KEY, self, context)
        self._ended = False

    @property
    def ended(self) -> bool:
        """Whether the response is complete."""
        return self._ended

    def end(self, error: BaseException | None = None) -> None:
        """The response is complete, or the application ended with `error`."""
        self._ended = True


class Request(_Taken):
    """A request with a span. Frameworks refine it: they know the route, and the exceptions they turn into responses.

    No method raises, once it is made: what goes wrong in here is not the application's.

    :param tracer: one that has a `begin_request` (the native engine's) reads plain requests by itself.
    :param carrier: what `entrance` reads.
    :ivar operation: its SERVER span.
    :ivar prefix: templates of the mounts passed so far.
    :ivar status: the response's status code, once known.
    """

    __slots__ = ("_route", "operation", "prefix", "status")

    def __init__(self, tracer: trace.Tracer, entrance: Entrance, carrier: Carrier, method: str, path: str) -> None:
        super().__init__(entrance, method, path)
        self.prefix = self._route = ""
        self.status: int | None = None
        self.operation = operation = Operation()
        mark, context = (_REQUEST_KEY, self), current()
        if context:
            context = without_call(context)
        begin_request: Any = getattr(tracer, "begin_request", None)
        if begin_request is None or (formats := getattr(propagate.get_global_textmap(), "formats", None)) is None:
            begun = None
        else:
            begun = begin_request(entrance.layout, carrier, method, path, context, mark, formats)
        if begun is None:
            operation.begin(tracer, entrance.describe(carrier, method, path), mark, context)
            self._context, operation.context = operation.context, _NO_CONTEXT
        else:
            operation.span, self._context = begun

    @property
    def ended(self) -> bool:
        """Whether the response is complete."""
        return self.operation.ended

    def route(self, template: str) -> None:
        """The route that matched, below the mounts passed so far; names the span."""
        try:
            whole = self.prefix + template
            if whole == self._route:
                return  # a framework on top of another: both know it
            self._route = whole
            span = self.operation.span
            span.set_attribute("http.route", whole)
            span.update_name(route_name(self.method, whole))
        except Exception as failure:
            failed(failure)

    def respond(self, status: Any) -> None:
        """The status code of the response; anything that isn't a number is for the server to complain about."""
        if not isinstance(status, int):
            return
        try:
            self.status = status = int(status)
            self.operation.span.set_attribute("http.response.status_code", status)
        except Exception as failure:
            failed(failure)

    def raised(self, error: BaseException) -> None:
        """An exception the application didn't handle, also where a framework turns it into a response."""
        try:
            self.operation.raised(error)
            self.operation.error = error
        except Exception as failure:
            failed(failure)

    def end(self, error: BaseException | None = None) -> None:
        """The response is complete, or the application ended with `error`. Only the first call counts."""
        operation = self.operation
        if operation.ended:
            return
        try:
            if error is not None:
                if operation.error is None:
                    self.raised(error)
                if self.status is None and isinstance(error, Exception):
                    self.respond(500)  # which every server answers when the application raises before it responds
            if self.status is not None and operation.error is None and (kind := server_error(self.status)) is not None:
                operation.fail(kind)
            operation.end()
        except Exception as failure:
            failed(failure)
        # Its traceback has the frames, and these have the request: garbage that takes a collector to find.
        operation.error = None


def current_request(carrier: Any) -> Request | None:
    """The request that `carrier` belongs to: what a framework holds, rather than whatever runs around it."""
    taken = carrier.get(MARKER)
    return taken if isinstance(taken, Request) else None


def accepted(carrier: Any) -> bool:
    """Whether the request of `carrier` was taken where it entered, to be traced or passed on, and is under way."""
    taken = carrier.get(MARKER)
    return isinstance(taken, _Taken) and not taken.ended


def accept(entrance: Entrance, carrier: Carrier, tracer: trace.Tracer) -> Request | PassedOn | None:
    """Take a request where it enters an application, and mark its carrier. Never raises.

    :returns: the new `Request`; or, when nothing is to be recorded, a `PassedOn` with the context its headers carry; or
        ``None`` for an application mounted inside one that has accepted the same request already, and for a request
        that can't be read: neither is anything but called.
    """
    try:
        if MARKER in carrier and accepted(carrier):
            return None
        method, path = entrance.target(carrier)
        context = current()
        if context or _SCOPE in carrier or _ENVIRON in carrier:
            outer = _bridged(entrance, carrier, context, method, path)
            if outer is not None:
                carrier[MARKER] = outer
                return None
        excluded = SWITCH.excluded
        # A path has no query, so `/health$` means what it seems to mean; the whole URL is built only where it matters.
        hidden = excluded is not None and (excluded(path) or excluded(entrance.url(carrier, path)))
        taken: Request | PassedOn
        if hidden or not SWITCH.recording or (context and suppressed(context, None)):
            description = entrance.describe(carrier, method, path)
            context = extract(description.inbound, context, description.getter)
            # Nothing that an excluded request does is traced either: its queries would be traces of their own.
            taken = PassedOn(suppress(context) if hidden else context, entrance, method, path)
        else:
            taken = Request(tracer, entrance, carrier, method, path)
        carrier[MARKER] = taken
        return taken
    except Exception as failure:
        failed(failure)
        return None


def _bridged(entrance: Entrance, carrier: Carrier, context: Context, method: str, path: str) -> _Taken | None:
    """The request whose carrier, of the other protocol, a bridge has made this one from.

    Some bridges leave it in theirs. Behind the others the request is known by its method and whole path: a call to
    another application in this process, made while serving, has other ones, or comes by the same protocol.
    """
    for key in _BRIDGED_CARRIERS:
        if (original := carrier.get(key)) is not None:
            outer = original.get(MARKER)
            break
    else:
        outer = context.get(_REQUEST_KEY)
        if not isinstance(outer, _Taken) or outer.entrance is entrance or (outer.method, outer.path) != (method, path):
            return None
    return outer if isinstance(outer, _Taken) and not outer.ended else None


class _Failures:
    """How often reading a request went wrong in this process; only the first is worth a message."""

    count = 0


def failed(error: Exception) -> None:
    """Something of a request could not be traced: told once in a process."""
    _Failures.count += 1
    if _Failures.count == 1:
        _log.warning("a request could not be traced, it is served without", exc_info=error)
