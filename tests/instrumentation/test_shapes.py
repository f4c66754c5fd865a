"""The base carries each shape of library: client with a streamed response, server, database, queue, batches, streams.

Each instrumentation here is a sketch of a real one, and short: where one isn't, the base lacks something.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import threading
import time
import xmlrpc.client
import xmlrpc.server
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
import wrapt
from opentelemetry.trace import SpanKind, StatusCode

from otelagent.patching import Call, Instrumentation, Operation, hook, replace
from otelagent.patching.wrap import wrap
from otelagent.semconv import http
from otelagent.semconv.call import CallDescription
from otelagent.semconv.db import Peer, Query
from otelagent.semconv.messaging import Process, Publish, Receive
from tests.instrumentation.capture import Applied, Spans


class Streaming(Instrumentation):
    """A client whose span lasts until the response's body is read or closed."""

    name = "httpx"
    layer = "http"

    def received(self, call: Call) -> None:
        response = call.result
        if response is not None:
            call.set("http.response.status_code", response.status_code)
            call.later()
            response.stream = Body(response.stream, call)

    @hook("httpx", "HTTPTransport.handle_request", after=received, carrier=lambda call: call.args[0].headers)
    def send(self, call: Call) -> http.ClientRequest:
        request = call.args[0]
        return http.ClientRequest(request.method, str(request.url), outbound=request.headers)


class Body(httpx.SyncByteStream):
    def __init__(self, stream: Any, operation: Operation) -> None:
        self.stream, self.operation = stream, operation

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self.stream
        except Exception as error:
            self.operation.raised(error)
            raise

    def close(self) -> None:
        self.stream.close()
        self.operation.end()


class Server(Instrumentation):
    """A server of the standard library, traced at the method that handles a parsed request."""

    name = "xmlrpc"

    def handled(self, call: Call) -> None:
        status = getattr(call.instance, "_otelagent_status", 200)
        call.set("http.response.status_code", status)
        if (failure := http.server_error(status)) is not None:
            call.fail(failure)

    @hook(
        "xmlrpc.server",
        "SimpleXMLRPCRequestHandler.do_POST",
        after=handled,
        carrier=lambda call: call.instance.headers,
        incoming=True,
    )
    def request(self, call: Call) -> http.ServerRequest:
        handler = call.instance
        return http.ServerRequest(handler.command, handler.path, host=handler.headers["Host"], inbound=handler.headers)

    @hook("xmlrpc.server", "SimpleXMLRPCRequestHandler.send_response")
    def status(self, call: Call) -> None:
        call.instance._otelagent_status = call.arg(0, "code")


class TestHttp:
    """The client against the server, over a socket."""

    @pytest.fixture
    def url(self, apply: Applied) -> Iterator[str]:
        apply(Streaming)
        apply(Server)
        server = xmlrpc.server.SimpleXMLRPCServer(("127.0.0.1", 0), logRequests=False)
        server.register_function(lambda x: x * 2, "double")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/RPC2"
        server.shutdown()
        thread.join()
        server.server_close()

    def test_one_trace(self, url: str, spans: Spans) -> None:
        body = xmlrpc.client.dumps((21,), "double").encode()
        with httpx.Client() as client, client.stream("POST", url, content=body) as response:
            assert spans.all(kind=SpanKind.CLIENT) == []
            assert b"42" in response.read()
        assert spans.tree() == "CLIENT POST\n  SERVER POST"
        assert spans.one(kind=SpanKind.CLIENT, http__response__status_code=200)
        assert spans.one(kind=SpanKind.SERVER, http__response__status_code=200, url__path="/RPC2")

    def test_closed_unread(self, url: str, spans: Spans) -> None:
        body = xmlrpc.client.dumps((21,), "double").encode()
        with httpx.Client() as client, client.stream("POST", url, content=body):
            pass
        assert spans.one(kind=SpanKind.CLIENT).status.status_code is StatusCode.UNSET

    def test_an_error_of_the_server(self, url: str, spans: Spans) -> None:
        with httpx.Client() as client:
            assert client.post(url.replace("RPC2", "nowhere"), content=b"").status_code == 404
            assert client.post(url, content=b"", headers={"Content-Encoding": "x"}).status_code == 501
        assert [span.status.status_code.name for span in spans.all(kind=SpanKind.SERVER)] == ["UNSET", "ERROR"]


