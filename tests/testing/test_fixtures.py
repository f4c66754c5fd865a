"""The fixtures, in runs of pytest of their own."""

from __future__ import annotations

from tests.testing.running import Run

pytest_plugins = ["pytester"]

SHOP = """
import logging
import sqlite3

import otelagent
from fastapi import FastAPI
from fastapi.testclient import TestClient
from opentelemetry import metrics

log = logging.getLogger("shop")
orders = metrics.get_meter("shop").create_counter("orders")
app = FastAPI()


@app.get("/orders/{order_id}")
def order(order_id: str):
    with otelagent.span("load", {"order.id": order_id}):
        connection = sqlite3.connect(":memory:")
        connection.execute("SELECT 1").fetchall()
        connection.close()
    log.warning("order %s", order_id)
    orders.add(1, {"kind": "book"})
    if order_id == "9":
        raise ValueError("no such order")
    return {}


def get(path):
    return TestClient(app, raise_server_exceptions=False).get(path)
"""


def test_spans_log_records_and_metrics_of_one_test(run: Run) -> None:
    run.passes(
        SHOP
        + '''

def test_first(otelagent_spans):
    get("/orders/1")
    assert otelagent_spans.tree(attributes=["order.id"]) == """\\
SERVER GET /orders/{order_id}
  INTERNAL load order.id='1'
    CLIENT SELECT"""
    server = otelagent_spans.one(kind="server")
    assert [span.name for span in otelagent_spans] == [server.name, "load", "SELECT"]
    load = otelagent_spans.one("load", attributes={"order.id": "1"})
    assert load.parent is server and server.children == (load,)
    assert load.trace_id == server.trace_id and load.parent_id == server.span_id
    assert load.start_ns <= load.end_ns and load.duration_s >= 0
    [record] = otelagent_spans.logs
    assert (record.body, record.severity, record.scope.name) == ("order 1", "WARN", "shop")
    assert record.span_id == server.span_id
    assert otelagent_spans.metrics["orders"].value == 1
    assert otelagent_spans.metrics["orders"].points[0].attributes == {"kind": "book"}
    assert otelagent_spans.errors == []


def test_second(otelagent_spans):
    assert len(otelagent_spans) == 0 and not otelagent_spans.logs and "orders" not in otelagent_spans.metrics
    get("/orders/2")
    get("/orders/9")
    assert otelagent_spans.metrics["orders"].value == 2
    assert [record.body for record in otelagent_spans.logs if record.scope.name == "shop"] == ["order 2", "order 9"]
    [error] = otelagent_spans.errors
    assert (error.status, error.error) == ("ERROR", "ValueError")
    assert otelagent_spans.tree().splitlines()[-3] == "SERVER GET /orders/{order_id} ! ValueError"
    otelagent_spans.clear()
    assert otelagent_spans.tree() == ""
    assert "orders" not in otelagent_spans.metrics


def test_third():
    get("/orders/3")


def test_fourth(otelagent_spans):
    assert not otelagent_spans.spans
'''
    ).assert_outcomes(passed=4)


def test_the_test_clients_of_flask_and_django(run: Run) -> None:
    run.passes(
        """
import django
import flask
import httpx
from django.conf import settings
from django.http import HttpResponse
from django.test import Client
from django.urls import path

import otelagent

app = flask.Flask("shop")
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x")
django.setup()


@app.get("/hello/<name>")
def hello(name):
    with otelagent.span("greet"):
        return f"hello {name}"


def greet(request, name):
    with otelagent.span("greet"):
        return HttpResponse(f"hello {name}")


urlpatterns = [path("hello/<name>", greet)]


def test_flask(otelagent_spans):
    response = app.test_client().get("/hello/you")
    assert "begun and not ended:\\n  SERVER GET /hello/<name>" in otelagent_spans.describe()
    assert response.text == "hello you"
    assert otelagent_spans.tree() == "SERVER GET /hello/<name>\\n  INTERNAL greet"
    otelagent_spans.clear()
    app.test_client().get("/hello/you", buffered=True)
    assert otelagent_spans.tree() == "SERVER GET /hello/<name>\\n  INTERNAL greet"


def test_django(otelagent_spans):
    # By OpenTelemetry's own instrumentation, which the agent finds.
    assert Client().get("/hello/you").content == b"hello you"
    assert otelagent_spans.tree() == "SERVER GET hello/<name>\\n  INTERNAL greet"


def test_a_mock(otelagent_spans):
    with httpx.Client(transport=httpx.MockTransport(lambda request: httpx.Response(200))) as client:
        client.get("http://shop.example/")
    assert otelagent_spans.tree() == ""


def test_the_books_are_balanced(otelagent_spans):
    otelagent.flush()
    ledgers = otelagent.status()["ledger"]
    assert ledgers["traces"]["ended"] == ledgers["traces"]["dropped"]["exporter_none"] == 6
    assert all(ledger["balanced"] for ledger in ledgers.values())
"""
    ).assert_outcomes(passed=4)
