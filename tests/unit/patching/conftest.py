from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.instrumentation.conftest import apply, spans

__all__ = ["Library", "apply", "library", "spans"]

SOURCE = """
    import functools
    from math import sqrt
    from operator import itemgetter as CType
    from opentelemetry import trace

    def current():
        return trace.get_current_span().get_span_context().span_id

    def function(x, *, fail=None):
        if fail is not None:
            raise fail
        return x, current()

    async def coroutine(x, *, fail=None):
        return function(x, fail=fail)

    def generator(x, *, fail=None):
        for i in range(x):
            yield i, current()
        if fail is not None:
            raise fail
        return "end"

    async def async_generator(x, *, fail=None):
        for i in range(x):
            yield i, current()
        if fail is not None:
            raise fail

    class Parent:
        def method(self, x, *, fail=None):
            return function(x, fail=fail)

        async def async_method(self, x, *, fail=None):
            return function(x, fail=fail)

        @staticmethod
        def static(x, *, fail=None):
            return function(x, fail=fail)

        @classmethod
        def cls(cls, x, *, fail=None):
            return function(x, fail=fail)

    class Child(Parent):
        pass
"""

Library = Callable[[], Any]


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Library]:
    """Writes the module ``target_library`` and returns what imports it; the module is new in each test."""
    (tmp_path / "target_library.py").write_text(textwrap.dedent(SOURCE))
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("target_library", None)
    yield lambda: importlib.import_module("target_library")
    sys.modules.pop("target_library", None)
