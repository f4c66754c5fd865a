"""Samples: what one process measured once, and how it waits for its spans to arrive."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.peers.recording import Recording
from benchmarks.sink import counted

__all__ = ["Arrivals", "Context", "Sample", "read", "write"]

ARRIVAL_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Sample:
    """One measurement.

    :param case: what of its question it answers.
    :param values: by metric; the unit is the end of the metric's name.
    :param sent: how many spans had to arrive, and how many did; equal if nothing was lost.
    :param note: why a number is missing or to be read with care.
    """

    question: str
    peer: str
    case: str
    round: int = 0
    values: Mapping[str, float] = field(default_factory=dict)
    sent: int = 0
    arrived: int = 0
    note: str = ""


@dataclass(frozen=True)
class Context:
    """What a question is asked with.

    :param peer: its name.
    :param address: of the sink.
    :param quick: as little as shows that it works; the numbers mean nothing.
    :param turn: the part that is asked of each peer before the next part is, for a question that has `TURNS`.
    """

    peer: str
    address: str
    quick: bool = False
    turn: str = ""


class Arrivals:
    """Tells what has arrived at the sink since the last look, and what the looking itself cost this process."""

    def __init__(self, context: Context, recording: Recording) -> None:
        self._address = context.address
        self._flush = recording.flush
        self._seen = counted(context.address)

    def settle(self, sent: int) -> tuple[int, float]:
        """Flushes and waits until so many spans have arrived, or no more come.

        :returns: how many have, and the CPU seconds of this thread that went into waiting.
        """
        if self._flush is not None:
            self._flush()
        began = time.thread_time()
        deadline = time.monotonic() + (ARRIVAL_TIMEOUT_S if sent else 0.0)
        while (arrived := counted(self._address) - self._seen) < sent and time.monotonic() < deadline:
            time.sleep(0.02)
        self._seen += arrived
        return arrived, time.thread_time() - began


def write(sample: Sample) -> str:
    """One line of JSON."""
    return json.dumps({key: value for key, value in asdict(sample).items() if value or key not in ("note", "values")})


def read(lines: Iterable[str]) -> Iterator[Sample]:
    """The samples of such lines; what is something else is skipped, as a library's chatter."""
    for line in lines:
        if line.startswith('{"question"'):
            values: dict[str, Any] = json.loads(line)
            yield Sample(**values)
