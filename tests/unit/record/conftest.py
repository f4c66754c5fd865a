from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support import native_or_skip
from tests.unit.record.log_recorder import LogRecorder
from tests.unit.record.recorder import Recorder


@pytest.fixture(params=["sdk", "native"])
def engine(request: pytest.FixtureRequest) -> str:
    """The name of an engine: each test that uses it, or `record`, runs with both."""
    name: str = request.param
    if name == "native":
        native_or_skip()
    return name


@pytest.fixture
def record(engine: str) -> Iterator[Callable[..., Recorder]]:
    """Opens recorders; at the end each is shut down and its books must balance."""
    recorders: list[Recorder] = []

    def open_recorder(flush_delivery: Callable[[float], bool] | None = None, **settings: Any) -> Recorder:
        recorders.append(Recorder(flush_delivery, engine, **settings))
        return recorders[-1]

    yield open_recorder
    for recorder in recorders:
        recorder.close()


@pytest.fixture
def record_logs(engine: str) -> Iterator[Callable[..., LogRecorder]]:
    """As `record`, for log records."""
    recorders: list[LogRecorder] = []

    def open_recorder(**settings: Any) -> LogRecorder:
        recorders.append(LogRecorder(engine, **settings))
        return recorders[-1]

    yield open_recorder
    for recorder in recorders:
        recorder.close()
