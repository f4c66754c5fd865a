from __future__ import annotations

from collections.abc import Iterator

import pytest

from otelagent.patching.switch import SWITCH
from tests.instrumentation.capture import Applied, Spans


@pytest.fixture
def spans() -> Iterator[Spans]:
    """What the test records, with instrumentations switched on."""
    before = SWITCH.recording
    SWITCH.recording = True
    try:
        yield Spans()
    finally:
        SWITCH.recording = before


@pytest.fixture
def apply(spans: Spans) -> Iterator[Applied]:
    """Applies an instrumentation for this test alone."""
    applied = Applied()
    yield applied
    assert list(applied.undo()) == []
