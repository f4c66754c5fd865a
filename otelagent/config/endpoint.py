"""From the endpoint a user wrote to the one that is dialled.

Source: the specification's "OpenTelemetry Protocol Exporter", "Endpoint URLs for OTLP/HTTP".
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from otelagent.config.parse import Invalid

__all__ = ["Endpoint", "resolve", "split"]

_UNPRINTABLE = r"[\x00-\x20\x7f]|\s"
_HOST = r"[\w.~%-]+|\[[\w:.%]+\]"  # letters of any script: names may be internationalized


class Endpoint(NamedTuple):
    """The final endpoint, and what looks wrong with it."""

    url: str
    warning: str = ""


def resolve(text: str, protocol: str, insecure: bool, signal_specific: bool, own: bool, signal: str) -> Endpoint:
    """The final endpoint of a signal.

    :param text: as written, not empty.
    :param protocol: ``http/protobuf`` or ``grpc``.
    :param insecure: for gRPC without a scheme: plaintext. A scheme wins over it.
    :param signal_specific: from ``OTEL_EXPORTER_OTLP_<SIGNAL>_ENDPOINT``, which is used as it is.
    :param own: from otelagent's own setting, which may hold the signal's path, or the traces', already.
    :param signal: ``traces`` or ``logs``.
    :raises Invalid: it can't be dialled; always fatal.
    """
    if protocol == "grpc":
        return _grpc(text, insecure)
    return _http(text, signal_specific, own, f"/v1/{signal}")


def _http(text: str, signal_specific: bool, own: bool, signal_path: str) -> Endpoint:
    if "://" not in text:
        raise Invalid("must start with http:// or https://", f"try 'http://{text}'" if _bare(text) else "", fatal=True)
    url = split(text)
    path = url.path
    if signal_specific:
        path = path or "/"
    elif not (own and path.rstrip("/").endswith(signal_path)):
        path = path.rstrip("/")
        # The traces' address, given for all signals.
        path = (path.removesuffix("/v1/traces") if own else path) + signal_path
    warning = ""
    if url.port == 4317:
        warning = "port 4317 is usually gRPC's and the protocol is http/protobuf: use port 4318, or protocol grpc"
    return Endpoint(url._replace(path=path, fragment="").geturl(), warning)


def _grpc(text: str, insecure: bool) -> Endpoint:
    url = split(text if "://" in text else f"{'http' if insecure else 'https'}://{text}")
    if "@" in url.netloc:
        raise Invalid("a gRPC endpoint takes no user and password", "use headers", fatal=True)
    netloc = url.netloc
    if url.port is None:
        # Plaintext goes to a collector, which listens on OTLP's own port; TLS to a vendor, where 443 is gRPC's default.
        netloc = f"{netloc.rstrip(':')}:{443 if url.scheme == 'https' else 4317}"
    warnings = []
    if url.port == 4318:
        warnings.append(
            "port 4318 is usually HTTP's and the protocol is grpc: use port 4317, or protocol http/protobuf"
        )
    if url.path not in ("", "/") or url.query:
        warnings.append("a gRPC endpoint has no path: it is left out")
    return Endpoint(f"{url.scheme}://{netloc}", "; ".join(warnings))


def split(text: str) -> SplitResult:
    """The parts of an http or https URL that can be dialled.

    :raises Invalid: it can't be; always fatal.
    """
    if re.search(_UNPRINTABLE, text):
        raise Invalid("must not contain spaces or control characters", fatal=True)
    try:
        url = urlsplit(text)
        hostname = url.hostname
    except ValueError:  # brackets that don't hold an IPv6 address
        raise Invalid("its host is malformed", fatal=True) from None
    if url.scheme not in ("http", "https"):
        raise Invalid("must start with http:// or https://", fatal=True)
    if not hostname:
        raise Invalid("has no host", fatal=True)
    if not re.fullmatch(_HOST, f"[{hostname}]" if ":" in hostname else hostname):
        raise Invalid("its host is malformed", fatal=True)
    try:
        port = url.port
    except ValueError:
        port = 0
    if port == 0:
        raise Invalid("its port must be a number from 1 to 65535", fatal=True)
    return url


def _bare(text: str) -> bool:
    """Whether it would do with a scheme before it."""
    try:
        return "@" not in text and bool(split(f"http://{text}"))
    except Invalid:
        return False
