"""What no page may do, watched while a test runs: write errors or warnings, fail, or talk to anyone but its viewer."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Request, WebError

__all__ = ["Watch"]


class Watch:
    """The watch over all pages of a test.

    :ivar hosts: the only ones, with their ports, that a request may go to.
    """

    def __init__(self) -> None:
        self.hosts: set[str] = set()
        self._seen: list[str] = []
        self._expected: list[re.Pattern[str]] = []

    def over(self, context: BrowserContext) -> None:
        """Watches its pages too."""
        context.on("console", self._console)
        context.on("weberror", self._error)
        context.on("request", self._request)

    def expect(self, pattern: str) -> None:
        """What the test provokes is no fault."""
        self._expected.append(re.compile(pattern))

    @property
    def faults(self) -> list[str]:
        """What was seen and not expected."""
        return [fault for fault in self._seen if not any(pattern.search(fault) for pattern in self._expected)]

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self._seen.append(f"console {message.type}: {message.text} ({message.location.get('url', '')})")

    def _error(self, error: WebError) -> None:
        self._seen.append(f"page error: {error.error}")

    def _request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.netloc not in self.hosts:
            self._seen.append(f"a request to {request.url}")
