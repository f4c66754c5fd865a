"""Faults of the backend: what it answers, or how."""

from __future__ import annotations

from typing import Any

from tests.delivery.harness import FaultServer, TokenServer, partial_success, status_details
from tests.faults.bench import OK, Bench
from tests.faults.registry import fault

THOUSAND = "agent.spans(1000); agent.settle()"
"""Two requests with the usual batch size, 512."""

HTML = b"<html><body>Please log in</body></html>"


def resent(server: FaultServer) -> int:
    """How many requests came again with the same spans."""
    return len(server.requests) - len({tuple(sorted(request["spans"])) for request in server.requests})


def expect_counted(bench: Bench, told: dict[str, Any], reasons: dict[str, int], kind: str = "rejected") -> None:
    """That this many spans are counted by these reasons."""
    if bench.otelagent:
        bench.expect(told["ledger"][kind] == reasons, f"counts as {kind}: {told['ledger'][kind]}")


@fault(
    4,
    "a refusal is not sent again, and counted",
    cases={
        **{str(status): ("http", {"status": status}, f"http_{status}") for status in (400, 401, 403, 404, 408, 500)},
        **{
            f"gRPC {code}": ("grpc", {"code": code}, f"grpc_{code.lower()}")
            for code in ("INVALID_ARGUMENT", "UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED", "INTERNAL")
        },
    },
)
def refused(bench: Bench, case: tuple[str, dict[str, Any], str]) -> None:
    protocol, action, reason = case
    server = bench.server(action, OK, protocol=protocol)
    told = bench.run(THOUSAND, to=server, protocol=protocol)
    bench.expect(not resent(server), "sends it again")
    expect_counted(bench, told, {reason: 512})


@fault(4, cases={"413": 413})
def refused_alone(bench: Bench, status: int) -> None:
    server = bench.server({"status": status}, OK)
    told = bench.run("agent.spans(1); agent.settle(); agent.spans(999); agent.settle()", to=server)
    bench.expect(not resent(server), "sends it again")
    expect_counted(bench, told, {f"http_{status}": 1})


@fault(4, cases={"401 until the token is renewed": "http", "UNAUTHENTICATED until it is": "grpc"})
def renewed(bench: Bench, protocol: str) -> None:
    accepts = {"accepts": ["Bearer token-2"], "otherwise": {"status": 401, "code": "UNAUTHENTICATED"}}
    server = bench.server({**OK, **accepts}, protocol=protocol)
    with TokenServer(secret="s3cret") as tokens:
        oauth2 = {"oauth2_token_url": tokens.url, "oauth2_client_id": "shop", "oauth2_client_secret": "s3cret"}
        # The stock SDK has only the token that it was started with.
        credentials: dict[str, Any] = oauth2 if bench.otelagent else {"headers": "authorization=Bearer token-1"}
        told = bench.run(THOUSAND, to=server, protocol=protocol, **credentials)
        fetched = len(tokens.stop())
    if bench.otelagent:
        bench.expect(fetched == 2, f"fetches {fetched} tokens")
        bench.expect(len(server.requests) == 3, f"needs {len(server.requests)} requests")
        bench.expect(told["ledger"]["delivered"] == 1000, "loses spans to a token that can be renewed")


@fault(5, "too large: bisected, one large span lost", cases={"413": "http", "gRPC": "grpc"})
def bisected(bench: Bench, protocol: str) -> None:
    too_large = "grpc: received message larger than max (200000 vs. 100000)"
    larger = {"status": 413} if protocol == "http" else {"code": "RESOURCE_EXHAUSTED", "details": too_large}
    server = bench.server({**OK, "max_bytes": 100_000, "larger": larger}, protocol=protocol)
    program = "agent.spans(499, 1000); agent.spans(1, 200_000); agent.spans(500, 1000); agent.settle()"
    told = bench.run(program, to=server, protocol=protocol)
    bench.expect(not resent(server), "sends the same again")
    expect_one_lost(bench, told)


