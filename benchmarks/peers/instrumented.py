"""How each peer instruments FastAPI, Flask and sqlite3: its documented way, before the application is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from benchmarks.peers.recording import Recording, start

__all__ = ["instrument"]


def instrument(peer: str, address: str) -> Recording:
    """Sets the peer up to record and to instrument the three libraries.

    :param peer: its name in `PEERS`.
    :param address: of the sink.
    """
    recording = start(peer, address)
    if peer in _INSTRUMENTS:
        _INSTRUMENTS[peer]()
    return recording


def _opentelemetry() -> None:
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
    from opentelemetry.instrumentation.flask import FlaskInstrumentor
    from opentelemetry.instrumentation.sqlite3 import SQLite3Instrumentor

    FastAPIInstrumentor().instrument()
    FlaskInstrumentor().instrument()
    SQLite3Instrumentor().instrument()


def _ddtrace() -> None:
    import ddtrace

    ddtrace.patch(fastapi=True, starlette=True, flask=True, sqlite3=True)


# otelagent's `init()` instruments by itself.
_INSTRUMENTS: Mapping[str, Callable[[], None]] = {"opentelemetry": _opentelemetry, "ddtrace": _ddtrace}
