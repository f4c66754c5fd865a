"""The place that an endpoint names: what the network says of it. Everything is tried once, when it is asked for."""

from __future__ import annotations

import html
import http.client
import re
import socket
import ssl
import threading
import time
from contextlib import closing
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from otelagent.doctor.listeners import SOMEBODY, who_listens
from otelagent.struct import struct

if TYPE_CHECKING:
    from otelagent.config.model import Otlp

__all__ = ["Answer", "Handshake", "Place"]

# A client's preface and an empty SETTINGS frame; the server answers with a SETTINGS frame (RFC 9113 section 3.4).
_HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_TITLE = re.compile(r"<title[^>]*>([^<]*)", re.I)
_MAX_PAGE_BYTES = 64 * 1024
_MAX_SHOWN = 60
_LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


@struct(frozen=True)
class Handshake:
    """How a TLS handshake went.

    :ivar tls: whether the port speaks TLS at all.
    :ivar problem: why the certificates weren't taken, in OpenSSL's words; empty where they were.
    :ivar code: OpenSSL's number for a certificate that isn't trusted, 0 for none.
    """

    tls: bool
    problem: str = ""
    code: int = 0


@struct(frozen=True)
class Answer:
    """What an HTTP server tells of itself.

    :ivar server: by its header.
    :ivar status: of its answer.
    :ivar title: of the page that it answers, empty for none.
    :ivar media: the type of its content, in lower case.
    :ivar location: where it redirects to, empty for nowhere.
    :ivar ahead_s: how far this machine's clock is ahead of the server's, in seconds; None if it doesn't tell the time.
    """

    server: str
    status: int
    title: str
    media: str
    location: str
    ahead_s: float | None


