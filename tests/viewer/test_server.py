"""`otelagent ui` as a process: what it takes, what it answers, whom it turns away."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

import otelagent
from tests.viewer.requests import Traces, logs
from tests.viewer.running import Viewer

VENDOR = Path(otelagent.__file__).parent / "viewer" / "page" / "vendor"


@pytest.fixture(scope="module")
def viewer() -> Iterator[Viewer]:
    with Viewer() as viewer:
        yield viewer


def test_what_is_sent_is_there_when_it_is_answered(viewer: Viewer) -> None:
    traces = Traces("sent")
    span = traces.span("GET /", error=True)
    assert viewer.send("traces", gzip.compress(traces.body), Content_Encoding="gzip") == (200, b"")
    assert viewer.send("logs", logs("hello", service="sent", trace=span.trace_id))[0] == 200
    (one,) = viewer.json("/api/traces?service=sent&error=1")["traces"]
    assert one["id"] == span.trace_id.hex()
    trace = viewer.json(f"/api/traces/{one['id']}")
    assert trace["spans"]["id"] == [span.span_id.hex()]
    assert trace["logs"][0][3] == "hello"
    assert viewer.json(f"/api/traces/{one['id']}/spans/{span.span_id.hex()}")["status"] == 2
    exported = viewer.ask(f"/api/traces/{one['id']}/otlp")[1]
    assert json.loads(viewer.ask("/api/import", exported)[1])["spans"] == 1
    assert viewer.json("/api/traces?service=sent")["traces"][0]["spans"] == 1
    assert b'"embedded"' in viewer.ask(f"/api/traces/{one['id']}/share")[1]


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"\xff\xff", {}, 400),
        (b"{}", {"Content_Type": "text/html"}, 415),
        (b"not gzip", {"Content_Encoding": "gzip"}, 400),
        (b"x", {"Content_Encoding": "br"}, 415),
        (gzip.compress(bytes(64 * 2**20)), {"Content_Encoding": "gzip"}, 413),
    ],
    ids=["garbage", "type", "broken gzip", "encoding", "bomb"],
)
def test_what_cannot_be_taken_is_told(viewer: Viewer, body: bytes, headers: dict[str, str], status: int) -> None:
    assert viewer.send("traces", body, **headers)[0] == status
    assert viewer.json("/api/status")["refused"]


def test_only_the_token_reads_and_no_foreign_page_talks(viewer: Viewer) -> None:
    assert viewer.ask("/api/traces", token=False)[0] == 401
    assert viewer.ask("/api/traces", Host="evil.example")[0] == 421
    assert viewer.ask("/api/traces", Origin="http://evil.example")[0] == 403
    assert viewer.send("traces", Traces().body, Origin="http://evil.example")[0] == 403
    assert viewer.ask("/api/session", b"wrong", token=False)[0] == 401
    request = urllib.request.Request(f"{viewer.base}/api/session", viewer.token.encode())
    with urllib.request.urlopen(request, timeout=20) as answer:
        cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert viewer.ask("/api/traces", token=False, Cookie=cookie.partition(";")[0])[0] == 200


def test_the_page_and_everything_that_it_loads_is_there(viewer: Viewer) -> None:
    wanted, seen = ["index.html"], set()
    while wanted:
        name = wanted.pop()
        if name in seen:
            continue
        seen.add(name)
        status, body = viewer.ask(f"/{name}", token=False)
        assert status == 200, name
        folder = Path(name).parent
        for found in re.findall(r"""(?:from|import|src=|href=)\s*["']([\w./-]+\.(?:js|css|svg))["']""", body.decode()):
            parts: list[str] = []
            for part in (folder / found).parts:
                parts = parts[:-1] if part == ".." else [*parts, part]
            wanted.append("/".join(parts))
    assert {"main.js", "app.css", "views/waterfall.js", "vendor/preact.js", "vendor/uplot.js"} <= seen


@pytest.mark.parametrize("name", json.loads((VENDOR / "vendor.json").read_text()))
def test_vendored_files_are_what_was_fetched(name: str) -> None:
    known = json.loads((VENDOR / "vendor.json").read_text())[name]
    assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == known["sha256"]