class Files(Instrumentation):
    """A database-like library: two front ends over one driver, one span per call of the outermost."""

    name = "dbm"
    layer = "db"

    @hook("dbm.dumb", "_Database.__getitem__")
    @hook("shelve", "Shelf.__getitem__")
    def get(self, call: Call) -> Query:
        return self.query(call, "GET")

    @hook("dbm.dumb", "_Database.__setitem__")
    @hook("shelve", "Shelf.__setitem__")
    def set(self, call: Call) -> Query:
        return self.query(call, "SET")

    def query(self, call: Call, operation: str) -> Query:
        driver = getattr(call.instance, "dict", call.instance)
        if "_otelagent_peer" not in vars(driver):
            driver._otelagent_peer = Peer("dbm", os.path.basename(os.fsdecode(driver._datfile)))
        return Query(driver._otelagent_peer, operation=operation)


def test_database(tmp_path: Path, spans: Spans, apply: Applied) -> None:
    import dbm.dumb
    import shelve

    apply(Files)
    with dbm.dumb.open(str(tmp_path / "plain"), "n") as plain:
        plain[b"k"] = b"v"
        assert plain[b"k"] == b"v"
        with pytest.raises(KeyError):
            plain[b"missing"]
    driver: Any = dbm.dumb.open(str(tmp_path / "shelf"), "n")  # noqa: SIM115
    shelf: Any = shelve.Shelf(driver)
    with shelf:
        shelf["k"] = {"any": "thing"}
        assert shelf["k"] == {"any": "thing"}
    assert spans.tree().splitlines() == [
        "CLIENT SET plain.dat",
        "CLIENT GET plain.dat",
        "CLIENT GET plain.dat ! KeyError",
        "CLIENT SET shelf.dat",
        "CLIENT GET shelf.dat",
    ]


