"""The example shop into the real collector, Jaeger and Zipkin, however it is started and whatever OTLP travels over.

What has ended is known from the books of the shop's own processes; what has arrived from the collector's file, which
has each span once; and Jaeger and Zipkin have to hold exactly those.
"""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from backends import Collector, Span, wait_for
from examples.shop import serve
from tests.e2e.harness import Bench, Protocol, Sink, Stack, servers, shape
from tests.e2e.web import Client

pytestmark = pytest.mark.backends

ORDERS = [{"sku": "cheese", "quantity": 2}, {"sku": "cheese", "quantity": 99}, {"sku": "nothing"}]
TABLES = ["BATCH INSERT products", "CREATE TABLE products", "CREATE TABLE reservations"]
PAGES = ["/products", "/products/apple", "/products/nothing", "/products/mystery-box", "/basket?sku=apple&sku=bread"]


@dataclass(frozen=True)
class Way:
    """How the services are started: keys of `serve.GATEWAY` and `serve.INVENTORY`, and whether by `otelagent-run`."""

    gateway: str
    inventory: str
    run: bool


RUN = Way("uvicorn", "gunicorn", run=True)
RUN_DEVELOPMENT = Way("python", "flask", run=True)
INIT = Way("init-uvicorn", "init-gunicorn", run=False)
INIT_DEVELOPMENT = Way("init-python", "init-flask", run=False)
INIT_LAST = Way("init-last-python", "init-last-python", run=False)
PLAIN = Way("uvicorn", "gunicorn", run=False)

MATRIX: dict[str, tuple[Way, Protocol, str]] = {
    "otelagent-run http": (RUN, "http/protobuf", ""),
    "otelagent-run grpc": (RUN, "grpc", ""),
    "otelagent-run development servers http gzip": (RUN_DEVELOPMENT, "http/protobuf", "gzip"),
    "init http": (INIT, "http/protobuf", ""),
    "init grpc": (INIT, "grpc", ""),
    "init development servers grpc gzip": (INIT_DEVELOPMENT, "grpc", "gzip"),
    "init after all imports http": (INIT_LAST, "http/protobuf", ""),
}


@contextmanager
def shop(folder: Path, way: Way, bench: Bench | None) -> Iterator[Client]:
    """The shop, running; without a bench it has nothing of otelagent in it. At the end both services have exited."""
    agent: list[str] | None = [] if way.run else None
    plain = {"HOME": str(folder)}
    books = {service: bench.environ(service=service) if bench else plain for service in ("inventory", "gateway")}
    with ExitStack() as services:
        stock = serve.inventory(folder, way.inventory, agent=agent, env=books["inventory"], health=None)
        services.enter_context(stock)
        front = serve.gateway(folder, stock.url, way.gateway, agent=agent, env=books["gateway"], health=None)
        services.enter_context(front)
        yield Client(front.port)
        for service in (front, stock):
            service.send_signal(signal.SIGTERM)
            wait_for(partial(has_ended, service), 20, what=f"the end of {service.name}")


def has_ended(service: serve.Service) -> bool:
    return not service.members()


def visit(client: Client) -> list[tuple[int, Any]]:
    """A customer's visit; what the shop answered."""
    answers = [client.get(path) for path in PAGES]
    for order in ORDERS:
        body = json.dumps(order).encode()
        answers.append(client.request("POST", "/orders", body=body, headers={"Content-Type": "application/json"}))
    return [(answer.status, answer.json) for answer in answers]


@pytest.fixture(scope="module")
def untraced(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, Any]]:
    """What the shop answers with nothing of otelagent in it."""
    with shop(tmp_path_factory.mktemp("plain"), PLAIN, None) as client:
        answers = visit(client)
        assert "otelagent" not in str(answers)
    assert [status for status, _ in answers] == [200, 200, 404, 502, 200, 201, 409, 404]
    return answers


