"""What a span that waits takes in memory, and what a peer takes at all."""

from __future__ import annotations

import gc
import os
import resource
import signal
import socket
import sys
from collections.abc import Iterator

from benchmarks.peers.recording import start
from benchmarks.samples import Arrivals, Context, Sample
from benchmarks.workloads import loop_of

PEERS = ("bare", "api", "opentelemetry", "logfire", "ddtrace", "pycpp", "otelagent-sdk", "otelagent-native")
PARTS = ("started", "queued")

SPANS = 20_000


def measure(context: Context, part: str) -> Iterator[Sample]:
    """Resident memory of this process: after the first spans were delivered, or grown by spans that can't be."""
    delivers = context.peer not in ("bare", "api")
    if part == "queued":
        if delivers:
            yield _queued(context)
            sys.stdout.flush()
            os.kill(os.getpid(), signal.SIGKILL)  # It would try for long to deliver what nobody takes.
        return
    recording = start(context.peer, context.address)
    arrivals = Arrivals(context, recording)
    loop = loop_of("attributes-5", recording)
    assert loop is not None
    loop(1_000)
    sent = 1_000 * delivers
    arrived = arrivals.settle(sent)[0]
    yield Sample("memory", context.peer, "started", values={"rss_mib": _rss() / 2**20}, sent=sent, arrived=arrived)


def _queued(context: Context) -> Sample:
    # Connections are made, by the kernel, and requests are taken as far as its buffers go; nobody answers.
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        recording = start(context.peer, f"http://127.0.0.1:{nobody.getsockname()[1]}", queue=200_000)
        loop = loop_of("attributes-5", recording)
        assert loop is not None
        loop(2_000)
        count = 1_000 if context.quick else SPANS
        before = _rss()
        loop(count)
        return Sample("memory", context.peer, "queued", values={"queued_bytes": (_rss() - before) / count})


def _rss() -> int:
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
