"""The real back ends, started once, and a bench for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backends import Backends
from tests.e2e.harness import Bench, Protocol, Sink, Stack
from tests.support import backends_or_skip


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Collector, Jaeger and Zipkin. Without their programs: a failure in CI, a skip elsewhere."""
    backends_or_skip()
    with Backends(tmp_path_factory.mktemp("stack")) as started:
        yield Stack(started)


@pytest.fixture
def open_bench(tmp_path: Path) -> Iterator[Callable[[Sink], Bench]]:
    """Opens a bench whose applications send to the given place."""
    benches: list[Bench] = []

    def open_one(sink: Sink) -> Bench:
        benches.append(Bench(tmp_path, sink))
        return benches[-1]

    yield open_one
    for bench in benches:
        bench.close()


@pytest.fixture
def bench(open_bench: Callable[[Sink], Bench], tmp_path: Path) -> Bench:
    """A bench whose applications write a file, which needs no back end."""
    return open_bench(Sink.to_file(tmp_path / "spans.jsonl"))


@pytest.fixture
def collected(open_bench: Callable[[Sink], Bench], stack: Stack) -> Bench:
    """A bench whose applications send to the real collector over HTTP."""
    return open_bench(Sink.to_collector(stack.collector))


__all__ = ["Protocol"]
