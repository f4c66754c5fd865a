"""What the faults find: a bench that tells a lie must not hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.faults.bench import OK, Bench
from tests.faults.outcome import Outcome, judge, total
from tests.faults.registry import load
from tests.faults.table import HEADING, Row, rows, text

SPANS = ["00000000000000a1", "00000000000000a2"]


def ledger(**counts: Any) -> dict[str, Any]:
    empty = {"ended": 2, "adopted": 0, "sampled_out": 0, "delivered": 0, "spooled": 0, "queued": 0}
    return {**empty, "rejected": {}, "dropped": {}, "balanced": True, **counts}


@pytest.mark.parametrize(
    ("counts", "taken", "told", "complaint"),
    [
        ({"delivered": 2}, SPANS, {}, ""),
        ({"delivered": 1, "dropped": {"queue_full": 1}}, SPANS[:1], {}, ""),
        ({"delivered": 1, "balanced": False}, SPANS[:1], {}, "the equation doesn't hold"),
        ({"delivered": 2}, SPANS[:1], {}, "2 delivered, the servers took 1"),
        ({"delivered": 1}, SPANS[:1], {}, "1 lost in silence"),
        ({"delivered": 2}, [*SPANS, SPANS[0]], {}, "delivers 1 spans twice"),
        ({"ended": 1, "delivered": 1}, SPANS[:1], {}, "2 spans ended, the ledger says 1"),
        ({"dropped": {"x": 2}}, [], {"flushed": True}, "flush() says success"),
        ({"delivered": 2}, SPANS, {"raised": "TypeError: no"}, "raises TypeError: no into the application"),
    ],
)
def test_a_lie_is_found(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    counts: dict[str, Any],
    taken: list[str],
    told: dict[str, Any],
    complaint: str,
) -> None:
    bench = Bench("native", tmp_path)
    bench.add(ledger(**counts), SPANS, **told)
    monkeypatch.setattr(bench, "taken", lambda: [(0, span) for span in taken])
    whole = total([("", judge(bench))])
    assert whole.holds == (not complaint)
    assert complaint in " ".join(whole.complaints)


def test_an_application_that_raises_and_one_that_does_not_end(tmp_path: Path) -> None:
    bench = Bench("sdk", tmp_path)
    try:
        server = bench.server(OK)
        bench.run("agent.spans(3); agent.settle(); 1 / 0", to=server)
        bench.run("import time; time.sleep(60)", to=server, timeout_s=1)
    finally:
        bench.close()
    outcome = judge(bench)
    assert (outcome.ended, outcome.delivered) == (3, 3)
    assert outcome.complaints == ["raises ZeroDivisionError: division by zero into the application", "doesn't end"]


def test_titles_fit() -> None:
    assert [fault.title for fault in load() if not 0 < len(fault.title) <= 44] == []


def test_what_does_not_hold_is_printed() -> None:
    fault = load()[0]
    made = rows(fault, {"native": Outcome("native", complaints=["sends it again"]), "sdk": Outcome("sdk")})
    assert [row.cells[2] for row in made] == ["native", "sdk"]
    printed = "\n".join(map(text, [Row(HEADING), *made]))
    assert "FAILS" in printed
    assert "sends it again" in printed
    assert max(map(len, printed.splitlines())) <= 160
