"""Forks, in interpreters of their own."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.delivery.harness import FaultServer

# A parent whose export is under way (or over) when it forks; parent and children deliver and tell what they counted.
PROGRAM = """
import json, os, sys, threading, time
from otelagent.delivery import Ledger, Destination, Payload, RetryPolicy
from otelagent.delivery.delivery import open_transport
from types import SimpleNamespace as Settings
from tests.delivery.harness import otlp, payload

protocol, endpoint, moment = sys.argv[1:]
config = Settings(traces=Settings(exporter="otlp"), otlp=otlp(endpoint, protocol=protocol))
ledger = Ledger("traces")
destination = Destination(open_transport(config), {"traces": ledger}, RetryPolicy(0.01, 0.02))
os.register_at_fork(after_in_child=destination.after_fork_in_child)

def deliver(who, payloads):
    for one in payloads:
        ledger.ended(one.items)
        destination.submit(one)
    arrived = destination.flush(time.monotonic() + 10)
    snapshot = ledger.snapshot()
    assert snapshot.queued == destination.queued_items
    line = json.dumps({"who": who, "arrived": arrived, **snapshot.to_dict()}) + "\\n"
    os.write(1, line.encode())

def submit(one):
    ledger.ended(one.items)
    destination.submit(one)

if moment == "idle":
    submit(payload(1, "parent"))
    destination.flush(time.monotonic() + 10)
elif moment == "in the first":
    submit(payload(1, "parent"))
    time.sleep(float(os.environ.get("DELAY", "0.03")))
elif moment == "in flight":
    for _ in range(3):
        submit(payload(1, "parent"))
    time.sleep(0.7)
else:
    assert moment == "before the first"
children = []
for number in range(3):
    child = os.fork()
    if not child:
        deliver("child", [payload(2, "child")] * 2)
        grandchild = os.fork()
        if not grandchild:
            deliver("grandchild", [payload(3, "grandchild")])
            os._exit(0)
        _, status = os.waitpid(grandchild, 0)
        destination.shutdown(time.monotonic() + 5)
        os._exit(os.waitstatus_to_exitcode(status))
    children.append(child)
statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
assert statuses == [0, 0, 0], statuses
deliver("parent", [payload(1, "parent")])
destination.shutdown(time.monotonic() + 5)
"""


@pytest.mark.parametrize("moment", ["before the first", "in the first", "idle", "in flight"])
@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_parents_and_children_deliver_their_own(protocol: str, moment: str) -> None:
    slow = {"status": 200, "delay_s": 1.0 if moment == "in flight" else 0.0}
    with FaultServer(protocol[:4], slow, {"status": 200}) as server:
        endpoint = server.endpoint if protocol == "http/protobuf" else f"http://127.0.0.1:{server.port}"
        done = subprocess.run(
            [sys.executable, "-W", "error::ResourceWarning", "-c", PROGRAM, protocol, endpoint, moment],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        requests = server.stop()
    assert done.returncode == 0, done.stderr
    counts = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(count["arrived"] and count["balanced"] and count["queued"] == 0 for count in counts)
    before = {"before the first": 0, "in the first": 1, "idle": 1, "in flight": 3}[moment]
    delivered = sorted((count["who"], count["delivered"]) for count in counts)
    assert delivered == [("child", 4)] * 3 + [("grandchild", 3)] * 3 + [("parent", before + 1)]
    # No child sends what waited in its parent. A gRPC call that a fork interrupts is made again.
    sent = [
        next(who for who in ("grandchild", "child", "parent") if who.encode().hex() in request["body"])
        for request in requests
    ]
    assert (sent.count("child"), sent.count("grandchild")) == (6, 3)
    assert before + 1 <= sent.count("parent") <= before + 1 + (3 if protocol == "grpc" else 0)
    assert "fork" not in done.stderr
