"""What a five-attribute span costs when threads or asyncio tasks make spans at the same time."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

from benchmarks.peers.recording import Recording, start
from benchmarks.samples import Arrivals, Context, Sample
from benchmarks.workloads import loop_of, task_of

PEERS = ("api", "opentelemetry", "logfire", "ddtrace", "pycpp", "otelagent-sdk", "otelagent-native")
PARTS = ("",)

THREADS = (1, 4, 16)
TASKS = 100
WORKLOAD = "attributes-5"
SAMPLE_S = 0.3
SPANS = (3_200, 96_000)


def measure(context: Context, part: str) -> Iterator[Sample]:
    """Threads share the spans; each counts its own CPU. Tasks give way to each other inside every span."""
    recording = start(context.peer, context.address)
    arrivals = Arrivals(context, recording)
    delivers = context.peer != "api"
    loop = loop_of(WORKLOAD, recording)
    assert loop is not None
    began = time.thread_time()
    loop(500)
    cost_s = (time.thread_time() - began) / 500
    lost = 500 * delivers - arrivals.settle(500 * delivers)[0]
    count = 320 if context.quick else int(min(max(SAMPLE_S / cost_s, SPANS[0]), SPANS[1]))
    for threads in THREADS:
        each = count // threads
        process = time.process_time()
        thread_s = _in_threads(loop, each, threads)
        sent = each * threads * delivers
        arrived, waiting_s = arrivals.settle(sent)
        spans = each * threads
        process_s = time.process_time() - process - waiting_s
        values = {"thread_us": thread_s / spans * 1e6, "process_us": process_s / spans * 1e6}
        yield Sample(
            "concurrency", context.peer, f"threads-{threads}", values=values, sent=sent, arrived=arrived - lost
        )
        lost = 0
    each = count // TASKS
    cpu_s = asyncio.run(_in_tasks(recording, each))
    sent = each * TASKS * delivers
    values = {"thread_us": cpu_s / each / TASKS * 1e6}
    arrived = arrivals.settle(sent)[0]
    yield Sample("concurrency", context.peer, f"tasks-{TASKS}", values=values, sent=sent, arrived=arrived)


def _in_threads(loop: object, each: int, threads: int) -> float:
    assert callable(loop)
    spent: list[float] = []
    together = threading.Barrier(threads)

    def run() -> None:
        together.wait()
        began = time.thread_time()
        loop(each)
        spent.append(time.thread_time() - began)

    workers = [threading.Thread(target=run) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(spent)


async def _in_tasks(recording: Recording, each: int) -> float:
    """The CPU seconds of this thread, without what the same tasks take that only give way to each other."""

    async def pause() -> None:
        await asyncio.sleep(0)

    spent = []
    for task in (task_of(None, recording, pause), task_of(WORKLOAD, recording, pause)):
        began = time.thread_time()
        await asyncio.gather(*(task(each) for _ in range(TASKS)))
        spent.append(time.thread_time() - began)
    return spent[1] - spent[0]
