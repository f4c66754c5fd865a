"""Runs of pytest in processes of their own, as users start them."""

from __future__ import annotations

import os

import pytest

from tests.support import native_or_skip

__all__ = ["Run"]


class Run:
    """Runs test files with one engine.

    :param engine: ``native`` or ``sdk``.
    """

    def __init__(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
        if engine == "native":
            native_or_skip()
        for name in os.environ:
            if name.startswith(("OTEL", "PYTEST_")):
                monkeypatch.delenv(name)
        monkeypatch.setenv("OTELAGENT_ENGINE", engine)
        # What the tests of this project are run with says nothing of how users run theirs.
        monkeypatch.delenv("PYTHONPATH", raising=False)
        self._pytester = pytester
        self._monkeypatch = monkeypatch
        pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")

    def __call__(self, source: str, *arguments: str, **environ: str) -> pytest.RunResult:
        """Run one file of tests.

        :param source: of the file.
        :param arguments: options of pytest.
        :param environ: more environment variables.
        """
        for name, value in environ.items():
            self._monkeypatch.setenv(name, value)
        self._pytester.makepyfile(test_users=source)
        return self._pytester.runpytest_subprocess("-p", "no:cacheprovider", *arguments, timeout=100)

    def passes(self, source: str, *arguments: str, **environ: str) -> pytest.RunResult:
        """The same; all of them must pass."""
        result = self(source, *arguments, **environ)
        assert result.ret == 0, result.stdout.str()
        return result
