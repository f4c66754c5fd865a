"""Who may talk to the viewer: programs on this machine may send telemetry, only our page and the token's bearer read.

A page in a browser can reach loopback too. A foreign one is told by its Origin; one that had its name resolve to
loopback (DNS rebinding) by the Host header, which must be one of ours.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["Gate"]

_HOSTS = ("127.0.0.1", "localhost", "[::1]")
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src "
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
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if refusal := self._refusal(scope["path"], headers, scope["headers"]):
            status, code, message = refusal
            self.refused[code] = self.refused.get(code, 0) + 1
            from starlette.responses import JSONResponse

            response = JSONResponse({"error": {"code": code, "message": message}}, status)
            await response(scope, receive, send)
            return

        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                known = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *((k.encode(), v.encode()) for k, v in _HEADERS.items() if k.encode() not in known),
                ]
            await send(message)

        await self._app(scope, receive, with_headers)

    def _refusal(
        self, path: str, headers: dict[str, str], pairs: Iterable[tuple[bytes, bytes]]
    ) -> tuple[int, str, str] | None:
        port = self._port()
        hosts = [f"{host}:{port}" for host in _HOSTS]
        if sum(name == b"host" for name, _ in pairs) != 1 or headers.get("host", "").lower() not in hosts:
            return 421, "foreign_host", f"the Host header must be one of {', '.join(hosts)}"
        origin = headers.get("origin")
        if origin is not None and origin.lower() not in [f"http://{host}" for host in hosts]:
            return 403, "foreign_origin", "a page of another origin may not talk to the viewer"
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return 403, "foreign_origin", "a page of another origin may not talk to the viewer"
        if path.startswith("/api/") and path != "/api/session" and not self.knows(headers):
            return 401, "no_token", "open the page by the address that otelagent printed, which has the token"
        return None

    def knows(self, headers: dict[str, str]) -> bool:
        """Whether the request shows the token, as a cookie or as a bearer."""
        shown = headers.get("authorization", "").removeprefix("Bearer ")
        if not shown:
            try:
                cookie = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
            except CookieError:
                return False
            shown = cookie.value if cookie is not None else ""
        return self.right(shown)

    def right(self, shown: str) -> bool:
        """Whether it is the token; in constant time."""
        return hmac.compare_digest(shown.encode("utf-8", "replace"), self._token.encode())
