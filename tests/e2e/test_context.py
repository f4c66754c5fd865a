"""Parents across interleaved tasks, threads, and generators that are closed early."""

from __future__ import annotations

from collections import Counter

import pytest

from backends import Span
from tests.e2e.harness import Bench, Stack, shape

TASKS, THREADS = 60, 8

PROGRAM = f"""
import asyncio
import gc
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import otelagent

# --- tasks that are all under way at once, each with its own chain of spans, and children they start on the way

async def step(task, depth):
    with otelagent.span(f"task {{task}} depth {{depth}}"):
        await asyncio.sleep(random.random() / 500)
        if depth < 3:
            await step(task, depth + 1)
        await asyncio.sleep(random.random() / 500)

async def child(task):
    await asyncio.sleep(random.random() / 500)
    with otelagent.span(f"task {{task}} child"):
        await asyncio.to_thread(blocking, f"task {{task}} thread")

async def one(task):
    with otelagent.span(f"task {{task}}"):
        started = asyncio.create_task(child(task))
        await step(task, 1)
        await started

def blocking(name):
    with otelagent.span(name):
        pass

async def tasks():
    await asyncio.gather(*(one(number) for number in range({TASKS})))

asyncio.run(tasks())

# --- a pool whose threads were started under another span, a map, plain threads, a timer

with ThreadPoolExecutor(2) as pool:
    with otelagent.span("pool first"):
        pool.submit(blocking, "pool first job").result()
    with otelagent.span("pool second"):
        list(pool.map(blocking, [f"pool second job {{n}}" for n in range({THREADS})]))
    pool.submit(blocking, "pool job of nobody").result()
with otelagent.span("threads"):
    started = [threading.Thread(target=blocking, args=(f"thread {{n}}",)) for n in range({THREADS})]
    started.append(threading.Timer(0.01, blocking, ["timer"]))
    for thread in started:
        thread.start()
for thread in started:
    thread.join()

# --- generators: closed early, left to the garbage collector, and closed by another task than the one that began them

@otelagent.instrument("numbers")
def numbers():
    for number in range(10):
        yield number

def lines():
    with otelagent.span("lines"):
        while True:
            with otelagent.span("line"):
                yield

with otelagent.span("early"):
    for number in numbers():
        break
    with otelagent.span("after the break"):
        pass
    iterator = lines()
    next(iterator)
    iterator.close()
    with otelagent.span("after the close"):
        pass
with otelagent.span("garbage"):
    iterator = lines()
    next(iterator)
    del iterator
    gc.collect()
    with otelagent.span("after the garbage"):
        pass

@otelagent.instrument("feed")
async def feed():
    for number in range(10):
        yield number

async def begin(stream):
    with otelagent.span("begins"):
        await anext(stream)

async def handed_over():
    with otelagent.span("hands over"):
        stream = feed()
        await asyncio.create_task(begin(stream))
        await asyncio.create_task(stream.aclose())
        with otelagent.span("after the other task"):
            pass

asyncio.run(handed_over())
with otelagent.span("last"):
    pass
"""


def expected() -> set[tuple[str, str]]:
    """Parent's name and name of every span of the program."""
    pairs = {("", "last"), ("", "pool job of nobody"), ("", "pool first"), ("", "pool second"), ("", "threads")}
    for task in range(TASKS):
        name = f"task {task}"
        pairs |= {("", name), (name, f"{name} depth 1"), (name, f"{name} child"), (f"{name} child", f"{name} thread")}
        pairs |= {(f"{name} depth {depth}", f"{name} depth {depth + 1}") for depth in (1, 2)}
    pairs |= {("pool first", "pool first job"), ("threads", "timer")}
    for number in range(THREADS):
        pairs |= {("pool second", f"pool second job {number}"), ("threads", f"thread {number}")}
    pairs |= {("", "early"), ("early", "numbers"), ("early", "after the break"), ("early", "after the close")}
    pairs |= {("early", "lines"), ("lines", "line"), ("garbage", "lines")}
    pairs |= {("", "garbage"), ("garbage", "after the garbage")}
    pairs |= {("", "hands over"), ("hands over", "begins"), ("hands over", "after the other task"), ("begins", "feed")}
    return pairs


def check(bench: Bench) -> list[Span]:
    bench.write("program.py", PROGRAM)
    code, output = bench.run("python", "-W", "error", "program.py", OTELAGENT_QUIET="1", OTEL_BSP_MAX_QUEUE_SIZE="4096")
    assert (code, output) == (0, ""), output  # no word of tokens that can't be given back
    spans = bench.settle()
    assert shape(spans) == expected()
    twice = {name for name, count in Counter(span.name for span in spans).items() if count == 2}
    assert twice == {"lines", "line"}
    assert len(spans) == len(expected()) + 1  # both `line` have a parent called `lines`
    by_id = {span.span_id: span for span in spans}
    for span in spans:
        assert span.trace_id == by_id.get(span.parent_id, span).trace_id
        assert span.status == "unset"
    return spans


def test_every_span_has_the_right_parent(bench: Bench) -> None:
    check(bench)


@pytest.mark.backends
def test_every_span_has_the_right_parent_in_the_back_ends(collected: Bench, stack: Stack) -> None:
    spans = check(collected)
    whole = [span for span in spans if span.name.startswith(("task 1", "pool", "early", "hands"))]
    traces = {span.trace_id for span in whole}
    stack.expect_everywhere([span for span in spans if span.trace_id in traces])
