"""A network for httpcore on which a whole try, and not each read of it, has one deadline."""

from __future__ import annotations

import logging
import math
import select
import socket
import ssl
import time
from collections.abc import Iterable
from typing import Any

import httpcore

__all__ = ["DeadlineNetwork"]

# One recv() or send() of the peer's choice of size; more only holds memory.
_SENT_AT_ONCE = 256 * 1024


class DeadlineNetwork(httpcore.NetworkBackend):
    """Opens connections whose every operation ends at `deadline_s`.

    A timeout per read, which is what HTTP clients offer, never ends a server that drips one byte before each timeout.
    Resolving a name is the one thing that can't be interrupted: the system's resolver has its own timeouts.

    :ivar deadline_s: `time.monotonic()` value that the current try ends at.
    :ivar first_bytes: the first bytes that the peer sent in the current try, which tell a wrong protocol.
    """

    def __init__(self) -> None:
        _keep_own_requests_out_of_logs()
        self.deadline_s = math.inf
        self.first_bytes = b""
        self.streams: list[_Stream] = []

    def begin_try(self, timeout_s: float) -> None:
        """Sets the deadline, from now on for all connections."""
        self.deadline_s = time.monotonic() + timeout_s
        self.first_bytes = b""

    def remaining_s(self, exceeded: type[Exception]) -> float:
        """What is left of the try in seconds, > 0.

        :param exceeded: what to raise when nothing is left.
        """
        remaining_s = self.deadline_s - time.monotonic()
        if remaining_s <= 0:
            raise exceeded("the deadline of the try is over")
        return remaining_s

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connects to the first of the host's addresses that answers."""
        error: OSError = OSError(f"no address for {host}")
        try:
            # As bytes, the name needs no codec; a str needs one that Python imports at that moment, fork or no fork.
            addresses = socket.getaddrinfo(host.encode("ascii"), port, type=socket.SOCK_STREAM)
        except OSError as failure:
            raise httpcore.ConnectError(f"{host}: {failure.strerror or failure}") from failure
        for number, (family, kind, protocol, _, address) in enumerate(addresses):
            # A black hole must leave time for the addresses after it, or one dead address would hide the others for
            # good.
            share_s = self.remaining_s(httpcore.ConnectTimeout) / (len(addresses) - number)
            try:
                connection = socket.socket(family, kind, protocol)
            except OSError as failure:
                error = failure
                continue
            try:
                connection.settimeout(share_s)
                connection.connect(address)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError as failure:
                connection.close()
                error = failure
                continue
            return self._stream(connection)
        if isinstance(error, TimeoutError):
            raise httpcore.ConnectTimeout(str(error)) from error
        raise httpcore.ConnectError(error.strerror or str(error)) from error

    def abandon(self) -> None:
        """Closes all connections without a word to their peers, in a fork child, where they are the parent's too."""
        for stream in list(self.streams):
            stream.close()

    def _stream(self, connection: socket.socket) -> _Stream:
        stream = _Stream(self, connection)
        self.streams.append(stream)
        return stream


class _Stream(httpcore.NetworkStream):
    """A connected socket, plain or TLS."""

    def __init__(self, network: DeadlineNetwork, connection: socket.socket) -> None:
        self._network = network
        self._socket = connection

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            self._socket.settimeout(self._network.remaining_s(httpcore.ReadTimeout))
            data = self._socket.recv(max_bytes)
        except TimeoutError as error:
            raise httpcore.ReadTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.ReadError(error.strerror or str(error)) from error
        if len(self._network.first_bytes) < 16:
            self._network.first_bytes += data[:16]
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        rest = memoryview(buffer)
        try:
            while rest:
                self._socket.settimeout(self._network.remaining_s(httpcore.WriteTimeout))
                rest = rest[self._socket.send(rest[:_SENT_AT_ONCE]) :]
        except TimeoutError as error:
            raise httpcore.WriteTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.WriteError(error.strerror or str(error)) from error

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        try:
            self._socket.settimeout(self._network.remaining_s(httpcore.ConnectTimeout))
            secured = ssl_context.wrap_socket(self._socket, server_hostname=server_hostname)
        except TimeoutError as error:
            self.close()
            raise httpcore.ConnectTimeout(str(error)) from error
        except (OSError, ValueError) as error:  # ValueError: a host name that can't be one in TLS.
            self.close()
            raise httpcore.ConnectError(str(error)) from error
        self._network.streams.remove(self)
        return self._network._stream(secured)

    def close(self) -> None:
        self._socket.close()
        if self in self._network.streams:
            self._network.streams.remove(self)

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":  # On an idle connection: the peer has closed it.
            if self._socket.fileno() < 0:
                return True
            poll = select.poll()
            poll.register(self._socket, select.POLLIN)
            return bool(poll.poll(0))
        if info == "ssl_object":
            return self._socket if isinstance(self._socket, ssl.SSLSocket) else None
        if info == "socket":
            return self._socket
        return None


def _keep_own_requests_out_of_logs() -> None:
    # httpcore logs each step of a request at DEBUG. With the root logger there, each export would add lines to the
    # application's log, and with logs exported, each export would cause the next.
    for name in ("httpcore.connection", "httpcore.http11"):
        logger = logging.getLogger(name)
        if _is_not_ours not in logger.filters:
            logger.addFilter(_is_not_ours)


def _is_not_ours(_: logging.LogRecord) -> bool:
    from opentelemetry import context

    return not context.get_value(context._SUPPRESS_HTTP_INSTRUMENTATION_KEY)
