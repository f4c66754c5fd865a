"""Calls back when a module has been imported, so that what traces a library loads when the application imports it.

`wrapt` has such hooks too; importing it costs more than all the rest of the agent's start.
"""

from __future__ import annotations

import sys

from otelagent.forks import at_fork
from otelagent.threads import RLock, get_ident

TYPE_CHECKING = False  # typing's own costs an import
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any, TypeAlias

    Callback: TypeAlias = Callable[[Any], object]

__all__ = ["when_imported"]

_waiting: dict[str, list[Callback]] = {}
_lock = RLock()


def when_imported(name: str, callback: Callback) -> None:
    """Call back with a module, once: now if it is imported, otherwise in the import that loads it, right after its
    code has run.

    A namespace package (it has no code) and a module that comes into `sys.modules` past the import system are not
    noticed.

    :param name: the module's full name.
    :param callback: gets the module. An exception of it is logged; the import goes on.
    """
    with _lock:
        if _FINDER not in sys.meta_path:
            sys.meta_path.insert(0, _FINDER)
        module = sys.modules.get(name)
        if module is None or (name in _waiting and _is_loading(module)):
            _waiting.setdefault(name, []).append(callback)
            return
    _call(callback, name, module)


def _is_loading(module: ModuleType) -> bool:
    return bool(getattr(getattr(module, "__spec__", None), "_initializing", False))


def _loaded(name: str, module: ModuleType) -> None:
    with _lock:
        callbacks = _waiting.pop(name, ())
    for callback in callbacks:
        _call(callback, name, sys.modules.get(name, module))  # it may have put something else in its place


def _call(callback: Callback, name: str, module: ModuleType) -> None:
    try:
        callback(module)
    except (Exception, SystemExit):
        import logging

        logging.getLogger("otelagent").warning("the import of %s could not be acted on", name, exc_info=True)


class _Finder:
    """Finds the modules that are waited for, by means of the finders behind it."""

    def __init__(self) -> None:
        # Another's finder behind this one may search from the beginning, and so ask this one again.
        self._searching: set[tuple[int, str]] = set()

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in _waiting or (search := (get_ident(), name)) in self._searching:
            return None
        self._searching.add(search)
        try:
            spec = self._ask_others(name, path, target)
        finally:
            self._searching.discard(search)
        loader: Any = None if spec is None else spec.loader
        # A finder may give the same spec again.
        if spec is not None and hasattr(loader, "exec_module") and type(loader) is not _Loader:
            spec.loader = _Loader(loader)  # type: ignore[assignment]
        return spec

    def after_fork_in_child(self) -> None:
        """Forgets searches that other threads of the parent were at."""
        own = get_ident()
        self._searching = {search for search in self._searching if search[0] == own}

    def _ask_others(self, name: str, path: Sequence[str] | None, target: ModuleType | None) -> ModuleSpec | None:
        behind = list(sys.meta_path)
        if self in behind:
            del behind[: behind.index(self) + 1]
        for finder in behind:
            find_spec = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find_spec(name, path, target) if find_spec is not None else None
            if spec is not None:
                return spec
        return None


class _Loader:
    """Passes for the loader it wraps, and puts that one in its place before any code of the module can look."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return self._loader.__class__

    def exec_module(self, module: ModuleType) -> None:
        """Runs the module's code, then tells those who waited for it."""
        spec: Any = module.__spec__
        for owner, attribute in ((spec, "loader"), (module, "__loader__")):
            if getattr(owner, attribute, None) is self:
                setattr(owner, attribute, self._loader)
        self._loader.exec_module(module)
        _loaded(spec.name, module)


_FINDER = _Finder()


def _after_fork_in_child() -> None:
    # Another thread may have held the lock, or been searching, when this one forked; its number is given out again.
    global _lock
    _lock = RLock()
    _FINDER.after_fork_in_child()


at_fork(in_child=_after_fork_in_child)
