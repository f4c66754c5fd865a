"""The API, asked by those who may not, and by those who may for what makes no sense: an answer, in bounded time."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from otelagent.viewer.server.parameters import PARAMETERS
from tests.viewer.requests import Traces, logs
from tests.viewer.running import Viewer
from tests.viewer.test_hostile import json_span, peak_mib
from tests.viewer.wire import Connection

MIB = 2**20


@pytest.fixture(scope="module")
def running() -> Iterator[Viewer]:
    with Viewer() as viewer:
        traces = Traces("asked")
        for number in range(200):
            traces.span(f"name {number}", error=number % 2 == 0, user__tier="gold", retries=number)
        assert viewer.send("traces", traces.body)[0] == 200
        assert viewer.send("logs", logs("hello"))[0] == 200
        yield viewer


@pytest.fixture
def viewer(running: Viewer) -> Iterator[Viewer]:
    """One that still has all it had after the test."""
    before = len(running.log)
    yield running
    assert len(running.json("/api/traces?service=asked&limit=500")["traces"]) == 200
    assert peak_mib(running) < 500
    assert "Traceback" not in running.log[before:]


GARBAGE = [
    "",
    " ",
    "-1",
    "1e999",
    "NaN",
    "9" * 19,
    "9" * 5000,
    "٣",
    "0x10",
    "'; DROP TABLE span; --",
    '" OR 1=1 --',
    '"',
    "*",
    '"" OR name:*',
    "NEAR(a b)",
    "a AND (b OR",
    "^",
    "-",
    "(" * 1000,
    "(a+)+$" * 50,
    "word " * 4000,
    "\x00",
    "a\x00b",
    "\ud7ff\uffff😀",
    "%",
    "../../etc/passwd",
    "<script>",
]


@pytest.mark.parametrize("path", [path for path, names in PARAMETERS.items() if names and "{" not in path])
def test_parameters_of_garbage(viewer: Viewer, path: str) -> None:
    for name in PARAMETERS[path]:
        for garbage in GARBAGE:
            began_s = time.monotonic()
            status, body = viewer.ask(f"{path}?{name}={quote(garbage)}")
            assert status in (200, 400), (name, garbage[:40], body)
            assert time.monotonic() - began_s < 10
            answer = json.loads(body)
            if status == 400:
                assert set(answer["error"]) == {"code", "message"}


@pytest.mark.parametrize(
    "condition",
    [
        'a"b=1',
        "a\\b=1",
        "$.x=1",
        "a[0]=1",
        '"a"."b"=1',
        "k' OR 1=1 --=1",
        "user.tier=gold' OR 'a'='a",
        "user.tier~%_[]*",
        "retries>1e999",
        "retries>nan",
        "retries<-inf",
        "a\x00b=1",
        "k" * 10_000,
        "k=" + "v" * 10_000,
        "{0}=1",
        "{1}~x",
        "😀=1",
    ],
    ids=lambda condition: condition[:30].replace("\0", "zero"),
)
def test_conditions_of_garbage(viewer: Viewer, condition: str) -> None:
    status, body = viewer.ask(f"/api/traces?attr={quote(condition)}")
    assert status in (200, 400), body
    assert status == 400 or json.loads(body)["traces"] == []


@pytest.mark.parametrize("between", ["%20", "%0d%0a", "%09"])
def test_an_id_is_digits_and_nothing_between(viewer: Viewer, between: str) -> None:
    for path in ("", "/otlp", "/share"):
        status, body = viewer.ask(f"/api/traces/{'ab' * 8}{between}{'cd' * 8}{path}")
        assert (status, json.loads(body)["error"]["code"]) == (400, "bad_id")


def test_more_conditions_than_there_may_be(viewer: Viewer) -> None:
    assert viewer.ask("/api/traces?" + "&".join(f"attr=k{number}=1" for number in range(500)))[0] == 400
    assert viewer.ask("/api/traces?" + "&".join(f"x{number}=1" for number in range(5000)))[0] == 400


@pytest.mark.parametrize(
    "path",
    [
        "/api/traces/zz",
        "/api/traces/" + "0" * 32,
        "/api/traces/" + "a" * 33,
        "/api/traces/%00",
        "/api/traces/" + "ab" * 16 + "/spans/'",
        "/api/traces/" + "ab" * 16 + "/nothing",
        "/api/metrics/-1/points",
        "/api/nothing",
        "/api/",
    ],
)
def test_what_is_not_there(viewer: Viewer, path: str) -> None:
    status, body = viewer.ask(path)
    assert status in (400, 404)
    assert set(json.loads(body)["error"]) == {"code", "message"}


def test_a_metric_beyond_all_numbers(viewer: Viewer) -> None:
    assert viewer.json(f"/api/metrics/{'9' * 30}/points") == {"series": []}


IMPORTS: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"hello",
    "another object": b'{"a": 1}',
    "a list": b"[]",
    "garbage within": b'{"resourceSpans": [1, "a", null]}',
    "depth": b'{"resourceSpans": ' + b"[" * 100_000,
    "a zip": b"PK\x03\x04" + bytes(1000),
    "a line that is none": json_span() + b"\n" + b"hello\n",
    "lines of nothing": b"\n" * MIB,
    "a wrong id": json_span(traceId="xyz"),
    "bytes": bytes(range(256)) * 1000,
    "one object of 65 MiB": b'{"resourceSpans": "' + b"x" * (65 * MIB) + b'"}',
    "objects without end": b'{"resourceSpans": [' + b"{}," * 5_000_000,
}


@pytest.mark.parametrize("name", IMPORTS)
def test_imports_of_garbage(viewer: Viewer, name: str) -> None:
    status, body = viewer.ask("/api/import", IMPORTS[name])
    assert status in (400, 413) or (name in ("nothing", "lines of nothing") and status == 200), body
    if status != 200:
        assert len(json.loads(body)["error"]["message"]) > 5


def test_an_import_beyond_its_bound(viewer: Viewer) -> None:
    with Connection(viewer.base) as client:
        client.request("POST /api/import HTTP/1.1", f"Authorization: Bearer {viewer.token}", f"Content-Length: {2**31}")
        assert client.answer().status == 413


@pytest.mark.parametrize(
    "path",
    [
        "/../../../../etc/passwd",
        "/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/..%2f..%2f..%2fetc/passwd",
        "/vendor/%2e%2e/%2e%2e/server/safety.py",
        "/..%5c..%5cserver%5csafety.py",
        "//etc/passwd",
        "/%00",
        "/index.html%00.js",
        "/vendor",
        "/vendor/",
        "/views/../../process.py",
        "/" + "a/" * 2000,
    ],
    ids=lambda path: path[:40],
)
def test_files_that_are_not_the_pages(viewer: Viewer, path: str) -> None:
    with Connection(viewer.base) as client:
        client.request(f"GET {path} HTTP/1.1")
        answer = client.answer()
    assert answer.status in (404, 405), answer.body[:200]
    assert b"root:" not in answer.body


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (["Authorization: Bearer {token}x"], 401),
        (["Authorization: Bearer "], 401),
        (["Authorization: Basic {token}"], 401),
        (["Cookie: otelagent_ui_1={token}"], 401),
        (["Cookie: " + "a=b; " * 5000], 401),
        (["Cookie: otelagent_ui_{port}=\xff\xfe"], 401),
        (["Authorization: Bearer \xff"], 401),
        (["Authorization: Bearer {token}", "Origin: http://evil.example"], 403),
        (["Authorization: Bearer {token}", "Origin: null"], 403),
        (["Authorization: Bearer {token}", "Origin: http://127.0.0.1:1"], 403),
        (["Authorization: Bearer {token}", "Origin: https://127.0.0.1:{port}"], 403),
        (["Authorization: Bearer {token}", "Origin: http://evil.example", "Origin: http://127.0.0.1:{port}"], 403),
        (["Authorization: Bearer {token}", "Sec-Fetch-Site: cross-site"], 403),
        (["Authorization: Bearer {token}", "Sec-Fetch-Site: same-site"], 403),
        (["Authorization: Bearer {token}", "Origin: http://127.0.0.1:{port}"], 200),
        (["Cookie: otelagent_ui_{port}={token}"], 200),
    ],
    ids=lambda value: str(value)[:60],
)
def test_who_may_read(viewer: Viewer, headers: list[str], status: int) -> None:
    port = viewer.base.rpartition(":")[2]
    with Connection(viewer.base) as client:
        client.request("GET /api/services HTTP/1.1", *(h.format(token=viewer.token, port=port) for h in headers))
        answer = client.answer()
    assert answer.status == status
    if status != 200:
        assert set(answer.json["error"]) == {"code", "message"}


@pytest.mark.parametrize("path", ["/api/services", "/", "/v1/traces"])
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:{port}.evil.example", "0:{port}", ""]
)
def test_a_foreign_name_for_this_machine(viewer: Viewer, path: str, host: str) -> None:
    port = viewer.base.rpartition(":")[2]
    with Connection(viewer.base) as client:
        client.request(f"GET {path} HTTP/1.1", f"Host: {host.format(port=port)}", host=False)
        assert client.answer().status == 421
    assert viewer.json("/api/status")["refused"]["foreign_host"] >= 1


def test_a_token_in_the_address_opens_nothing(viewer: Viewer) -> None:
    assert viewer.ask(f"/api/traces?token={viewer.token}", token=False)[0] == 401
    status, page = viewer.ask(f"/?token={viewer.token}", token=False)
    assert status == 200
    assert viewer.token.encode() not in page


@pytest.mark.parametrize("path", ["/", "/main.js", "/api/status", "/api/nothing", "/nothing", "/v1/traces"])
@pytest.mark.parametrize("token", [True, False])
def test_headers_of_every_answer(viewer: Viewer, path: str, token: bool) -> None:
    with Connection(viewer.base) as client:
        client.request(f"GET {path} HTTP/1.1", *([f"Authorization: Bearer {viewer.token}"] if token else []))
        headers = client.answer().headers
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self';")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cache-control"] in ("no-store", "no-cache")
    assert path != "/api/status" or headers["cache-control"] == "no-store"
    assert not [name for name in headers if name.startswith("access-control-")]


def test_the_cookie_is_for_the_api_alone(viewer: Viewer) -> None:
    port = viewer.base.rpartition(":")[2]
    with Connection(viewer.base) as client:
        client.request("POST /api/session HTTP/1.1", f"Content-Length: {len(viewer.token)}", body=viewer.token.encode())
        answer = client.answer()
    cookie = {part.strip().lower() for part in answer.headers["set-cookie"].split(";")}
    assert {"path=/api", "httponly", "samesite=strict", f"otelagent_ui_{port}={viewer.token}".lower()} <= cookie
    for body in (b"", b"\xff" * 100, b"x" * 4096):
        assert viewer.ask("/api/session", body, token=False)[0] == 401
    assert viewer.ask("/api/session", b"x" * 10_000, token=False)[0] == 413


def test_files_are_their_owners_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    old = os.umask(0)
    try:
        with Viewer("--store", str(tmp_path / "traces.db")) as viewer:
            assert viewer.send("traces", Traces().body)[0] == 200
            (state,) = (tmp_path / "state").rglob("*.json")
            found = [*tmp_path.glob("traces.db*"), state]
            assert {path.name for path in found} >= {"traces.db", "traces.db-wal", "traces.db-shm"}
            assert {stat.S_IMODE(path.stat().st_mode) for path in found} == {0o600}
            assert stat.S_IMODE(state.parent.stat().st_mode) == 0o700
    finally:
        os.umask(old)


def test_many_reads_at_once_leave_room(viewer: Viewer) -> None:
    answers: list[Any] = []
    with Connection(viewer.base) as quick:
        clients = [Connection(viewer.base) for _ in range(60)]
        for client in clients:
            client.request(
                "GET /api/traces?attr=user.tier%3Dnone&attr=retries%3E1 HTTP/1.1",
                f"Authorization: Bearer {viewer.token}",
            )
        began_s = time.monotonic()
        quick.request("GET / HTTP/1.1")
        assert quick.answer().status == 200
        assert time.monotonic() - began_s < 20
        for client in clients:
            with client:
                answers.append(client.answer().status)
    assert answers == [200] * 60


def test_a_store_that_another_program_holds_is_told(tmp_path: Path) -> None:
    path = tmp_path / "traces.db"
    with Viewer("--store", str(path)) as viewer:
        assert viewer.send("traces", Traces("before").body)[0] == 200
        with sqlite3.connect(path, isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")
            status, body = viewer.send("traces", Traces("held").body)
            other.execute("ROLLBACK")
        assert (status, b"locked" in body) == (503, True)
        assert viewer.json("/api/status")["refused"]["store_failed"] == 1
        assert viewer.send("traces", Traces("after").body)[0] == 200
