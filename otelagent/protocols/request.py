"""The one SERVER span of an incoming request, whichever server took it and whatever is mounted inside."""

from __future__ import annotations

from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.context import Context

from otelagent.patching.operation import Operation, begin, inbound_context
from otelagent.patching.switch import SWITCH
from otelagent.semconv.http import ServerRequest, route_name, server_error
from otelagent.suppression import suppress

__all__ = ["Request", "accept", "accepted", "current_request"]

_REQUEST_KEY = context_api.create_key("otelagent-request")

# What stands for the request in the context of one that is passed on without a span.
_PASSED_ON = object()


class Request:
    """A request under way. Frameworks refine it: they know the route, and the exceptions they turn into responses.

    :ivar operation: its SERVER span.
    :ivar context: the context the application runs in.
    :ivar method: the HTTP method.
    :ivar path: the whole path as the server got it, by which a mounted application knows its request again.
    :ivar prefix: templates of the mounts passed so far.
    :ivar status: the response's status code, once known.
    """

    __slots__ = ("context", "method", "operation", "path", "prefix", "status")

    def __init__(self, operation: Operation, method: str, path: str) -> None:
        self.operation = operation
        self.context = context_api.set_value(_REQUEST_KEY, self, operation.context)
        self.method = method
        self.path = path
        self.prefix = ""
        self.status: int | None = None

    def route(self, template: str) -> None:
        """The route that matched, below the mounts passed so far; names the span."""
        whole = self.prefix + template
        self.operation.set("http.route", whole)
        self.operation.rename(route_name(self.method, whole))

    def respond(self, status: int) -> None:
        """The status code of the response."""
        self.status = status
        self.operation.set("http.response.status_code", status)

    def raised(self, error: BaseException) -> None:
        """An exception the application didn't handle, also where a framework turns it into a response."""
        self.operation.raised(error)
        self.operation.error = error

    def end(self, error: BaseException | None = None) -> None:
        """The response is complete, or the application ended with `error`. Only the first call counts."""
        operation = self.operation
        if operation.ended:
            return
        if error is not None and operation.error is None:
            self.raised(error)
        if isinstance(error, Exception) and self.status is None:
            self.respond(500)  # which every server answers when the application raises before it responds
        if self.status is not None and operation.error is None and (failure := server_error(self.status)) is not None:
            operation.fail(failure)
        operation.end()


def current_request(context: Context | None = None) -> Request | None:
    """The request that the running code serves."""
    request = context_api.get_value(_REQUEST_KEY, context)
    return request if isinstance(request, Request) else None


def accepted() -> bool:
    """Whether the running code serves a request that was taken where it entered: to be traced, or to be passed on."""
    return context_api.get_value(_REQUEST_KEY) is not None


def accept(description: ServerRequest, tracer: trace.Tracer, method: str, path: str) -> Request | Context | None:
    """Take a request where it enters an application.

    :returns: the new `Request`; or, when nothing is to be recorded, the context its headers carry, to be passed on; or
        ``None`` for an application mounted inside one that has accepted the same request already.
    """
    context = context_api.get_current()
    outer = current_request(context)
    # A mounted application sees the same method and whole path. A call to another application in this process, made
    # while serving the outer request, is a request of its own.
    if outer is not None and not outer.operation.ended and outer.method == method and outer.path == path:
        return None
    excluded = SWITCH.excluded is not None and SWITCH.excluded(path)
    if excluded or not SWITCH.recording:
        context = context_api.set_value(_REQUEST_KEY, _PASSED_ON, inbound_context(description, context))
        # Nothing that an excluded request does is traced either: a health check's query would be a trace of its own.
        return suppress(context) if excluded else context
    return Request(begin(tracer, description), method, path)