@pytest.mark.parametrize("case", MATRIX)
def test_every_span_that_ended_is_in_the_file_jaeger_and_zipkin(
    case: str, open_bench: Callable[[Sink], Bench], stack: Stack, untraced: list[tuple[int, Any]]
) -> None:
    way, protocol, compression = MATRIX[case]
    bench = open_bench(Sink.to_collector(stack.collector, protocol, compression))
    with shop(bench.directory, way, bench) as client:
        assert visit(client) == untraced

    spans = bench.settle()
    check_traces(spans, client, imported_first=way is INIT_LAST)
    stack.expect_everywhere(spans)


def check_traces(spans: list[Span], client: Client, *, imported_first: bool) -> None:
    """Each request to the gateway is one trace through both services, with a SERVER span for each request it caused."""
    assert {span.service for span in spans} == {"gateway", "inventory"}
    # What belongs to no request: the inventory makes its tables when it is imported, before the agent or after.
    others = sorted(span.name for span in spans if span.trace_id not in client.sent)
    assert others == ([] if imported_first else TABLES)
    spans = [span for span in spans if span.trace_id in client.sent]
    assert {span.trace_id for span in spans} == client.sent
    gateway = servers([span for span in spans if span.service == "gateway"], client)
    asked = {answer.trace_id: 0 for answer in client.answered}
    for span in spans:
        if span.service == "inventory" and span.kind == "server":
            asked[span.trace_id] += 1
            parent = next(other for other in spans if other.span_id == span.parent_id)
            assert (parent.kind, parent.service, parent.name) == (
                "client",
                "gateway",
                span.attributes["http.request.method"],
            )
    # One a page, two for the basket, two and the receipt for the order, two for the one too large, one for the unknown.
    assert [asked[answer.trace_id] for answer in client.answered] == [1, 1, 1, 1, 2, 3, 2, 1]
    clients = [span for span in spans if span.kind == "client" and span.service == "gateway"]
    assert len(clients) == sum(asked.values())
    assert Counter(span.name for span in gateway.values()) == {
        "GET /products": 1,
        "GET /products/{sku}": 3,
        "GET /basket": 1,
        "POST /orders": 3,
    }
    basket = client.answered[4]
    http = [span for span in spans if span.trace_id == basket.trace_id and span.kind in ("server", "client")]
    http = [span for span in http if "db.system.name" not in span.attributes]
    assert shape(http) == {("?", "GET /basket"), ("GET /basket", "GET"), ("GET", "GET /products/<sku>")}
    failed = {span.service: span for span in spans if span.kind == "server" and span.status == "error"}
    assert failed["gateway"].attributes["error.type"] == "502"
    (broken,) = (event for event in failed["inventory"].events if event.name == "exception")
    assert broken.attributes["exception.type"] == failed["inventory"].attributes["error.type"]


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_collector_that_comes_later_and_goes_away_gets_everything(
    protocol: Protocol,
    tmp_path: Path,
    open_bench: Callable[[Sink], Bench],
    untraced: list[tuple[int, Any]],
    stack: Stack,
) -> None:
    collector = Collector(tmp_path / "collector")
    sink = Sink.to_collector(collector, protocol)
    sink.environ |= {
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "OTELAGENT_RETRY_INITIAL_BACKOFF_MS": "50",
        "OTELAGENT_RETRY_MAX_BACKOFF_MS": "200",
    }
    bench = open_bench(sink)
    try:
        with shop(bench.directory, RUN, bench) as client:
            assert visit(client) == untraced
            assert bench.spans() == []
            logs = [bench.directory / f"{name}.log" for name in ("gateway", "inventory")]
            wait_for(
                lambda: all("it is kept and sent again" in log.read_text() for log in logs), 10, what="the warnings"
            )
            collector.start()
            wait_for(lambda: len(servers_of(bench, "gateway")) == len(client.sent), 20, what="the first visit's spans")
            wait_for(lambda: len(servers_of(bench, "inventory")) == 12, 20, what="the first visit's spans")
            collector.kill()
            assert client.get("/products").status == 200
            collector.start()
        gateway = [span for span in bench.settle(killed=True) if span.service == "gateway"]
        assert len(servers(gateway, client)) == len(untraced) + 1
        assert len(servers_of(bench, "inventory")) == 13
    finally:
        collector.close()


def servers_of(bench: Bench, service: str) -> list[Span]:
    return [span for span in bench.spans() if span.kind == "server" and span.service == service]
