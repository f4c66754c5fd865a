"""What may be asked of each path below ``/api/``, and how the values are read.

Nothing is passed over: who has written a parameter in another way, or a value that is none, would be answered as if
there were no such condition.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from otelagent.viewer.server.answers import Refused

__all__ = [
    "MAX_ID",
    "PARAMETERS",
    "between",
    "flag",
    "hexadecimal",
    "integer",
    "known",
    "limit",
    "log_position",
    "milliseconds",
]

MAX_ID = 2**63 - 1
_MAX_LIMIT = 500

PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "/api/status": (),
    "/api/checks": (),
    "/api/traces": (
        "service",
        "operation",
        "error",
        "min_ms",
        "max_ms",
        "from",
        "to",
        "q",
        "attr",
        "sort",
        "limit",
        "before",
    ),
    "/api/traces/{trace}": (),
    "/api/traces/{trace}/spans/{span}": (),
    "/api/traces/{trace}/search": ("q",),
    "/api/traces/{trace}/otlp": (),
    "/api/traces/{trace}/share": (),
    "/api/services": (),
    "/api/operations": ("service",),
    "/api/map": ("from", "to"),
    "/api/logs": ("service", "severity", "q", "trace", "limit", "before"),
    "/api/metrics": ("service",),
    "/api/metrics/{metric:int}/points": ("from", "to"),
    "/api/events": (),
    "/api/follow": (),
    "/api/session": (),
    "/api/import": (),
}
"""The routes, and the names that their queries may have."""


def known(path: str, asked: Iterable[str], parameters: tuple[str, ...]) -> None:
    """Looks whether all that is asked can be.

    :raises Refused: there is a name that is none of the parameters.
    """
    there = f"there is {', '.join(parameters)}" if parameters else "it has none"
    for name in asked:
        if name not in parameters:
            raise Refused(400, "unknown_parameter", f"{name[:40]!r} is no parameter of {path[:100]}: {there}")


def flag(asked: Mapping[str, str], name: str) -> bool:
    """Whether it is asked for."""
    text = asked.get(name, "").strip()
    if text not in ("", "0", "1", "false", "true"):
        raise Refused(400, "bad_flag", f"{name}={text[:40]!r} must be 1 or 0")
    return text in ("1", "true")


def hexadecimal(text: str, size: int, name: str) -> bytes:
    """An id of so many bytes."""
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    # Python takes spaces between the digits too; the text becomes part of a header.
    if len(found) != size or len(text) != 2 * size:
        raise Refused(400, "bad_id", f"{name}={text[:64]!r} must be {2 * size} hexadecimal digits")
    return found


def integer(asked: Mapping[str, str], name: str) -> int | None:
    """A whole number; None if it isn't asked for."""
    text = asked.get(name, "").strip()
    if not text:
        return None
    if not text.isdecimal() or len(text) > 19:
        raise Refused(400, "bad_number", f"{name}={text[:40]!r} must be a whole number")
    return min(int(text), 2**63 - 1)


def log_position(asked: Mapping[str, str]) -> tuple[int, int]:
    """Where a page of log records begins: `next` of the one before."""
    text = asked.get("before", "").strip()
    time, _, row = (text or f"{MAX_ID}-{MAX_ID}").partition("-")
    if not all(one.isdecimal() and len(one) <= 19 for one in (time, row)):
        raise Refused(400, "bad_number", f"before={text[:40]!r} must be what a page of log records has as next")
    return min(int(time), MAX_ID), min(int(row), MAX_ID)


def between(asked: Mapping[str, str]) -> tuple[int, int]:
    """From when to when, nanoseconds since the epoch."""
    low, high = integer(asked, "from"), integer(asked, "to")
    return low or 0, 2**63 - 1 if high is None else high


def milliseconds(asked: Mapping[str, str], name: str) -> int | None:
    """Nanoseconds of what is asked for in milliseconds."""
    text = asked.get(name, "").strip()
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < 1e12:
        raise Refused(400, "bad_number", f"{name}={text[:40]!r} must be milliseconds")
    return int(number * 1e6)


def limit(asked: Mapping[str, str]) -> int:
    """How many of a list."""
    return max(1, min(integer(asked, "limit") or 50, _MAX_LIMIT))
