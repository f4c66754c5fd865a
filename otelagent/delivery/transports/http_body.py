"""Reading an HTTP answer whose length and compression are the peer's choice."""

from __future__ import annotations

import zlib

import httpcore

from otelagent.delivery.otlp import clean_text

__all__ = ["MalformedBody", "lower_headers", "read_body"]


class MalformedBody(Exception):
    """A body that can't be or isn't read to its end."""


def lower_headers(response: httpcore.Response) -> dict[str, str]:
    """An answer's headers, names in lower case."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}


def read_body(response: httpcore.Response, headers: dict[str, str], max_bytes: int) -> bytes:
    """An answer's body, decompressed, of at most `max_bytes`.

    :param headers: the answer's, names in lower case.
    :raises MalformedBody: it is longer, or its encoding is unknown or broken.
    """
    # Decompressed here and not by a library, which would inflate a chunk of a gzip bomb to a thousand times its size
    # before anyone could count.
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "", "gzip", "x-gzip"):
        raise MalformedBody(f"the answer has an unknown encoding, {clean_text(encoding)}")
    inflate = zlib.decompressobj(wbits=31) if "gzip" in encoding else None
    body = b""
    received = 0
    for chunk in response.iter_stream():
        received += len(chunk)
        try:
            body += inflate.decompress(chunk, max_bytes + 1 - len(body)) if inflate else chunk
        except zlib.error as error:
            raise MalformedBody("the answer is broken gzip") from error
        # What is received counts too: gzip may be longer than what is in it.
        if max(received, len(body)) > max_bytes:
            raise MalformedBody(f"the answer is longer than {max_bytes} bytes")
        if inflate and inflate.unused_data:
            # Which zlib would keep, however much of it comes.
            raise MalformedBody("the answer goes on after the end of its gzip")
    return body