@fault(5, cases={"64 MiB": None})
def larger_than_a_request(bench: Bench, _: None) -> None:
    server = bench.server(OK)
    program = "agent.spans(80, 1_000_000); agent.spans(1, 70_000_000); agent.spans(19, 1_000_000); agent.settle(40)"
    # Of memory there is enough: what is too much for the queue is not this fault.
    told = bench.run(program, to=server, queue_max_bytes=2**30, batch_queue_max_bytes=2**30)
    largest = max((request["bytes"] for request in server.requests), default=0)
    bench.expect(largest <= 64 * 1024 * 1024, f"sends a request of {largest} bytes")
    expect_one_lost(bench, told)


@fault(5, cases={"collector": "http", "collector by gRPC": "grpc"})
def larger_than_the_collector_takes(bench: Bench, protocol: str) -> None:
    # 20 MiB over HTTP, which it answers with 400, and 4 MiB over gRPC.
    size = 1_000_000 if protocol == "http" else 200_000
    program = f"agent.spans(20, {size}); agent.spans(1, 22_000_000); agent.spans(20, {size}); agent.settle()"
    # What the queues have no room for, or get back from disk at a limited rate, is not this fault.
    quick = {"spool_replay_bytes_per_s": 2**28, "batch_queue_max_bytes": 2**30}
    expect_one_lost(bench, bench.run(program, to=bench.collector(), protocol=protocol, **quick))


def expect_one_lost(bench: Bench, told: dict[str, Any]) -> None:
    """That one span is lost, and counted."""
    if bench.otelagent:
        ledger = told["ledger"]
        lost = sum(ledger["rejected"].values()) + sum(ledger["dropped"].values())
        bench.expect((ledger["ended"] - ledger["delivered"], lost) == (1, 1), f"loses {lost} spans for one")


@fault(6, "redirect: a failure, the credentials stay", cases={str(status): status for status in (301, 302, 307, 308)})
def redirected(bench: Bench, status: int) -> None:
    elsewhere = bench.server({"status": 200})
    location = f"http://127.0.0.1:{elsewhere.port}/elsewhere"
    server = bench.server({"status": status, "headers": {"location": location}}, OK)
    told = bench.run(THOUSAND, to=server, headers="authorization=Bearer s3cret,x-api-key=s3cret")
    elsewhere.stop()
    bench.expect(not any(request["spans"] for request in elsewhere.requests), "sends the spans to the other place")
    leaked = {
        name for request in elsewhere.requests for name in request["headers"] if "s3cret" in request["headers"][name]
    }
    bench.expect(not leaked, f"sends it {' and '.join(sorted(leaked))}")
    bench.expect(not elsewhere.requests or leaked, "follows it")
    expect_counted(bench, told, {"redirect": 512})


@fault(7, "200 with an HTML page: a failure")
def html(bench: Bench) -> None:
    server = bench.server({"status": 200, "body": HTML.hex(), "headers": {"content-type": "text/html"}}, OK)
    told = bench.run(THOUSAND, to=server)
    bench.expect(not resent(server), "sends it again")
    expect_counted(bench, told, {"malformed_response": 512})


PARTIAL = {"5 rejected": (5, "too old"), "empty": (0, ""), "message only": (0, "slow down")}


@fault(
    8,
    "partial success: 5 rejected, empty, message",
    cases={
        f"{'gRPC: ' if protocol == 'grpc' else ''}{name}": (protocol, *partial)
        for name, partial in PARTIAL.items()
        for protocol in ("http", "grpc")
    },
)
def partly(bench: Bench, case: tuple[str, int, str]) -> None:
    protocol, rejected, message = case
    body = partial_success(rejected, message) or b"\x0a\x00"
    server = bench.server({**OK, "body": body.hex(), "refuses": rejected}, OK, protocol=protocol)
    told = bench.run(THOUSAND, to=server, protocol=protocol)
    bench.expect(not resent(server), "sends it again")
    expect_counted(bench, told, {"partial_success": rejected} if rejected else {})


@fault(
    9,
    "endless answer, gzip bomb: < 10 MiB more",
    cases={
        "endless": {"do": "endless", "times": 4096},
        "gzip bomb": {"do": "bomb", "bytes": 256 * 1024 * 1024},
        "endless after gzip": {"do": "endless_after_gzip", "times": 4096},
    },
)
def endless(bench: Bench, action: dict[str, Any]) -> None:
    server = bench.server(OK, OK, action, OK)
    program = """
agent.spans(1000)
agent.settle()
agent.peak_memory()
before = agent.peak_memory()
agent.spans(1000)
agent.settle()
agent.say(growth_mib=agent.peak_memory() - before)
"""
    told = bench.run(program, to=server)
    growth_mib = told.get("growth_mib", 0.0)
    bench.expect(growth_mib < 10, f"takes {growth_mib:.0f} MiB")
    bench.expect(not resent(server), "sends it again")
    expect_counted(bench, told, {"malformed_response": 512})


