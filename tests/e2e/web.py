"""Requests to an application under test, each in a trace of its own whose ids the test knows."""

from __future__ import annotations

import http.client
import json
import secrets
import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Answer", "Client", "accepts", "raw"]

HOST = "127.0.0.1"
TIMEOUT_S = 30


@dataclass(frozen=True)
class Answer:
    """The response to one request, and the context the request carried (empty without one)."""

    status: int
    body: bytes
    headers: dict[str, str]
    trace_id: str
    parent_id: str

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Client:
    """Sends requests over a connection each and remembers those that were answered."""

    port: int
    answered: list[Answer] = field(default_factory=list)
    sent: set[str] = field(default_factory=set)

    def request(
        self, method: str, path: str, *, headers: dict[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        """One request with a fresh sampled `traceparent`; a connection that breaks raises OSError."""
        trace_id, parent_id = secrets.token_hex(16), secrets.token_hex(8)
        self.sent.add(trace_id)
        connection = http.client.HTTPConnection(HOST, self.port, timeout=TIMEOUT_S)
        try:
            # When it is answered, the server is done with it: a connection kept alive would be work to clean up.
            carried = {"traceparent": f"00-{trace_id}-{parent_id}-01", "Connection": "close", **(headers or {})}
            connection.request(method, path, body=body, headers=carried)
            response = connection.getresponse()
            content = response.read()
        except http.client.HTTPException as error:  # RemoteDisconnected and IncompleteRead are no OSErrors
            raise ConnectionError(f"{method} {path}: {error!r}") from error
        finally:
            connection.close()
        found = {name.lower(): value for name, value in response.getheaders()}
        answer = Answer(response.status, content, found, trace_id, parent_id)
        self.answered.append(answer)
        return answer

    def get(self, path: str, **keywords: Any) -> Answer:
        return self.request("GET", path, **keywords)

    def many(self, paths: Iterable[str], at_once: int = 8) -> list[Answer]:
        """All of them, several at a time; the answers in the order of the paths."""
        with ThreadPoolExecutor(at_once) as pool:
            return list(pool.map(self.get, paths))


def accepts(port: int) -> bool:
    """Whether something listens. Sends nothing, so that no request is counted."""
    try:
        socket.create_connection((HOST, port), timeout=5).close()
    except OSError:
        return False
    return True


def raw(port: int, data: bytes, timeout_s: float = TIMEOUT_S) -> bytes:
    """Send bytes as they are and read until the server closes; what came before a reset counts as well."""
    received = b""
    with socket.create_connection((HOST, port), timeout=timeout_s) as connection:
        try:
            connection.sendall(data)
        except OSError:
            pass  # servers refuse what is too long before they have read it all; the answer is still there
        try:
            while chunk := connection.recv(65536):
                received += chunk
        except ConnectionError:
            pass
    return received
