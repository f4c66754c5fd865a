"""What befalls the store's file: nothing that was acknowledged is lost, what can't be taken is told and counted."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import random
import signal
import sqlite3
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from otelagent.viewer.ingest import decode
from otelagent.viewer.store import detail, listing
from otelagent.viewer.store.listing import TraceFilter
from otelagent.viewer.store.schema import WrongFile
from otelagent.viewer.store.store import Store
from tests.viewer.requests import Traces, logs
from tests.viewer.running import Viewer


def filled(path: Path, traces: int = 50) -> Path:
    store = Store(str(path))
    request = Traces()
    for number in range(traces):
        request.span(f"n{number}", text="x" * 300)
    written = store.put(decode("traces", request.body))
    assert written is not None
    written.result(20)
    store.close()
    return path


def state(folder: Path) -> dict[str, str]:
    return {one.name: hashlib.sha256(one.read_bytes()).hexdigest() for one in folder.iterdir()}


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("text", "no SQLite database"),
        ("short", "no SQLite database"),
        ("theirs", "another program"),
        ("version", "another version"),
        ("folder", "can't be"),
        ("damaged", "can't be"),
    ],
)
def test_a_file_that_is_refused_stays_as_it_is(kind: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "traces.db"
    if kind == "text":
        path.write_text("these are notes, and no traces" * 100)
    elif kind == "short":
        path.write_bytes(b"SQLite")
    elif kind == "theirs":
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE theirs (a)")
        connection.close()
    elif kind == "version":
        connection = sqlite3.connect(filled(path))
        connection.execute("PRAGMA user_version = 99")
        connection.close()
    elif kind == "folder":
        path.mkdir()
    else:
        content = bytearray(filled(path).read_bytes())
        content[8192:] = random.Random(1).randbytes(len(content) - 8192)
        path.write_bytes(content)
    before = state(tmp_path) if kind != "folder" else {}
    with pytest.raises(WrongFile, match=told) as error:
        Store(str(path))
    assert str(path) in str(error.value)
    if kind not in ("folder", "damaged"):
        assert state(tmp_path) == before


def test_one_file_has_one_viewer(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "traces.db"))
    with pytest.raises(WrongFile, match="in use"):
        Store(str(tmp_path / "traces.db"))
    other_name = tmp_path / "other.db"
    other_name.symlink_to(tmp_path / "traces.db")
    with pytest.raises(WrongFile, match="in use"):
        Store(str(other_name))
    other_name.unlink()
    store.close()
    Store(str(tmp_path / "traces.db")).close()
    assert [one.name for one in tmp_path.iterdir()] == ["traces.db"]


def test_what_does_not_fit_is_refused_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "traces.db"
    store = Store(str(path), max_waiting_bytes=20_000)
    request = Traces()
    for _ in range(20):
        request.span(text="x" * 200)
    batch = decode("traces", request.body)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")  # The writer waits for it.
    answers = [store.put(decode("traces", request.body)) for _ in range(10)]
    taken = [one for one in answers if one is not None]
    other.execute("ROLLBACK")
    other.close()
    for one in taken:
        one.result(20)
    assert 0 < len(taken) < 10
    assert store.status()["refused"] == (10 - len(taken)) * batch.items
    again = store.put(batch)
    assert again is not None
    again.result(20)
    store.close()


@pytest.fixture
def viewer(tmp_path: Path) -> Iterator[Viewer]:
    with Viewer("--store", str(tmp_path / "traces.db")) as viewer:
        yield viewer


@pytest.mark.skipif(sys.platform != "linux", reason="sets a limit of another process")
def test_a_full_disk_is_told_to_senders_and_counted_until_there_is_room(tmp_path: Path, viewer: Viewer) -> None:
    import resource

    def send() -> int:
        request = Traces("full")
        for _ in range(500):
            request.span(text=os.urandom(500).hex())
        return viewer.send("traces", request.body)[0]

    assert send() == 200
    # To the writer a limit of its files' size is what a full disk is: what it has to write isn't taken.
    size = max(one.stat().st_size for one in tmp_path.iterdir())
    unlimited = resource.prlimit(viewer.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    answers = [send() for _ in range(5)]
    stored = viewer.json("/api/status")["store"]
    assert answers[-1] == 503
    assert stored["failed"] == 500 * answers.count(503)
    assert stored["spans"] == 500 * (1 + answers.count(200))
    assert viewer.json("/api/traces?service=full")["traces"]
    resource.prlimit(viewer.process.pid, resource.RLIMIT_FSIZE, unlimited)
    assert send() == 200
    status = viewer.json("/api/status")
    assert status["store"]["spans"] == 500 * (2 + answers.count(200))
    assert status["refused"]["store_failed"] == answers.count(503)


def test_a_refused_sender_is_told_when_to_come_again(tmp_path: Path, viewer: Viewer) -> None:
    other = sqlite3.connect(tmp_path / "traces.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    headers = {"Content-Type": "application/x-protobuf"}
    with pytest.raises(urllib.error.HTTPError) as refused:  # When the writer has waited for as long as it does.
        urllib.request.urlopen(
            urllib.request.Request(f"{viewer.base}/v1/logs", logs("hello"), headers), timeout=60
        ).close()
    with refused.value as answer:
        assert (answer.code, answer.headers["Retry-After"]) == (503, "1")
    other.execute("ROLLBACK")
    other.close()
    assert viewer.send("logs", logs("hello"))[0] == 200


# Room for one request that waits, whatever its size.
SMALL_QUEUE = """
from otelagent.viewer.store.store import Store
Store.__init__.__kwdefaults__["max_waiting_bytes"] = 1
"""


def test_a_full_queue_is_told_over_http(tmp_path: Path) -> None:
    path = tmp_path / "traces.db"
    with Viewer("--store", str(path), before=SMALL_QUEUE) as viewer, ThreadPoolExecutor(8) as senders:

        def send(number: int) -> tuple[int, str | None, bytes]:
            headers = {"Content-Type": "application/json"}
            body = json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {"stringValue": "x"}}]}]}]})
            try:
                request = urllib.request.Request(f"{viewer.base}/v1/logs", body.encode(), headers)
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return answer.status, None, answer.read()
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, error.headers["Retry-After"], error.read()

        # Another program holds the store's file: one is being written, one may wait.
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        sent = list(senders.map(send, range(8)))
        other.execute("ROLLBACK")
        other.close()
        full = [one for one in sent if one[0] == 429]
        assert full
        assert {one[0] for one in sent} <= {200, 429, 503}
        for _, again_s, body in full:
            assert again_s is not None
            assert int(again_s) >= 1
            assert "send it again" in json.loads(body)["message"]
        assert send(8)[0] == 200
        status = viewer.json("/api/status")
        assert status["refused"]["busy"] == len(full) == status["store"]["refused"]
        # All that was sent: refused, failed or there.
        assert status["store"]["refused"] + status["store"]["failed"] + status["store"]["logs"] == 9


def test_what_was_acknowledged_survives_being_killed(tmp_path: Path) -> None:
    path = tmp_path / "traces.db"
    acknowledged: list[bytes] = []
    for number in range(4):
        with Viewer("--store", str(path)) as viewer:
            _kill_while_it_writes(viewer, number, acknowledged)
    store = Store(str(path))
    missing = [one for one in acknowledged if store.read(detail.trace, one) is None]
    assert not missing
    assert store.status()["spans"] >= len(acknowledged) > 500
    assert store.read(listing.traces, TraceFilter(service="run-0"))["traces"]
    store.close()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert connection.execute("SELECT count(*) FROM trace").fetchone() == (
        connection.execute("SELECT count(DISTINCT trace) FROM span").fetchone()
    )
    connection.close()


def _kill_while_it_writes(viewer: Viewer, number: int, acknowledged: list[bytes]) -> None:
    enough = threading.Event()

    def send() -> None:
        for count in range(10_000):
            request = Traces(f"run-{number}")
            traces = [request.span(text="x" * 100).trace_id for _ in range(1 + count % 40)]
            try:
                status, _ = viewer.send("traces", request.body)
            except (OSError, http.client.HTTPException):
                return
            assert status == 200
            acknowledged.extend(traces)
            if count == 10 + 15 * number:
                enough.set()

    senders = [threading.Thread(target=send) for _ in range(3)]
    for one in senders:
        one.start()
    assert enough.wait(60)
    os.kill(viewer.process.pid, signal.SIGKILL)
    for one in senders:
        one.join()
