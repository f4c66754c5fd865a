from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.unit.record.recorder import Recorder


@pytest.fixture
def record() -> Iterator[Callable[..., Recorder]]:
    """Opens recorders; at the end each is shut down and its books must balance."""
    recorders: list[Recorder] = []

    def open_recorder(flush_delivery: Callable[[float], bool] | None = None, **settings: object) -> Recorder:
        recorders.append(Recorder(flush_delivery, **settings))
        return recorders[-1]

    yield open_recorder
    for recorder in recorders:
        recorder.close()
