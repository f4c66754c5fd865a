"""Who may talk to the viewer: programs on this machine may send telemetry, only our page and the token's bearer read.

A page in a browser can reach loopback too. A foreign one is told by its Origin; one that had its name resolve to
loopback (DNS rebinding) by the Host header, which must be one of ours.
"""

from __future__ import annotations

import hmac
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Any

from starlette.requests import Request

from otelagent.viewer.server.answers import Refused, refusal

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["Gate"]

_HOSTS = ("127.0.0.1", "localhost", "[::1]")
_HEADERS = {
    # By this a sender knows a viewer from a collector, see `otelagent.delivery.notices`.
    "server": "otelagent-viewer",
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src "
        "'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


class Gate:
    """ASGI middleware.

    :param token: what the page and scripts show, for everything below ``/api/``.
    :param port: gives the port that is listened on, once it is known.
    :ivar refused: requests that were turned away, by reason.
    """

    def __init__(self, app: ASGIApp, token: str, port: Any) -> None:
        self._app = app
        self._token = token
        self._port = port
        self.refused: dict[str, int] = {}

    @property
    def cookie(self) -> str:
        """The cookie's name: cookies don't tell ports apart."""
        return f"otelagent_ui_{self._port()}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets through or answers."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                known = {name.lower() for name, _ in message["headers"]}
                more = {**_HEADERS, "cache-control": "no-store" if scope["path"].startswith("/api/") else "no-cache"}
                message["headers"] = [
                    *message["headers"],
                    *((k.encode(), v.encode()) for k, v in more.items() if k.encode() not in known),
                ]
            await send(message)

        request = Request(scope, receive)
        try:
            self._check(request)
        except Refused as error:
            self.refused[error.code] = self.refused.get(error.code, 0) + 1
            await refusal(request, error)(scope, receive, with_headers)
        else:
            await self._app(scope, receive, with_headers)

    def _check(self, request: Request) -> None:
        port = self._port()
        hosts = [f"{host}:{port}" for host in _HOSTS]
        told = request.headers.getlist("host")
        if len(told) != 1 or told[0].lower() not in hosts:
            raise Refused(421, "foreign_host", f"the Host header must be one of {', '.join(hosts)}")
        origins = [f"http://{host}" for host in hosts]
        if not all(origin.lower() in origins for origin in request.headers.getlist("origin")) or not all(
            site in ("none", "same-origin") for site in request.headers.getlist("sec-fetch-site")
        ):
            raise Refused(403, "foreign_origin", "a page of another origin may not talk to the viewer")
        path = request.scope["path"]
        if path.startswith("/api/") and path != "/api/session" and not self.knows(request):
            raise Refused(401, "no_token", "open the page by the address that otelagent printed, which has the token")

    def knows(self, request: Request) -> bool:
        """Whether the request shows the token, as a cookie or as a bearer."""
        shown = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not shown:
            try:
                cookie = SimpleCookie(request.headers.get("cookie", "")).get(self.cookie)
            except CookieError:
                return False
            shown = cookie.value if cookie is not None else ""
        return self.right(shown)

    def right(self, shown: str) -> bool:
        """Whether it is the token; in constant time."""
        return hmac.compare_digest(shown.encode("utf-8", "replace"), self._token.encode())
