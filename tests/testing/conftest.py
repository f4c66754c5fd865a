from __future__ import annotations

import pytest

from tests.testing.running import Run


@pytest.fixture(params=["native", "sdk"])
def run(request: pytest.FixtureRequest, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs pytest with each engine."""
    return Run(pytester, monkeypatch, request.param)