class Celery(Instrumentation):
    """Messages through a broker: the producer's headers are the consumer's parent."""

    name = "celery"

    @hook("celery.app.base", "Celery.send_task", carrier=lambda call: Celery.headers(call))
    def send(self, call: Call) -> Publish:
        return Publish(
            "celery", call.arg(0, "name"), message_id=call.kwargs.get("task_id"), outbound=self.headers(call)
        )

    @staticmethod
    def headers(call: Call) -> dict[str, str]:
        headers = call.kwargs["headers"] = dict(call.kwargs.get("headers") or {})
        return headers

    # What runs a task is made once for each task, and its maker imported by name.
    @replace("celery.worker.consumer.consumer", "build_tracer", optional=True)
    @replace("celery.app.trace", "build_tracer")
    def runner(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def build_tracer(name: str, task: Any, *args: Any, **kwargs: Any) -> Any:
            def describe(call: Call) -> Process:
                return Process("celery", name, message_id=call.args[0], inbound=carrier(call))

            def ran(call: Call) -> None:
                if call.result is not None and call.result.info is not None:
                    call.raised(call.result.info.retval)

            site = self.site(describe, f"the task {name}", carrier, incoming=True, after=ran)
            return wrap(original(name, task, *args, **kwargs), site, method=False)

        return build_tracer


def carrier(call: Call) -> Any:
    return call.arg(3, "request") or {}


@pytest.fixture
def root_logger() -> Iterator[None]:
    """Puts the root logger back, of which a Celery worker makes its own."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    root.setLevel(level)
    root.handlers[:] = handlers


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("root_logger")
def test_queue(spans: Spans, apply: Applied) -> None:
    celery: Any = importlib.import_module("celery")
    for module in ("celery.app.base", "celery.worker.consumer.consumer"):
        importlib.import_module(module)
    start_worker: Any = importlib.import_module("celery.contrib.testing.worker").start_worker

    apply(Celery)
    app = celery.Celery("shop", broker="memory://", backend="cache+memory://", set_as_current=False)
    ran = threading.Event()

    @app.task(name="pack")  # type: ignore[untyped-decorator]
    def pack(order: int) -> int:
        with spans.tracer.start_as_current_span("packing"):
            if order < 0:
                raise LookupError("no order")
        ran.set()
        return order

    with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=30):
        with spans.tracer.start_as_current_span("request"):
            pack.delay(1)
            app.send_task("pack", (2,))
            assert ran.wait(30)
        with spans.tracer.start_as_current_span("other"):
            pack.delay(-1).get(timeout=30, propagate=False, disable_sync_subtasks=False)
    part = "  PRODUCER send pack\n    CONSUMER process pack{}\n      INTERNAL packing\n"
    failed = part.format(" ! LookupError")
    assert spans.tree() == f"INTERNAL request\n{2 * part.format('')}INTERNAL other\n{failed}".strip()


KAFKA = """
class Record:
    def __init__(self, topic, headers):
        self.topic, self.headers = topic, headers

class Consumer:
    def __init__(self, batches):
        self.batches = batches
    def poll(self):
        return self.batches.pop(0)
    def __iter__(self):
        while self.batches:
            yield from self.poll()
"""


class Kafka(Instrumentation):
    """Batches that are polled, linked to their messages; one span for a poll that brought any."""

    name = "fake_kafka"

    @replace("fake_kafka", "Consumer.poll")
    def poll(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def polled(consumer: Any) -> Any:
            begun_ns = time.time_ns()
            records = original(consumer)
            if records:
                messages = tuple({key: value.decode() for key, value in record.headers} for record in records)
                receive = Receive("kafka", records[0].topic, messages=messages, start_ns=begun_ns)
                Operation().begin(self.tracer, receive).end()
            return records

        return polled


def test_batches(spans: Spans, apply: Applied, monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("fake_kafka")
    exec(KAFKA, module.__dict__)
    monkeypatch.setitem(sys.modules, "fake_kafka", module)
    apply(Kafka)
    sent = []
    for i in range(3):
        with spans.tracer.start_as_current_span(f"send {i}") as span:
            context = span.get_span_context()
        sent.append((context.span_id, f"00-{context.trace_id:032x}-{context.span_id:016x}-01".encode()))
    records = [module.Record("orders", [("traceparent", header)]) for _, header in sent]
    consumer = module.Consumer([[], records, [module.Record("orders", [])]])
    assert [consumer.poll(), len(list(consumer))] == [[], 4]
    first, second = spans.all("poll orders")
    assert [link.context.span_id for link in first.links] == [span_id for span_id, _ in sent]
    assert (first.attributes or {})["messaging.batch.message_count"] == 3
    assert list(second.links) == []


MODEL = """
def chat(prompt, stream=False):
    if not stream:
        return prompt.split()
    return Stream(prompt.split())

class Stream:
    def __init__(self, words):
        self.words = iter(words)
    def __iter__(self):
        return self
    def __next__(self):
        return next(self.words)
    def close(self):
        self.words = iter(())
"""


class Model(Instrumentation):
    """A call that may return a stream: the span ends with it, and knows what went through."""

    name = "fake_model"

    def answered(self, call: Call) -> None:
        if not call.kwargs.get("stream"):
            call.set("words", len(call.result or ()))
        elif call.result is not None:
            call.later()
            call.result = Counted(call.result, call)

    @hook("fake_model", "chat", after=answered)
    def chat(self, call: Call) -> CallDescription:
        return Client("chat")


class Client(CallDescription):
    kind = "client"


class Counted(wrapt.ObjectProxy[Any]):
    def __init__(self, stream: Any, operation: Operation) -> None:
        super().__init__(stream)
        self._self_operation, self._self_words = operation, 0

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        try:
            word = next(self.__wrapped__)
        except BaseException as error:
            self._self_end(None if isinstance(error, StopIteration) else error)
            raise
        self._self_words += 1
        return word

    def close(self) -> None:
        self.__wrapped__.close()
        self._self_end(None)

    def _self_end(self, error: BaseException | None) -> None:
        self._self_operation.set("words", self._self_words)
        if error is not None:
            self._self_operation.raised(error)
        self._self_operation.end()


def test_stream(spans: Spans, apply: Applied, monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("fake_model")
    exec(MODEL, module.__dict__)
    monkeypatch.setitem(sys.modules, "fake_model", module)
    apply(Model)
    assert module.chat("a b c") == ["a", "b", "c"]
    stream = module.chat("a b c d", stream=True)
    assert next(stream) == "a"
    assert isinstance(stream, module.Stream)
    assert len(spans.all("chat")) == 1
    assert list(stream) == ["b", "c", "d"]
    module.chat("a b", stream=True).close()
    assert [(span.attributes or {}).get("words") for span in spans.all("chat")] == [3, 4, 0]