@fault(
    10,
    "a byte per 500 ms: ends at 10 s ± 10 %",
    cases={
        "body": ("http", {"do": "drip", "pause_s": 0.5}),
        "head": ("http", {"do": "drip_head", "pause_s": 0.5}),
        "gRPC without an answer": ("grpc", {"delay_s": 60}),
    },
    idle=True,
)
def dripping(bench: Bench, case: tuple[str, dict[str, Any]]) -> None:
    protocol, action = case
    server = bench.server(action, OK, protocol=protocol)
    bench.run("agent.spans(1000); agent.settle(30)", to=server, protocol=protocol, timeout_s=45.0)
    after_s = server.gone_s[0] if server.gone_s else 60.0
    bench.expect(9 <= after_s <= 11, f"waits {after_s:.0f} s" if server.gone_s else "waits on")


@fault(
    12,
    "connection reset before or in the answer",
    cases={
        "before": [{"do": "reset"}],
        "in it": [{"do": "reset_in_body", "takes": True}],
        "three times": [{"do": "reset"}] * 3,
    },
)
def reset(bench: Bench, actions: list[dict[str, Any]]) -> None:
    # What was taken without an answer can only be sent again.
    bench.twice = True
    server = bench.server(*actions, OK)
    bench.run(THOUSAND, to=server, retry_max_backoff_ms=1000)


GARBAGE = b"\xff\xff no status".hex()


@fault(
    13,
    "gRPC: RetryInfo is obeyed",
    cases={
        "UNAVAILABLE 50 ms": ("UNAVAILABLE", status_details(0, 50_000_000), 0.05),
        "UNAVAILABLE 3 s": ("UNAVAILABLE", status_details(3), 3.0),
        "RESOURCE_EXHAUSTED 50 ms": ("RESOURCE_EXHAUSTED", status_details(0, 50_000_000), 0.05),
        "RESOURCE_EXHAUSTED without": ("RESOURCE_EXHAUSTED", "", None),
    },
)
def retry_info(bench: Bench, case: tuple[str, str, float | None]) -> None:
    told_to_wait(bench, *case)


@fault(
    14,
    "gRPC: malformed status details",
    cases={
        "UNAVAILABLE": ("UNAVAILABLE", GARBAGE, 0.0),
        "RESOURCE_EXHAUSTED": ("RESOURCE_EXHAUSTED", GARBAGE, None),
        "RetryInfo cut short": ("RESOURCE_EXHAUSTED", status_details(3)[:-4], None),
        "negative": ("RESOURCE_EXHAUSTED", status_details(-3), 0.0),
    },
)
def malformed_details(bench: Bench, case: tuple[str, str, float | None]) -> None:
    told_to_wait(bench, *case)


def told_to_wait(bench: Bench, code: str, details: str, wait_s: float | None) -> None:
    """A gRPC server fails once.

    :param wait_s: what it asks for, so that the same comes again after that; None if it must not come again.
    """
    server = bench.server({"code": code, "status_details": details}, OK, protocol="grpc")
    told = bench.run(THOUSAND, to=server, protocol="grpc")
    # A server tells of a request when it has answered; the next one may be there by then.
    first, second, *others = sorted(server.requests, key=lambda request: float(request["at"]))
    # It waits on disk, and what is new doesn't wait for it.
    again = any(first["spans"] == later["spans"] for later in (second, *others))
    bench.expect(
        again == (wait_s is not None),
        "sends it again" if wait_s is None else "doesn't send it again",
    )
    waited_s = second["at"] - first["at"]
    if wait_s is not None:
        bench.expect(waited_s >= wait_s, f"waits {waited_s:.2f} s")
    expect_counted(bench, told, {f"grpc_{code.lower()}": 512} if wait_s is None else {})
