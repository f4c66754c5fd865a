"""Series of several processes whose resources are the same: who sent which point, and what can't be told."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from otelagent.viewer.store.senders import Point, senders
from tests.browser.viewer import outside
from tests.viewer.running import Viewer

Row = tuple[int, int, float | None]
"""Since when it counts, its time, its total."""


@pytest.fixture(scope="module")
def viewer() -> Iterator[Viewer]:
    with Viewer() as viewer:
        yield viewer


def told(rows: list[Row], *, delta: bool = False) -> list[tuple[list[float | None], bool]]:
    """The totals of each sender, and whether they are mixed."""
    points: list[Point] = [(since, at, total, None, None) for since, at, total in rows]
    found = senders(points, delta=delta, total=lambda point: point[2])
    return [([point[2] for point in sender.points], sender.mixed) for sender in found]


CASES: dict[str, tuple[list[Row], list[tuple[list[float | None], bool]]]] = {
    "one": ([(1, 10, 5), (1, 20, 7)], [([5, 7], False)]),
    "two at once": (
        [(1, 10, 900), (2, 11, 5), (1, 20, 910), (2, 21, 6)],
        [([900, 910], False), ([5, 6], False)],
    ),
    "two, the second of which begins later": ([(1, 10, 5), (11, 20, 1), (1, 30, 7)], [([5, 7], False), ([1], False)]),
    "one that is started anew": ([(1, 10, 5), (1, 20, 7), (21, 30, 9)], [([5, 7, 9], False)]),
    "two, each started anew": (
        [(1, 10, 5), (2, 11, 50), (12, 20, 1), (2, 24, 60), (22, 30, 2), (25, 31, 3)],
        [([5, 1, 2], False), ([50, 60, 3], False)],
    ),
    "copies of one, which began at the same time": ([(1, 10, 900), (1, 11, 5), (1, 20, 910)], [([900, 5, 910], True)]),
    "what falls where nobody says since when": ([(0, 10, 900), (0, 20, 5), (0, 30, 50)], [([900, 5, 50], False)]),
    "what falls and is back": ([(0, 10, 900), (0, 20, 5), (0, 30, 905)], [([900, 5, 905], True)]),
    "what falls and slowly grows again": (
        [(0, 10, 9), (0, 20, 1), *((0, 30 + at, at) for at in range(2, 15))],
        [([9, 1, *range(2, 15)], False)],
    ),
    "what may fall": ([(1, 10, None), (1, 20, None)], [([None, None], False)]),
    "nobody keeps to it": (
        [(at, at + 100, at) for at in range(1, 60)],
        [(list(range(1, 60)), True)],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_points_that_count_at_the_same_time_are_of_different_senders(name: str) -> None:
    rows, found = CASES[name]
    assert told(rows) == found


def test_deltas_of_two_senders() -> None:
    rows: list[Row] = [(1, 10, 1), (3, 13, 2), (10, 20, 3), (13, 23, 4), (20, 30, 5)]
    assert told(rows, delta=True) == [([1, 3, 5], False), ([2, 4], False)]
    assert told([(0, 10, 9), (0, 11, 1), (0, 20, 9)], delta=True) == [([9, 1, 9], False)]


COUNTING = """
import sys
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

reader = PeriodicExportingMetricReader(OTLPMetricExporter(sys.argv[1]), export_interval_millis=float("inf"))
meter = MeterProvider([reader], Resource({"service.name": "bare"})).get_meter("shop")
calls, sizes = meter.create_counter("calls"), meter.create_histogram("sizes")
for line in sys.stdin:
    calls.add(int(line), {"path": "/"})
    sizes.record(int(line), {"path": "/"})
    reader.collect()
    print("sent", flush=True)
"""


def test_two_processes_without_an_instance_are_told_apart(viewer: Viewer) -> None:
    command = [sys.executable, "-c", COUNTING, f"{viewer.base}/v1/metrics"]
    programs = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=outside())
        for _ in range(2)
    ]
    for amounts in ((100_000, 1), (10, 1), (10, 1)):
        for program, amount in zip(programs, amounts, strict=True):
            assert program.stdin is not None
            assert program.stdout is not None
            program.stdin.write(f"{amount}\n")
            program.stdin.flush()
            assert program.stdout.readline() == "sent\n"
    for program in programs:
        program.communicate(timeout=60)
    metrics = {one["name"]: one for one in viewer.json("/api/metrics?service=bare")["metrics"]}
    totals = [[100_000, 100_010, 100_020], [1, 2, 3]]
    series = viewer.json(f"/api/metrics/{metrics['calls']['id']}/points")["series"]
    assert [sorted({point[1] for point in one["points"]}) for one in series] == totals
    assert [(one["attributes"], one["sender"], one["mixed"]) for one in series] == [
        ({"path": "/"}, 0, False),
        ({"path": "/"}, 1, False),
    ]
    assert all({point[4] for point in one["points"]} == {one["since"]} for one in series)
    assert int(series[0]["since"]) != int(series[1]["since"])
    series = viewer.json(f"/api/metrics/{metrics['sizes']['id']}/points")["series"]
    assert [sorted({point[2]["count"] for point in one["points"]}) for one in series] == [[1, 2, 3], [1, 2, 3]]
