"""Log records of an application under otelagent-run, at the real collector beside the spans they were logged in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from backends import collector_requests, wait_for
from tests.e2e.harness import Bench, Protocol, Sink, Stack
from tests.support import native_or_skip

pytestmark = pytest.mark.backends

PROGRAM = """
import asyncio, logging, logging.config, threading
import otelagent
from opentelemetry import _logs

logging.config.dictConfig({
    "version": 1,
    "root": {"level": "INFO", "handlers": ["console"]},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "short"}},
    "formatters": {"short": {"format": "%(levelname)s %(otelTraceID)s %(message)s"}},
})
log = logging.getLogger("shop.orders")

async def order(number):
    with otelagent.span(f"order {number}"):
        await asyncio.sleep(0.001 * (number % 3))
        log.info("order %d", number, extra={"order.id": number})

async def orders():
    await asyncio.gather(*(order(number) for number in range(40)))

def pack(number):
    with otelagent.span(f"parcel {number}"):
        log.info("parcel %d", number)

log.warning("open")
asyncio.run(orders())
threads = [threading.Thread(target=pack, args=(number,)) for number in range(10)]
for thread in threads: thread.start()
for thread in threads: thread.join()
with otelagent.span("closing"):
    try:
        raise LookupError("no key in redis://shop:hunter2@cache/0")
    except LookupError:
        log.exception("can't close")
_logs.get_logger("shop.events").emit(body={"closed": True}, event_name="shop.closed")
"""


def arrived(bench: Bench) -> list[dict[str, Any]]:
    """The bench's log records in the collector's file, each with its scope's name and its resource."""

    def plain(pairs: list[Mapping[str, Any]]) -> dict[str, Any]:
        return {pair["key"]: next(iter(pair["value"].values()), None) for pair in pairs}

    return [
        {**record, "scope": scope["scope"]["name"], "resource": resource, "attributes": plain(record["attributes"])}
        if "attributes" in record
        else {**record, "scope": scope["scope"]["name"], "resource": resource}
        for request in collector_requests(bench.sink.file)
        for resources in request.get("resourceLogs", ())
        if (resource := plain(resources["resource"]["attributes"])).get("e2e.bench") == bench.mark
        for scope in resources["scopeLogs"]
        for record in scope["logRecords"]
    ]


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize("engine", ["sdk", "native"])
def test_log_records_arrive_beside_their_spans(
    open_bench: Callable[[Sink], Bench], stack: Stack, protocol: Protocol, engine: str
) -> None:
    if engine == "native":
        native_or_skip()
    bench = open_bench(Sink.to_collector(stack.collector, protocol))
    script = bench.write("shop.py", PROGRAM)
    code, output = bench.run("python", script, options=["--logs-exporter=otlp"], OTELAGENT_ENGINE=engine)
    assert code == 0, output
    spans = {span.name: span for span in bench.settle()}
    wait_for(lambda: len(arrived(bench)) >= 53, 10, what="the log records in the collector's file")
    records = arrived(bench)

    (status,) = bench.books.values()
    ledger = status["ledger"]["logs"]
    assert ledger["balanced"]
    assert (ledger["ended"], ledger["delivered"], ledger["dropped"], ledger["rejected"]) == (53, 53, {}, {})

    by_body = {next(iter(record["body"].values())): record for record in records if "eventName" not in record}
    assert Counter(record["scope"] for record in records) == {"shop.orders": 52, "shop.events": 1}
    for name, span in spans.items():
        record = by_body["can't close" if name == "closing" else name]
        assert (record["traceId"], record["spanId"]) == (span.trace_id, span.span_id)
        assert record["resource"]["service.instance.id"] == span.resource["service.instance.id"]
        if not name.startswith("closing"):
            assert f"INFO {span.trace_id} {name}" in output  # the application's own line
    assert not by_body["open"].get("traceId")
    assert by_body["open"]["severityText"] == "WARN"
    assert by_body["order 7"]["attributes"]["order.id"] == "7"
    error = by_body["can't close"]["attributes"]
    assert error["exception.type"] == "LookupError"
    assert "hunter2" not in str(error)
    (event,) = [record for record in records if "eventName" in record]
    assert event["eventName"] == "shop.closed"
    assert event["body"]["kvlistValue"]["values"] == [{"key": "closed", "value": {"boolValue": True}}]