class Place:
    """One scheme, host and port.

    :param otlp: an exporter's settings, for the endpoint and the certificates.
    :param timeout_s: for each step, seconds.
    """

    def __init__(self, otlp: Otlp, timeout_s: float) -> None:
        url = urlsplit(otlp.endpoint)
        self.otlp = otlp
        self.timeout_s = timeout_s
        self.host = url.hostname or ""
        self.tls = url.scheme == "https"
        self.port = url.port or (443 if self.tls else 80)
        self.has_port = url.port is not None
        self.path = url.path or "/"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"

    @cached_property
    def addresses(self) -> tuple[tuple[tuple[int, str], ...], str]:
        """What the host's name resolves to, as (family, address), and why it doesn't."""
        found: list[tuple[int, str]] = []
        problem = [f"no answer within {self.timeout_s:g} s"]

        def ask() -> None:
            try:
                answer = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
            except (OSError, UnicodeError) as error:
                problem[0] = getattr(error, "strerror", None) or str(error)
                return
            found.extend(dict.fromkeys((int(family), str(address[0])) for family, _, _, _, address in answer))
            problem[0] = ""

        # A resolver has no deadline of its own.
        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(self.timeout_s)
        return tuple(found), problem[0]

    @cached_property
    def connections(self) -> dict[str, str]:
        """By address, why it can't be connected to; empty where it can."""
        return {address: self._try_to_connect(address) for _, address in self.addresses[0]}

    @property
    def reachable(self) -> str | None:
        """The first address that takes connections."""
        return next((address for address, problem in self.connections.items() if not problem), None)

    @cached_property
    def other_loopback(self) -> str | None:
        """The loopback address of the other family, where something listens on the same port."""
        families = {family for family, _ in self.addresses[0]}
        if not all(_is_loopback(address) for _, address in self.addresses[0]):
            return None
        for family, address in _LOOPBACK.items():
            if family not in families and not self._try_to_connect(address):
                return address
        return None

    @cached_property
    def handshake(self) -> Handshake:
        """A TLS handshake as the exporter makes it, whatever the endpoint's scheme is."""
        from otelagent.delivery.auth.tls import client_context

        otlp = self.otlp
        try:
            context = client_context(otlp.certificate, otlp.client_certificate, otlp.client_key)
        except OSError as error:
            return Handshake(self._speaks_tls(), f"can't load the certificates: {error}")
        greeted = False
        try:
            with closing(self._connect()) as plain, context.wrap_socket(plain, server_hostname=self.host) as secured:
                greeted = True
                # A server of TLS 1.3 that wants a client's certificate says so only when it is talked to.
                secured.sendall(b"OPTIONS * HTTP/1.1\r\nHost: doctor\r\nConnection: close\r\n\r\n")
                secured.recv(1)
        except ssl.SSLCertVerificationError as error:
            return Handshake(True, str(error.verify_message), int(error.verify_code))
        except ssl.SSLError as error:
            alert = "ALERT" in (error.reason or "")
            return Handshake(greeted or alert, str(error.reason or error).replace("_", " ").lower())
        except TimeoutError:
            return Handshake(greeted)
        except OSError as error:
            # Some end the connection without an alert.
            return Handshake(greeted, str(error))
        return Handshake(True)

    def _speaks_tls(self) -> bool:
        try:
            with closing(self._connect()) as plain, _anything().wrap_socket(plain, server_hostname=self.host):
                return True
        except ssl.SSLError as error:
            return "ALERT" in (error.reason or "")
        except OSError:
            return False

    @cached_property
    def speaks_tls(self) -> bool:
        """Whether the port answers a TLS greeting."""
        return self.handshake.tls if self.tls else self._speaks_tls()

    @cached_property
    def _said_to_http1(self) -> bytes:
        request = f"POST {self.path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nConnection: close\r\n"
        return self._say(request.encode() + b"Content-Length: 0\r\n\r\n", "http/1.1")

    @property
    def speaks_http1(self) -> bool:
        """Whether the port answers HTTP/1.1 (over TLS where the endpoint says so)."""
        return self._said_to_http1.startswith(b"HTTP/1.")

    @property
    def speaks_otherwise(self) -> bool:
        """Whether the port answers, and neither HTTP/1.1 nor HTTP/2. One that says nothing may be slow."""
        return bool(self._said_to_http1) and not self.speaks_http1 and not self.speaks_http2

    @cached_property
    def speaks_http2(self) -> bool:
        """Whether the port answers HTTP/2, which gRPC is made of."""
        answer = self._say(_HTTP2, "h2")
        return len(answer) >= 9 and answer[3] == 4 and answer[5:9] == b"\0\0\0\0"

    @cached_property
    def answer(self) -> Answer | None:
        """What an empty request for the path is answered; None if that is no HTTP."""
        return self._ask("POST")

    @property
    def is_here(self) -> bool:
        """Whether it is this machine's loopback."""
        return self.reachable is not None and _is_loopback(self.reachable)

    @cached_property
    def page_title(self) -> str:
        """Of what is at ``/``; empty where no page is."""
        page = self._ask("GET", "/") if self.answer is not None else None
        return "" if page is None else page.title

    @cached_property
    def who(self) -> str:
        """What answers, as far as it can be known: by what it says of itself, and of this machine the program."""
        parts = [self.answer.server if self.answer is not None else ""]
        parts.append(f"“{self.page_title}”" if self.page_title else "")
        if self.is_here:
            parts.append(who_listens(self.port))
        return ", ".join(part for part in parts if part not in ("", SOMEBODY))

    def _ask(self, method: str, path: str = "") -> Answer | None:
        connection: http.client.HTTPConnection
        if self.tls:
            connection = http.client.HTTPSConnection(
                self.host, self.port, timeout=self.timeout_s, context=_anything(("http/1.1",))
            )
        else:
            connection = http.client.HTTPConnection(self.host, self.port, timeout=self.timeout_s)
        try:
            before_s = time.time()
            connection.request(method, path or self.path, b"", {"content-type": "application/x-protobuf"})
            response = connection.getresponse()
            now_s = (before_s + time.time()) / 2
            title = _TITLE.search(response.read(_MAX_PAGE_BYTES).decode("utf-8", "replace"))
            date = response.getheader("date")
            # Of an error's page the title is the error's.
            return Answer(
                _shown(response.getheader("server") or ""),
                response.status,
                _shown(html.unescape(title[1])) if title and response.status == 200 else "",
                _shown((response.getheader("content-type") or "").partition(";")[0].lower()),
                response.getheader("location") or "",
                # It has whole seconds.
                None if date is None else now_s - parsedate_to_datetime(date).timestamp() - 0.5,
            )
        except (OSError, http.client.HTTPException, ValueError, TypeError):
            return None
        finally:
            connection.close()

    def _try_to_connect(self, address: str) -> str:
        try:
            socket.create_connection((address, self.port), self.timeout_s).close()
        except OSError as error:
            return "no answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
        return ""

    def _connect(self) -> socket.socket:
        address = self.reachable
        if address is None:
            raise ConnectionRefusedError("nothing takes connections")
        return socket.create_connection((address, self.port), self.timeout_s)

    def _say(self, words: bytes, alpn: str) -> bytes:
        """The first bytes that come back."""
        answer = b""
        try:
            connection: Any = self._connect()
            with closing(connection):
                if self.tls:
                    connection = _anything((alpn,)).wrap_socket(connection, server_hostname=self.host)
                connection.sendall(words)
                while len(answer) < 9 and (more := connection.recv(64)):
                    answer += more
        except OSError:
            pass  # What came before it counts.
        return answer


def _anything(protocols: tuple[str, ...] = ()) -> ssl.SSLContext:
    """TLS with whoever is there: nothing secret is said."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def _shown(text: str) -> str:
    """A server's words, which are anyone's: one line, and short."""
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())[:_MAX_SHOWN]


def _is_loopback(address: str) -> bool:
    return address == "::1" or address.startswith("127.")
