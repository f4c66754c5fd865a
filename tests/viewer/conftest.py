"""Programs of both engines."""

from __future__ import annotations

import pytest

from tests.support import native_or_skip


@pytest.fixture(params=["native", "sdk"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name = str(request.param)
    if name == "native":
        native_or_skip()
    monkeypatch.setenv("OTELAGENT_ENGINE", name)
    return name
