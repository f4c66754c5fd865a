from __future__ import annotations

from tests.unit.record.conftest import engine, record

__all__ = ["engine", "record"]
