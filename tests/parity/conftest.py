from __future__ import annotations

from tests.unit.record.conftest import engine, record, record_logs

__all__ = ["engine", "record", "record_logs"]
