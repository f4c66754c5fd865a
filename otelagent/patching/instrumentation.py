"""One library's instrumentation: its patch points as data, applied when the library is imported, undone by identity."""

from __future__ import annotations

import importlib.metadata
import inspect
import logging
from collections.abc import Callable
from types import ModuleType
from typing import Any, ClassVar

import wrapt
from opentelemetry import trace

from otelagent.patching.hook import PatchPoint, Site, wrap
from otelagent.semconv import SCHEMA_URL

__all__ = ["Instrumentation"]

_log = logging.getLogger("otelagent.instrumentation")
_ABSENT = object()


class Instrumentation:
    """The base class of an instrumentation.

    A subclass names its library and marks methods with `hook` or `replace`; it may keep per-process state on itself.

    :cvar name: the library's name as users know it; also the name of its entry point, so the module whose import
        loads the instrumentation.
    :cvar supports: versions of the library it was tested with, as a PEP 440 specifier set; empty for the standard library.
    :cvar distribution: the distribution that provides the library, where its name isn't `name`.
    :cvar layer: the semantic layer of its calls; see `operation.LAYER_KEY`.
    """

    name: ClassVar[str]
    supports: ClassVar[str] = ""
    distribution: ClassVar[str | None] = None
    layer: ClassVar[str | None] = None

    def __init__(self, scope_version: str) -> None:
        self.tracer = trace.get_tracer(type(self).__module__, scope_version, schema_url=SCHEMA_URL)
        self.failure: str | None = None
        self._on = False
        self._registered = False
        self._patches: list[_Patch] = []
        self._sites: list[Site] = []

    @classmethod
    def points(cls) -> list[tuple[PatchPoint, str]]:
        """Every patch point of the class with the name of the method that is marked with it."""
        return [
            (point, name)
            for name, member in inspect.getmembers(cls, inspect.isfunction)
            for point in getattr(member, "_patch_points", ())
        ]

    def unsupported(self) -> str | None:
        """Why the installed version of the library can't be instrumented; ``None`` when it can."""
        if not self.supports:
            return None
        from packaging.specifiers import SpecifierSet

        name = self.distribution or self.name
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return f"{name}: no installed distribution tells its version"
        if SpecifierSet(self.supports).contains(version, prereleases=True):
            return None
        return f"{name} {version} is outside {self.supports}"

    def apply(self) -> None:
        """Patch every point whose module is imported, and the others as soon as they are. Applying twice is safe."""
        if self._on:
            return
        self._on = True
        for site in self._sites:
            site.on = True
        if not self._registered:
            self._registered = True
            for point, method in self.points():
                wrapt.register_post_import_hook(self._patcher(point, getattr(self, method)), point.module)
        else:
            for patch in self._patches:
                patch.put()

    def undo(self) -> None:
        """Restore every patched attribute that is still ours, and silence the wrappers that others have kept."""
        self._on = False
        for site in self._sites:
            site.on = False
        for patch in reversed(self._patches):
            patch.restore()

    def _patcher(self, point: PatchPoint, method: Callable[..., Any]) -> Callable[[ModuleType], None]:
        def patch(module: ModuleType) -> None:
            # An exception in here would make the application's import fail.
            try:
                made = self._make(module, point, method)
            except Exception as error:
                if point.optional and isinstance(error, AttributeError):
                    return
                self.failure = f"{point.module}:{point.path}: {type(error).__name__}: {error}"
                _log.warning("%s is not instrumented at %s:%s", self.name, point.module, point.path, exc_info=error)
                return
            self._patches.append(made)
            if self._on:
                made.put()

        return patch

    def _make(self, module: ModuleType, point: PatchPoint, method: Callable[..., Any]) -> _Patch:
        *parents, attribute = point.path.split(".")
        owner: Any = module
        for parent in parents:
            owner = getattr(owner, parent)
        raw = inspect.getattr_static(owner, attribute)
        function = raw.__func__ if isinstance(raw, (staticmethod, classmethod)) else raw
        if point.replaces:
            replacement = method(function)
        else:
            site = Site(method, self.tracer, self.layer, f"{point.module}:{point.path}", point.carrier)
            self._sites.append(site)
            bound = inspect.isclass(owner) and not isinstance(raw, staticmethod)
            replacement = wrap(function, site, method=bound)
        if isinstance(raw, (staticmethod, classmethod)):
            replacement = type(raw)(replacement)
        return _Patch(owner, attribute, vars(owner).get(attribute, _ABSENT), replacement)


class _Patch:
    """One replaced attribute and what stood there before; inherited attributes leave nothing behind."""

    __slots__ = ("attribute", "before", "owner", "replacement")

    def __init__(self, owner: Any, attribute: str, before: Any, replacement: Any) -> None:
        self.owner = owner
        self.attribute = attribute
        self.before = before
        self.replacement = replacement

    def put(self) -> None:
        setattr(self.owner, self.attribute, self.replacement)

    def restore(self) -> None:
        # Somebody may have wrapped our wrapper since: taking it away would take theirs with it.
        if vars(self.owner).get(self.attribute) is not self.replacement:
            return
        if self.before is _ABSENT:
            delattr(self.owner, self.attribute)
        else:
            setattr(self.owner, self.attribute, self.before)
