from __future__ import annotations

from typing import Any

import pytest

import otelagent
from tests.parity.providers import Provider
from tests.unit.record.conftest import engine, record, record_logs

__all__ = ["engine", "record", "record_logs"]


@pytest.fixture
def provider(engine: str, monkeypatch: pytest.MonkeyPatch) -> Provider:
    """Makes providers of an engine."""
    monkeypatch.setenv("OTELAGENT_ENGINE", engine)

    def make(**arguments: Any) -> otelagent.TracerProvider:
        return otelagent.TracerProvider(**{"shutdown_on_exit": False, **arguments})

    return make
