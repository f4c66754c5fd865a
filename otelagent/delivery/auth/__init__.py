"""Who the agent is to the place it sends to: the headers of each try, and what is renewed when they are refused.

Nothing of this is imported before the first payload is sent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from otelagent.delivery.failures import FailureLog
from otelagent.delivery.result import Accepted, Rejected, Result, Retryable

if TYPE_CHECKING:
    from otelagent.config.model import Otlp

__all__ = ["Credentials", "Headers", "Unavailable", "open_credentials", "send_with"]

Headers = Mapping[str, str]
"""Names in lower case."""

# How servers refuse credentials. HTTP 403 and PERMISSION_DENIED know who it is, and others wouldn't help.
_UNAUTHENTICATED = frozenset({"http_401", "grpc_unauthenticated"})


class Unavailable(Exception):
    """There are no credentials now; there may be later, so that the payload is kept.

    :param message: for a person, without secrets, naming the file or the address.
    :param after_s: the shortest wait that a token endpoint asked for, in seconds; None when it didn't.
    :param reason: the reason of the result that comes of it.
    """

    def __init__(self, message: str, after_s: float | None = None, reason: str = "credentials") -> None:
        super().__init__(message)
        self.after_s = after_s
        self.reason = reason


class Credentials(Protocol):
    """What a transport sends along. It asks at every try, and one thread at a time does."""

    def headers(self, deadline_s: float) -> Headers:
        """The headers of a try.

        :param deadline_s: the try's end, as `time.monotonic` has it.
        :raises Unavailable: there are none now.
        """

    def refused(self, sent: Headers) -> bool:
        """Renews what the server has refused; whether `headers` would now be others, so that a retry makes sense.

        :param sent: the headers of the try.
        :raises Unavailable: it can't be renewed now.
        """

    def accepted(self, sent: Headers) -> None:
        """The server has taken these."""

    def after_fork_in_child(self) -> None:
        """Lets go of the parent's locks and connections."""


def open_credentials(otlp: Otlp, log: FailureLog) -> Credentials:
    """The credentials that the configuration describes.

    :param log: where is told what goes wrong and stops nothing yet.
    """
    from otelagent.delivery.auth.static import StaticHeaders

    layers: list[Credentials] = [StaticHeaders(otlp)]
    if otlp.headers_file is not None or otlp.bearer_token_file is not None:
        from otelagent.delivery.auth.files import FileHeaders, read_bearer_token, read_headers

        if otlp.headers_file is not None:
            layers.append(FileHeaders(otlp.headers_file, read_headers, log))
        if otlp.bearer_token_file is not None:
            layers.append(FileHeaders(otlp.bearer_token_file, read_bearer_token, log))
    if otlp.oauth2.token_url is not None:
        from otelagent.delivery.auth.oauth2 import client_credentials

        layers.append(client_credentials(otlp.oauth2, log))
    return layers[0] if len(layers) == 1 else _Layers(layers)


def send_with(credentials: Credentials, attempt: Callable[[Headers, float], Result], timeout_s: float) -> Result:
    """One try, and a second one with renewed credentials if the first was refused for them.

    Exactly one: a server that refuses the renewed ones too has rejected the payload. Credentials that can't be had, be
    it a file that isn't there or a token endpoint that is down, leave it to be sent later.

    :param attempt: sends with some headers within some seconds, > 0.
    :param timeout_s: for all of it, fetching a token included.
    """
    deadline_s = time.monotonic() + timeout_s
    try:
        headers = credentials.headers(deadline_s)
        result = attempt(headers, _left_s(deadline_s))
        if _is_refusal(result) and credentials.refused(headers):
            headers = credentials.headers(deadline_s)
            result = attempt(headers, _left_s(deadline_s))
    except Unavailable as error:
        return Retryable(error.reason, error.after_s, str(error))
    if isinstance(result, Accepted):
        credentials.accepted(headers)
    return result


def _is_refusal(result: Result) -> bool:
    return isinstance(result, Rejected) and result.reason in _UNAUTHENTICATED


def _left_s(deadline_s: float) -> float:
    return max(deadline_s - time.monotonic(), 0.001)


class _Layers:
    """Several credentials as one: of a header that two of them have, the later one's value counts."""

    def __init__(self, layers: Sequence[Credentials]) -> None:
        self._layers = tuple(layers)

    def headers(self, deadline_s: float) -> Headers:
        merged: dict[str, str] = {}
        for layer in self._layers:
            merged.update(layer.headers(deadline_s))
        return merged

    def refused(self, sent: Headers) -> bool:
        renewed = False
        # All of them, the token first: a file that can't be read now ends it.
        for layer in reversed(self._layers):
            renewed = layer.refused(sent) or renewed
        return renewed

    def accepted(self, sent: Headers) -> None:
        for layer in self._layers:
            layer.accepted(sent)

    def after_fork_in_child(self) -> None:
        for layer in self._layers:
            layer.after_fork_in_child()
