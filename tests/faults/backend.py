"""Faults of the backend."""

from __future__ import annotations

from typing import Any

from tests.faults.bench import OK, Bench
from tests.faults.registry import fault

THOUSAND = "agent.spans(1000); agent.settle()"
"""Two requests with the usual batch size, 512."""

HTML = b"<html><body>Please log in</body></html>"


def resent(requests: list[dict[str, Any]]) -> int:
    """How many requests came again with the same spans."""
    return len(requests) - len({tuple(sorted(request["spans"])) for request in requests})


@fault(
    4,
    "400, 401, 403, 404, 408, 500: not sent again",
    cases={str(code): code for code in (400, 401, 403, 404, 408, 500)},
)
def refused(bench: Bench, status: int) -> None:
    server = bench.server({"status": status}, OK)
    told = bench.run(THOUSAND, to=server)
    bench.expect(not resent(server.requests), "sends refused spans again")
    if bench.otelagent:
        bench.expect(list(told["ledger"]["rejected"]) == [f"http_{status}"], f"counts it as {told['ledger']}")


@fault(7, "200 with an HTML page")
def html(bench: Bench) -> None:
    server = bench.server({"status": 200, "body": HTML.hex(), "headers": {"content-type": "text/html"}}, OK)
    bench.run(THOUSAND, to=server)
    bench.expect(not resent(server.requests), "sends them again")
