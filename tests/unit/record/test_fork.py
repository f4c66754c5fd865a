"""A fork child: its own identity, ids, thread and queue. Each case runs in a process of its own, because it forks."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

PREAMBLE = """
import json, os, signal, sys, threading, time
from otelagent.config import load
from otelagent.delivery.ledger import Ledger
from otelagent.record import open_engine
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

ledger = Ledger("traces")
requests = []

def deliver(signal, body, items):
    requests.append(body)
    ledger.delivered(items)

engine = None

def child_hook():
    ledger.after_fork_in_child()
    requests.clear()
    engine.after_fork_in_child()

settings = {"service_name": "shop", "engine": ENGINE}
settings |= {"batch_schedule_delay_ms": 60000, "batch_max_export_batch_size": BATCH_SIZE}

if HOOK_FIRST:
    os.register_at_fork(after_in_child=child_hook)
engine = open_engine(load(settings, {}), ledger, deliver)
if not HOOK_FIRST:
    os.register_at_fork(after_in_child=child_hook)
tracer = engine.provider.get_tracer("t")

def report():
    flushed = engine.flush(time.monotonic() + 10)
    spans, resources = [], []
    for body in requests:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            values = {a.key: a.value.string_value or a.value.int_value for a in resource.resource.attributes}
            resources.append([values["service.instance.id"], values["process.pid"]])
            for scope in resource.scope_spans:
                spans += [[span.name, span.trace_id.hex()] for span in scope.spans]
    snapshot = ledger.snapshot()
    return {
        "pid": os.getpid(), "flushed": flushed, "spans": spans, "resources": resources,
        "delivered": snapshot.delivered, "balanced": snapshot.balanced, "queued": snapshot.queued,
    }

def in_child(work):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)  # A child that hangs must not outlive its test.
        status = 1
        try:
            os.write(write, json.dumps(work()).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(write)
    with os.fdopen(read) as pipe:
        answer = pipe.read()
    assert os.waitpid(pid, 0)[1] == 0
    return json.loads(answer)
"""


ENGINE = ["sdk"]


@pytest.fixture(autouse=True)
def either(engine: str) -> None:
    """Runs each program with either engine."""
    ENGINE[0] = engine


def run(code: str, *, hook_first: bool = False, batch_size: int = 512, environ: dict[str, str] | None = None) -> Any:
    constants = f"ENGINE = {ENGINE[0]!r}\nHOOK_FIRST = {hook_first}\nBATCH_SIZE = {batch_size}\n"
    done = subprocess.run(
        [sys.executable, "-c", constants + PREAMBLE + code],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": "", **(environ or {})},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("hook_first", [True, False])
def test_a_child_is_another_process_of_the_same_service(hook_first: bool) -> None:
    got = run(
        """
tracer.start_span("before").end()
open_span = tracer.start_span("open")

def child():
    tracer.start_span("of child").end()
    engine.provider.get_tracer("new in child").start_span("of new tracer").end()
    open_span.end()
    return report()

answer = in_child(child)
open_span.end()
print(json.dumps({"child": answer, "parent": report()}))
""",
        hook_first=hook_first,
        # What the stock hook would merge over our identity.
        environ={"OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "process", "OTEL_RESOURCE_ATTRIBUTES": "service.name=wrong"},
    )
    child, parent = got["child"], got["parent"]
    assert sorted(name for name, _ in child["spans"]) == ["of child", "of new tracer", "open"]
    assert sorted(name for name, _ in parent["spans"]) == ["before", "open"]
    # One resource each, whoever made the tracer, and no name or pid of the other.
    assert len({tuple(one) for one in child["resources"]}) == 1
    assert len({tuple(one) for one in parent["resources"]}) == 1
    assert child["resources"][0][1] == child["pid"]
    assert parent["resources"][0][1] == parent["pid"]
    assert child["resources"][0][0] != parent["resources"][0][0]
    for one, count in ((child, 3), (parent, 2)):
        assert (one["flushed"], one["balanced"], one["queued"], one["delivered"]) == (True, True, 0, count)


def test_children_do_not_repeat_ids() -> None:
    got = run(
        """
tracer.start_span("a").end()

def child():
    for _ in range(20):
        tracer.start_span("a").end()
    return report()

answers = [in_child(child) for _ in range(3)]
for _ in range(20):
    tracer.start_span("a").end()
answers.append(report())
print(json.dumps(answers))
"""
    )
    ids = [trace_id for one in got for _, trace_id in one["spans"]]
    assert len(ids) == 81
    assert len(set(ids)) == 81


def test_a_child_starts_its_own_thread_and_a_grandchild_too() -> None:
    got = run(
        """
def wait_for_thread():
    tracer.start_span("a").end()
    deadline = time.monotonic() + 10
    while not requests and time.monotonic() < deadline:
        time.sleep(0.01)
    names = [thread.name for thread in threading.enumerate()]
    return {"requests": len(requests), "threads": names.count("otelagent-batch")}

def child():
    own = wait_for_thread()
    return [own, in_child(wait_for_thread)]

print(json.dumps([wait_for_thread(), *in_child(child)]))
""",
        batch_size=1,
    )
    assert got == [{"requests": 1, "threads": 1}] * 3


def test_a_fork_while_another_thread_drains_does_not_hang_the_child() -> None:
    got = run(
        """
entered, leave = threading.Event(), threading.Event()
deliver_at_once = deliver

def slow(signal, body, items):
    entered.set()
    leave.wait(10)
    deliver_at_once(signal, body, items)

engine._batch._deliver = slow
tracer.start_span("of parent").end()
assert entered.wait(10)

def child():
    leave.set()
    tracer.start_span("of child").end()
    return report()

answer = in_child(child)
leave.set()
print(json.dumps([answer, report()]))
""",
        batch_size=1,
    )
    child, parent = got
    assert [name for name, _ in child["spans"]] == ["of child"]
    assert [name for name, _ in parent["spans"]] == ["of parent"]
    assert child["flushed"]
    assert parent["flushed"]


@pytest.mark.parametrize("engine", ["sdk"], indirect=True)
def test_a_fork_during_the_import_of_the_encoder_does_not_hang_the_child() -> None:
    got = run(
        """
import importlib.abc, importlib.machinery

importing = threading.Event()
NAME = "opentelemetry.exporter.otlp.proto.common._internal.trace_encoder"

class Slow(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == NAME:
            importing.set()
            time.sleep(0.5)
        return None

sys.meta_path.insert(0, Slow())
tracer.start_span("of parent").end()
assert importing.wait(10)

def child():
    tracer.start_span("of child").end()
    return report()

print(json.dumps([in_child(child), report()]))
""",
        batch_size=1,
    )
    assert [[name for name, _ in one["spans"]] for one in got] == [["of child"], ["of parent"]]
