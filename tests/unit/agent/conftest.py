from __future__ import annotations

import pytest

from tests.support import ENGINE, native_or_skip


@pytest.fixture(autouse=True, params=["sdk", "native"])
def either_engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs each program with either engine."""
    if request.param == "native":
        native_or_skip()
    monkeypatch.setitem(ENGINE, "OTELAGENT_ENGINE", request.param)
