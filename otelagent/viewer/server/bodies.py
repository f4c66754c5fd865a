"""Bodies of requests, bounded while they are decompressed."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator

__all__ = ["MAX_BODY_BYTES", "Refused", "read_body"]

MAX_BODY_BYTES = 20 * 1024 * 1024
"""Of a request, decompressed; what the OpenTelemetry Collector takes too."""


class Refused(Exception):
    """A body that is not taken.

    :param status: of the answer.
    :param code: a short stable token.
    :param message: what is wrong and what to do.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


async def read_body(chunks: AsyncIterator[bytes], encoding: str, max_bytes: int = MAX_BODY_BYTES) -> bytes:
    """The whole body, decompressed.

    :param encoding: of the header ``Content-Encoding``.
    :raises Refused: it is too long, broken, or in an unknown encoding.
    """
    encoding = encoding.strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip", "deflate"):
        raise Refused(415, "unknown_encoding", f"Content-Encoding {encoding[:40]!r} is not taken: use gzip or none")
    inflate = None if encoding in ("", "identity") else zlib.decompressobj(wbits=47)
    parts: list[bytes] = []
    received = size = 0
    async for chunk in chunks:
        received += len(chunk)
        try:
            part = inflate.decompress(chunk, max_bytes + 1 - size) if inflate else chunk
        except zlib.error as error:
            raise Refused(400, "broken_encoding", f"the body is no {encoding}: {error}") from None
        size += len(part)
        if max(size, received) > max_bytes:
            raise Refused(413, "too_large", f"the body is longer than {max_bytes} bytes: send smaller batches")
        parts.append(part)
    if inflate and (not inflate.eof or inflate.unused_data):
        raise Refused(400, "broken_encoding", f"the {encoding} body ends too early or goes on after its end")
    return b"".join(parts)
