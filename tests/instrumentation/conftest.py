from __future__ import annotations

from collections.abc import Iterator

import pytest

from otelagent.patching.switch import SWITCH
from tests.instrumentation.capture import Applied, Spans
from tests.instrumentation.serving import apply_frameworks, apply_servers


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


@pytest.fixture
def servers(apply: Applied) -> Applied:
    """The servers are traced; `apply` what else should be."""
    return apply_servers(apply)


@pytest.fixture
def frameworks(servers: Applied) -> None:
    """The servers and the frameworks are traced."""
    apply_frameworks(servers)
