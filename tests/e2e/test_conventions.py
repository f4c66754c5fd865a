"""The spans of one request through two services, attribute by attribute, and secrets that must not be among them.

Source: https://opentelemetry.io/docs/specs/semconv/http/http-spans/ and …/database/database-spans/
"""

from __future__ import annotations

import signal
from typing import Any

from backends import Span
from tests.e2e.harness import Bench
from tests.e2e.web import Client

FRONT = """
import os
import httpx
import requests
from fastapi import FastAPI

app = FastAPI()
BACK = os.environ["BACK"]

@app.get("/carts/{cart}")
def cart(cart: int):
    credentials = BACK.replace("http://", "http://alice:hunter2@")
    return requests.get(f"{credentials}/stock/{cart}?token=hunter2&shelf=top", timeout=10).json()

@app.get("/missing")
async def missing():
    async with httpx.AsyncClient() as client:
        return (await client.get(f"{BACK}/nothing?X-Amz-Signature=hunter2")).status_code
"""

BACK = """
import sqlite3
from flask import Flask

app = Flask(__name__)

@app.get("/stock/<int:item>")
def stock(item):
    connection = sqlite3.connect("stock.db")
    with connection:
        connection.execute("CREATE TABLE IF NOT EXISTS stock (item INTEGER, count INTEGER, note TEXT)")
        connection.execute("INSERT INTO stock VALUES (?, 3, 'hunter2')", (item,))
    count = connection.execute("SELECT count FROM stock WHERE item = ? AND note = 'hunter2'", (item,)).fetchone()[0]
    connection.close()
    return {"count": count}
"""

# Names of conventions that have been replaced. `net.*`, `http.*` and `db.*` of today have other second parts.
DEPRECATED = {
    "db.name", "db.operation", "db.sql.table", "db.statement", "db.system", "db.user", "enduser.id",
    "http.client_ip", "http.flavor", "http.host", "http.method", "http.request_content_length",
    "http.response_content_length", "http.route.name", "http.scheme", "http.server_name", "http.status_code",
    "http.target", "http.url", "http.user_agent", "net.host.ip", "net.host.name", "net.host.port", "net.peer.ip",
    "net.peer.name", "net.peer.port", "net.protocol.name", "net.protocol.version", "net.sock.peer.addr",
    "net.transport", "peer.service",
}  # fmt: skip


def test_spans_of_a_request_carry_the_stable_attributes_and_no_others(bench: Bench) -> None:
    bench.write("front.py", FRONT)
    bench.write("back.py", BACK)
    back_port, front_port = bench.port(), bench.port()
    back = bench.start("flask", "--app", "back", "run", "-p", str(back_port), service="back", port=back_port)
    front = bench.start(
        *("uvicorn", "front:app", "--port", str(front_port)),
        service="front",
        port=front_port,
        BACK=f"http://127.0.0.1:{back_port}",
    )
    client = Client(front_port)
    headers = {
        "User-Agent": "browser/1",
        "Authorization": "Bearer hunter2",
        "Cookie": "session=hunter2",
        "Host": f"shop.example:{front_port}",
    }
    assert client.get("/carts/7?password=hunter2&size=L&API_KEY=hunter2&code=hunter2", headers=headers).json == {
        "count": 3
    }
    assert client.get("/missing").json == 404
    for application in (front, back):
        application.end(signal.SIGINT, group=True)

    spans = bench.settle()
    assert "hunter2" not in bench.sink.file.read_text()
    assert not [name for span in spans for name in span.attributes if name in DEPRECATED]
    assert not [span for span in spans for value in span.attributes.values() if value is None]
    whole, missing = ([s for s in spans if s.trace_id == answer.trace_id] for answer in client.answered)

    peer = {"client.address": "127.0.0.1", "network.peer.address": "127.0.0.1", "network.protocol.version": "1.1"}
    server, call, inner = (one(whole, *key) for key in (("server", "front"), ("client", "front"), ("server", "back")))
    assert attributes(server, "network.peer.port") == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "http.route": "/carts/{cart}",
        "server.address": "shop.example",
        "server.port": front_port,
        "url.path": "/carts/7",
        "url.query": "password=REDACTED&size=L&API_KEY=REDACTED&code=REDACTED",
        "url.scheme": "http",
        "user_agent.original": "browser/1",
        **peer,
    }
    assert (server.name, server.status) == ("GET /carts/{cart}", "unset")
    url = f"http://REDACTED:REDACTED@127.0.0.1:{back_port}/stock/7?token=REDACTED&shelf=top"
    assert attributes(call, "network.protocol.version") == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "server.address": "127.0.0.1",
        "server.port": back_port,
        "url.full": url,
    }
    assert (call.name, call.status) == ("GET", "unset")
    assert attributes(inner, "network.peer.port", "user_agent.original") == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "http.route": "/stock/<int:item>",
        "server.address": "127.0.0.1",
        "server.port": back_port,
        "url.path": "/stock/7",
        "url.query": "token=REDACTED&shelf=top",
        "url.scheme": "http",
        **peer,
    }
    assert (call.parent_id, inner.parent_id) == (server.span_id, call.span_id)

    database = sorted((s for s in whole if "db.system.name" in s.attributes), key=lambda s: s.start_ns)
    assert [span.name for span in database] == ["CREATE TABLE stock", "INSERT stock", "SELECT stock"]
    assert {(span.kind, span.parent_id, span.attributes["db.system.name"]) for span in database} == {
        ("client", inner.span_id, "sqlite")
    }
    assert [span.attributes["db.query.text"] for span in database] == [
        "CREATE TABLE IF NOT EXISTS stock (item INTEGER, count INTEGER, note TEXT)",
        "INSERT INTO stock VALUES (?, ?, ?)",
        "SELECT count FROM stock WHERE item = ? AND note = ?",
    ]
    assert {name for span in database for name in span.attributes} == {
        "db.collection.name",
        "db.namespace",
        "db.operation.name",
        "db.query.summary",
        "db.query.text",
        "db.system.name",
    }
    assert len(whole) == 3 + len(database)

    failed = one(missing, "client", "front")
    assert (failed.status, failed.attributes["error.type"]) == ("error", "404"), "to a client, 404 is an error"
    assert failed.attributes["url.full"] == f"http://127.0.0.1:{back_port}/nothing?X-Amz-Signature=REDACTED"
    unknown = one(missing, "server", "back")
    assert (unknown.name, unknown.status) == ("GET", "unset"), "to a server it isn't, and a raw path is no route"
    assert "http.route" not in unknown.attributes
    assert "error.type" not in unknown.attributes


def one(spans: list[Span], kind: str, service: str) -> Span:
    """The only HTTP span of that kind and service."""
    (found,) = (s for s in spans if (s.kind, s.service) == (kind, service) and "db.system.name" not in s.attributes)
    return found


def attributes(span: Span, *but: str) -> dict[str, Any]:
    """All attributes but those whose value nobody can know, which have to be there, or may be."""
    return {name: value for name, value in span.attributes.items() if name not in but}
