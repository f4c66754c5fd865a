"""Spans a second from the wire into a store on disk: the viewer's, and that of Jaeger with badger.

A generator in a process of its own sends requests of 2,000 five-attribute spans over four connections, each the next
when the one before it is answered; it costs the same for both. What was answered with 200 must be in the store at the
end: counted in its file, for Jaeger by its exporter's own metric.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.environments import ROOT, Unavailable
from benchmarks.samples import Context, Sample
from benchmarks.viewers import JAEGER, VIEWER, Running, running
from benchmarks.wire import SHAPES

__all__ = ["DRIVEN", "HOLD_S", "PEERS", "TURNS", "drive", "generate"]

PEERS = (VIEWER, JAEGER)
PARTS = ("",)
TURNS = tuple(SHAPES)
DRIVEN = True
HOLD_S = 60.0
WARM_S = 2.0


def drive(context: Context) -> Iterator[Sample]:
    """A minute of one shape of traces, into an empty store."""
    try:
        yield _hold(context, context.turn)
    except Unavailable as error:
        yield Sample("ingest", context.peer, context.turn, note=f"not available here: {error}")
    except RuntimeError as error:
        yield Sample("ingest", context.peer, context.turn, note=str(error))


def generate(one: Running, shape: str, seconds: float, *more: str) -> dict[str, float]:
    """What the generator says of a run of it.

    :param more: further arguments of it.
    :raises RuntimeError: it failed.
    """
    command = [sys.executable, "-m", "benchmarks.wire", one.otlp, shape, str(seconds), *more]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=seconds + 600)
    if done.returncode:
        raise RuntimeError(f"the generator failed: {done.stderr.strip()[-300:]}")
    sent: dict[str, float] = json.loads(done.stdout)
    return sent


def _hold(context: Context, shape: str) -> Sample:
    with tempfile.TemporaryDirectory(prefix="otelagent-ingest-") as folder:
        with running(context.peer, Path(folder)) as one:
            warm = generate(one, shape, 0.2 if context.quick else WARM_S)
            cpu_s = one.cpu_s
            sent = generate(one, shape, 0.5 if context.quick else HOLD_S)
            values = {
                "spans_per_s": sent["taken"] / sent["seconds"],
                "seconds": sent["seconds"],
                "process_us": (one.cpu_s - cpu_s) / max(sent["taken"], 1) * 1e6,
                "rss_mib": one.peak_mib,
            }
            stored = one.stored()
        taken = int(warm["taken"] + sent["taken"])
        refused = int(warm["spans"] + sent["spans"]) - taken
        note = f"{refused} spans refused, with the answer" if refused else ""
        return Sample("ingest", context.peer, shape, values=values, sent=taken, arrived=stored, note=note)
