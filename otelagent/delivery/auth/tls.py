"""Certificates and keys as their files have them now."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from otelagent.delivery.auth.watched import Watched
from otelagent.delivery.failures import FailureLog
from otelagent.fork_gate import whole_imports
from otelagent.struct import struct

if TYPE_CHECKING:
    from otelagent.config.model import Otlp

__all__ = ["TlsFiles", "client_context", "watch_tls"]


@struct(frozen=True)
class TlsFiles:
    """What the files of an exporter hold, PEM as it is, None for those that aren't set; and what OpenSSL made of it.

    A key that isn't set is in the file of the client's certificate. A new one is made only when one of the files has
    changed.
    """

    certificate: bytes | None
    client_certificate: bytes | None
    client_key: bytes | None
    context: ssl.SSLContext


def watch_tls(otlp: Otlp, log: FailureLog) -> Watched[TlsFiles]:
    """The certificates and the key of an exporter.

    Those that OpenSSL doesn't take, or that don't belong together, are as good as none: what was read before stays.
    """
    paths = (otlp.certificate, otlp.client_certificate, otlp.client_key)

    def load() -> TlsFiles:
        with whole_imports():
            try:
                # gRPC wants the key apart.
                certificate, client_certificate, client_key = map(
                    _content, (otlp.certificate, otlp.client_certificate, otlp.client_key or otlp.client_certificate)
                )
                return TlsFiles(certificate, client_certificate, client_key, client_context(*paths))
            except OSError as error:
                raise OSError(f"can't load the certificates: {error}") from None

    return Watched([path for path in paths if path is not None], load, log, reason="certificate")


def client_context(
    certificate: str | None, client_certificate: str | None = None, client_key: str | None = None
) -> ssl.SSLContext:
    """The TLS of a connection that the agent opens.

    :param certificate: the file to trust; None for the public authorities.
    :raises OSError: a file can't be read or used; the message names it.
    """
    # ssl needs this codec for host names, and Python would import it in the first handshake, see `whole_imports`.
    "localhost".encode("idna")
    if certificate is None:
        import certifi

        context = ssl.create_default_context(cafile=certifi.where())
    else:
        with _named(certificate):
            context = ssl.create_default_context(cafile=certificate)
    if client_certificate is not None:
        with _named(client_certificate, client_key):
            # An encrypted key fails; without a password, OpenSSL would ask the terminal for one.
            context.load_cert_chain(client_certificate, client_key, password="")
    return context


def _content(path: str | None) -> bytes | None:
    if path is None:
        return None
    with _named(path), open(path, "rb") as file:
        return file.read()


@contextmanager
def _named(*paths: str | None) -> Iterator[None]:
    # What ssl raises doesn't say which file it was.
    try:
        yield
    except OSError as error:
        what = str(error) if isinstance(error, ssl.SSLError) else error.strerror
        raise OSError(f"{' or '.join(path for path in paths if path)}: {what}") from error
