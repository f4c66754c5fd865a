"""Forks, in interpreters of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from tests.delivery.harness import FaultServer, partial_success, payload
from tests.delivery.spool.disk import Disk

# A parent whose export is under way (or over) when it forks; parent and children deliver and tell what they counted.
PROGRAM = """
import json, os, sys, threading, time
import opentelemetry.trace  # The agent has it before there is anything to deliver.
from otelagent.delivery import Ledger, Destination, Payload, RetryPolicy
from otelagent.delivery.delivery import open_transport
from types import SimpleNamespace as Settings
from tests.delivery.harness import otlp, payload

protocol, endpoint, moment = sys.argv[1:]
export = Settings(exporter="otlp", otlp=otlp(endpoint, protocol=protocol))
config = Settings(export=lambda *_: export)
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
    assert "skipping fork" not in done.stderr


# A parent whose disk thread writes all the time while it forks. Nothing can be delivered.
SPOOLING_PROGRAM = """
import json, os, sys, threading, time
from otelagent.delivery import Destination, Ledger, Payload, Retryable, RetryPolicy
from otelagent.delivery.spool.place import SpoolPlace
from otelagent.delivery.spool.spool import Spool
from otelagent.delivery.spooling import THREAD_NAME, SpoolAt
from tests.delivery.harness import FakeTransport

ledger = Ledger("traces")
at = SpoolAt(sys.argv[1], lambda: Spool(SpoolPlace(sys.argv[1], "key", {})))
destination = Destination(
    FakeTransport(Retryable("connection")), {"traces": ledger}, RetryPolicy(0.001, 0.002), spool=at
)
os.register_at_fork(after_in_child=destination.after_fork_in_child)
enough = threading.Event()

def submit(who, number):
    ledger.ended(1)
    destination.submit(Payload("traces", f"{os.getpid()} {who} {number}".encode(), 1))

def submit_all_the_time():
    number = 0
    while not enough.is_set() or number < 500:
        submit("parent", number)
        number += 1
        time.sleep(0.0005)

def end(who):
    destination.shutdown(time.monotonic() + 20)
    os.write(1, (json.dumps({"who": who, **ledger.snapshot().to_dict()}) + "\\n").encode())

thread = threading.Thread(target=submit_all_the_time)
thread.start()
while not ledger.snapshot().spooled:
    time.sleep(0.001)
children = []
for number in range(20):
    assert any(one.name == THREAD_NAME for one in threading.enumerate())
    child = os.fork()
    if not child:
        for which in range(5):
            submit("child", which)
        end("child")
        os._exit(0)
    children.append(child)
    time.sleep(0.01)
enough.set()
thread.join()
statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
assert statuses == [0] * 20, statuses
end("parent")
"""


def test_a_fork_while_the_disk_is_written_to_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", SPOOLING_PROGRAM, str(tmp_path / "spool")],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    counts = [json.loads(line) for line in done.stdout.splitlines()]
    assert sorted(count["who"] for count in counts) == ["child"] * 20 + ["parent"]
    assert all(count["balanced"] and not count["dropped"] and not count["queued"] for count in counts)
    assert all(count["spooled"] == count["ended"] + count["adopted"] for count in counts)
    assert [count["ended"] for count in counts if count["who"] == "child"] == [5] * 20
    disk = Disk(tmp_path / "spool")
    came: list[bytes] = []
    while disk.files():
        disk.adopt()
        came += [one.body for one in disk.drain()]
    assert len(came) == len(set(came)) == sum(count["ended"] for count in counts)
    assert not disk.failures
    disk.spool.close()


# Tells which modules the exporting thread begins to import while a fork could happen.
IMPORTING_PROGRAM = """
import json, sys, threading, time
import opentelemetry.trace  # The agent has it before there is anything to deliver.
from types import SimpleNamespace as Settings
from otelagent.delivery import Destination, Ledger, Limits, Payload, RetryPolicy
from otelagent import fork_gate
from otelagent.delivery.delivery import open_transport
from otelagent.delivery.worker import THREAD_NAME
from tests.delivery.harness import otlp

imported, unshielded = set(), set()

class Spy:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if threading.current_thread().name == THREAD_NAME:
            imported.add(name)
            if not fork_gate._lock._is_owned():
                unshielded.add(name)

sys.meta_path.insert(0, Spy)
exporter, protocol, endpoint, file, body = sys.argv[1:]
export = Settings(
    exporter=exporter, otlp=otlp(endpoint, protocol=protocol, compression="gzip"), file_path=file
)
config = Settings(export=lambda *_: export)
ledger = Ledger("traces")
destination = Destination(open_transport(config), {"traces": ledger}, RetryPolicy(0.01, 0.02), Limits(try_timeout_s=2))
for _ in range(5):
    ledger.ended(1)
    destination.submit(Payload("traces", bytes.fromhex(body), 1))
destination.shutdown(time.monotonic() + (2 if "https" in endpoint else 20))
counts = ledger.snapshot().to_dict()
print(json.dumps([len(imported), sorted(unshielded), counts["delivered"], counts["rejected"]]), file=sys.stderr)
"""

STATUS = Status(message="no").SerializeToString().hex()
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
HTTP_SCRIPT: list[dict[str, Any]] = [
    {"status": 503, "headers": {"retry-after": DATE}},
    {"do": "reset"},
    {"status": 400, "body": STATUS},
    {"status": 200, "body": partial_success(0, "a\u00e9").hex()},
    {"status": 200, "body": b"{}".hex(), "headers": {"content-type": "application/json"}},
    {"status": 200},
]
GRPC_SCRIPT: list[dict[str, Any]] = [
    {"code": "UNAVAILABLE", "status_details": STATUS},
    {"code": "INTERNAL"},
    {"body": partial_success(0, "a\u00e9").hex()},
    {},
]


@pytest.mark.parametrize(
    ("exporter", "protocol", "script", "host"),
    [
        ("otlp", "http/protobuf", HTTP_SCRIPT, "http://localhost"),
        ("otlp", "http/protobuf", HTTP_SCRIPT, "https://localhost"),
        ("otlp", "grpc", GRPC_SCRIPT, "http://localhost"),
        ("otlp", "grpc", GRPC_SCRIPT, "https://localhost"),
        ("console", "", [{}], ""),
        ("file", "", [{}], ""),
    ],
)
def test_no_fork_can_hit_an_import(
    exporter: str, protocol: str, script: list[dict[str, Any]], host: str, tmp_path: Path
) -> None:
    with FaultServer("grpc" if protocol == "grpc" else "http", *script) as server:
        arguments = [exporter, protocol, f"{host}:{server.port}/v1/traces", str(tmp_path / "out"), payload().body.hex()]
        done = subprocess.run(
            [sys.executable, "-c", IMPORTING_PROGRAM, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    imported, unshielded, delivered, rejected = json.loads(done.stderr.splitlines()[-1])
    assert imported > 0
    assert unshielded == [], unshielded
    if not host.startswith("https"):
        assert delivered + sum(rejected.values()) == 5
