"""Bytes that no library would send: protobuf by hand, and HTTP over a bare socket."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from types import TracebackType
from typing import Any

__all__ = ["IDS", "Answer", "Connection", "field", "in_span", "in_spans", "kvlists", "varint"]

IDS = b"\x0a\x10" + b"t" * 16 + b"\x12\x08" + b"s" * 8
"""A span's trace id and span id."""


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number: int, content: bytes) -> bytes:
    """A field of a length."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def in_spans(spans: bytes) -> bytes:
    """A request with these fields in its one ``ScopeSpans``."""
    return field(1, field(2, spans))


def in_span(content: bytes) -> bytes:
    """A request with one span, of valid ids and this."""
    return in_spans(field(2, IDS + content))


def kvlists(depth: int) -> bytes:
    """An attribute of lists of pairs in each other."""
    value = field(1, b"end")
    for _ in range(depth):
        value = field(6, field(1, field(1, b"k") + field(2, value)))
    return field(1, b"deep") + field(2, value)


@dataclass
class Answer:
    """Of HTTP."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Connection:
    """A socket to a server."""

    def __init__(self, base: str, timeout_s: float = 60) -> None:
        host, port = base.removeprefix("http://").split(":")
        self.host = f"{host}:{port}"
        self._socket = socket.create_connection((host, int(port)), timeout_s)
        self._file = self._socket.makefile("rb")

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def request(self, line: str, *headers: str, body: bytes = b"", host: bool = True) -> None:
        """Sends a request as it is told, with the right Host unless there is to be none."""
        lines = [line, *([f"Host: {self.host}"] if host else []), *headers, "", ""]
        self.send("\r\n".join(lines).encode("latin-1") + body)

    def answer_head(self) -> Answer:
        """The next one without its body.

        :raises EOFError: the server has closed the connection.
        """
        first = self._file.readline()
        if not first:
            raise EOFError
        headers = {}
        while (line := self._file.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        return Answer(int(first.split()[1]), headers, b"")

    def answer(self) -> Answer:
        """The next one."""
        answer = self.answer_head()
        headers = answer.headers
        if "content-length" in headers:
            answer.body = self._file.read(int(headers["content-length"]))
        elif headers.get("transfer-encoding") == "chunked":
            while size := int(self._file.readline(), 16):
                answer.body += self._file.read(size)
                self._file.readline()
            self._file.readline()
        elif headers.get("connection") == "close":
            answer.body = self._file.read()
        return answer

    def closed(self) -> bool:
        """Waits until the server closes the connection; whether it sent nothing more before."""
        try:
            return self._file.read() == b""
        except ConnectionResetError:
            return True
