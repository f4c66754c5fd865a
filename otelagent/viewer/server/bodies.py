"""Bodies of requests, bounded while they come in and are decompressed."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import anyio
from starlette.requests import ClientDisconnect

from otelagent.viewer.server.answers import Refused

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["MAX_BODY_BYTES", "read_body"]

MAX_BODY_BYTES = 20 * 1024 * 1024
"""Of a request, decompressed; what the OpenTelemetry Collector takes too."""

WHOLE_S = 20.0
"""For a body to come in whole."""


async def read_body(
    request: Request, max_bytes: int = MAX_BODY_BYTES, keep: Callable[[int], object] = lambda size: None
) -> bytes:
    """The whole body, decompressed.

    :param keep: called with the bytes of each part that is to be held.
    :raises Refused: it is too long, too slow, broken, or in an unknown encoding.
    """
    encoding = request.headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip", "deflate"):
        raise Refused(415, "unknown_encoding", f"Content-Encoding {encoding[:40]!r} is not taken: use gzip or none")
    too_large = Refused(413, "too_large", f"the body is longer than {max_bytes} bytes: send smaller batches")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:19]) > max_bytes:
        raise too_large
    inflate = None if encoding in ("", "identity") else zlib.decompressobj(wbits=47)
    parts: list[bytes] = []
    received = size = 0
    try:
        with anyio.fail_after(WHOLE_S):
            async for chunk in request.stream():
                received += len(chunk)
                part = inflate.decompress(chunk, max_bytes + 1 - size) if inflate else chunk
                size += len(part)
                if max(size, received) > max_bytes:
                    raise too_large
                keep(len(part))
                parts.append(part)
    except zlib.error as error:
        raise Refused(400, "broken_encoding", f"the body is no {encoding}: {error}") from None
    except TimeoutError:
        raise Refused(408, "too_slow", f"the body did not come within {WHOLE_S:.0f} s") from None
    except ClientDisconnect:
        raise Refused(400, "gone", "the client went away in the middle of the body") from None
    if inflate and (not inflate.eof or inflate.unused_data):
        raise Refused(400, "broken_encoding", f"the {encoding} body ends too early or goes on after its end")
    return b"".join(parts)
