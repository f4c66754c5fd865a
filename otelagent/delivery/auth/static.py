"""Headers that never change."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from otelagent.delivery.auth import Headers

if TYPE_CHECKING:
    from otelagent.config.model import Otlp

__all__ = ["StaticHeaders"]


class StaticHeaders:
    """The headers of the configuration, and its endpoint's user and password, which an `Authorization` replaces."""

    def __init__(self, otlp: Otlp) -> None:
        self._headers = {name.lower(): value.reveal() for name, value in otlp.headers.items()}
        url = urlsplit(otlp.endpoint)
        if url.username is not None and "authorization" not in self._headers:
            credentials = f"{unquote(url.username)}:{unquote(url.password or '')}"
            self._headers["authorization"] = f"Basic {base64.b64encode(credentials.encode()).decode()}"

    def headers(self, deadline_s: float) -> Headers:
        return self._headers

    def refused(self, sent: Headers) -> bool:
        return False

    def accepted(self, sent: Headers) -> None:
        """It changes nothing."""

    def after_fork_in_child(self) -> None:
        """There is nothing of the parent's to let go of."""
