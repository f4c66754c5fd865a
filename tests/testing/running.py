"""Runs of pytest in processes of their own, as users start them."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest

from tests.support import native_or_skip

__all__ = ["Run"]


class Run:
    """Runs test files with one engine.

    :param engine: ``native`` or ``sdk``.
    :ivar pytester: where they are.
    """

    def __init__(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
        if engine == "native":
            native_or_skip()
        # What the tests of this project are run with says nothing of how users run theirs.
        for name in list(os.environ):
            if name.startswith(("OTEL", "PYTEST_", "PYTHONPATH")):
                monkeypatch.delenv(name)
        monkeypatch.setenv("OTELAGENT_ENGINE", engine)
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        self.pytester = pytester
        self._monkeypatch = monkeypatch

    def __call__(
        self, source: str, *arguments: str, plugins: Sequence[str] = ("otelagent",), **environ: str
    ) -> pytest.RunResult:
        """Run one file of tests.

        :param source: of the file.
        :param arguments: options of pytest.
        :param plugins: those of the installed ones that are loaded, to save the time of the others.
        :param environ: more environment variables.
        """
        for name, value in environ.items():
            self._monkeypatch.setenv(name, value)
        loaded = [argument for plugin in plugins for argument in ("-p", plugin)]
        self.pytester.makepyfile(test_users=source)
        return self.pytester.runpytest_subprocess(*loaded, "-p", "no:cacheprovider", *arguments, timeout=100)

    def passes(
        self, source: str, *arguments: str, plugins: Sequence[str] = ("otelagent",), **environ: str
    ) -> pytest.RunResult:
        """The same; all of them must pass."""
        result = self(source, *arguments, plugins=plugins, **environ)
        assert result.ret == 0, result.stdout.str() + result.stderr.str()
        return result
