from __future__ import annotations

import subprocess
import sys

import pytest

from otelagent.config import load
from otelagent.delivery.ledger import Ledger
from otelagent.errors import ConfigError
from otelagent.record import Engine, open_engine


def deliver(signal: str, body: bytes, items: int) -> None:
    pass


@pytest.mark.parametrize(("setting", "reason"), [("auto", "otelagent-native is not installed"), ("sdk", "set to sdk")])
def test_the_engine_is_the_sdks_and_says_why(setting: str, reason: str) -> None:
    opened: Engine = open_engine(load({"engine": setting}, {}), Ledger("traces"), deliver)
    assert opened.name == "sdk"
    assert reason in opened.reason


def test_native_is_an_error_where_it_is_missing() -> None:
    with pytest.raises(ConfigError) as raised:
        open_engine(load({}, {"OTELAGENT_ENGINE": "native"}), Ledger("traces"), deliver)
    assert (raised.value.setting, raised.value.source) == ("engine", "OTELAGENT_ENGINE")
    assert "not installed" in raised.value.problem
    assert "'auto'" in raised.value.hint


def test_native_is_not_taken_before_it_can_be_driven(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert "can't drive" in open_engine(load({}, {}), Ledger("traces"), deliver).reason


def test_nothing_heavy_is_imported_before_the_engine_opens() -> None:
    code = """
import sys
import otelagent.record
heavy = ("opentelemetry.sdk", "google.protobuf", "opentelemetry.exporter", "grpc", "httpx")
assert not [name for name in heavy if name in sys.modules], [name for name in heavy if name in sys.modules]
from otelagent.config import load
from otelagent.delivery.ledger import Ledger
otelagent.record.open_engine(load({}, {}), Ledger("traces"), lambda *a: None)
assert "opentelemetry.sdk.trace" in sys.modules
assert not [name for name in heavy[1:] if name in sys.modules], [name for name in heavy if name in sys.modules]
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
