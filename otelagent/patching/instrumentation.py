"""One library's instrumentation: its patch points as data, applied when the library is imported, undone by identity."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Iterable
from types import FunctionType, ModuleType
from typing import Any, ClassVar

from opentelemetry import trace

from otelagent.import_hooks import when_imported
from otelagent.patching.hook import MAX_HOOK_FAILURES, After, Call, Describe, PatchPoint, Site
from otelagent.patching.versions import installed_version, is_within
from otelagent.patching.wrap import wrap
from otelagent.semconv import SCHEMA_URL

__all__ = ["Instrumentation"]

_log = logging.getLogger("otelagent.instrumentation")
_ABSENT = object()


class Instrumentation:
    """The base class of an instrumentation.

    A subclass names its library and marks methods with `hook` or `replace`; it may keep per-process state on itself.

    :cvar name: the library's name as users know it; also the name of its entry point, so the module whose import
        loads the instrumentation.
    :cvar supports: versions of the library it was tested with, as a PEP 440 specifier set; empty for the standard
        library.
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
            (point, name) for name in sorted(dir(cls)) for point in getattr(getattr(cls, name), "_patch_points", ())
        ]

    def problem(self) -> str:
        """What of it doesn't work: a patch point that isn't there, hooks that failed too often; empty for nothing."""
        dead = [site.name for site in self._sites if site.failures >= MAX_HOOK_FAILURES]
        problems = [self.failure or "", f"off after repeated failures: {', '.join(dead)}" if dead else ""]
        return "; ".join(filter(None, problems))

    def unsupported(self) -> str | None:
        """Why the installed version of the library can't be instrumented; ``None`` when it can."""
        if not self.supports:
            return None
        name = self.distribution or self.name
        installed = installed_version(name)
        if installed is None:
            return f"{name}: no installed distribution tells its version"
        if is_within(installed, self.supports):
            return None
        return f"{name} {installed} is outside {self.supports}"

    @property
    def on(self) -> bool:
        """Whether it is applied. A replacement that others have wrapped stays in place after `undo` and asks this."""
        return self._on

    def site(
        self,
        describe: Describe,
        name: str,
        carrier: Callable[[Call], Any] | None = None,
        incoming: bool = False,
        after: After | None = None,
    ) -> Site:
        """A site for calls patched by other means than `hook` (subclasses, proxies, what a factory has made); `undo`
        silences it too. Make one for a describing method, not one for a call.

        :param describe: what a hook would be.
        :param name: for messages.
        :param carrier: see `PatchPoint`.
        :param incoming: see `PatchPoint`.
        :param after: see `PatchPoint`.
        """
        site = Site(describe, self.tracer, self.layer, name, carrier, incoming, after)
        site.on = self._on
        self._sites.append(site)
        return site

    def apply(self) -> None:
        """Patch every point whose module is imported, and the others as soon as they are. Applying twice is safe."""
        if self._on:
            return
        self._on = True
        for site in self._sites:
            site.on = True
        for patch in self._patches:
            self._put(patch)
        if not self._registered:
            self._registered = True
            for point, method in self.points():
                when_imported(point.module, self._patcher(point, getattr(self, method)))

    def undo(self) -> None:
        """Restore every patched attribute that is still ours, and silence the wrappers that others have kept."""
        self._on = False
        for site in self._sites:
            site.on = False
        for patch in reversed(self._patches):
            patch.restore()

    def _patcher(self, point: PatchPoint, method: Callable[..., Any]) -> Callable[[ModuleType], None]:
        def patch(module: ModuleType) -> None:
            made = _Patch(module, point, method.__name__, self._replacer(point, method))
            self._patches.append(made)
            if self._on:
                self._put(made)

        return patch

    def _put(self, patch: _Patch) -> None:
        # An exception in here would make the application's import fail.
        try:
            patch.put(self._patches)
        except (Exception, SystemExit) as error:
            point = patch.point
            if point.optional and isinstance(error, AttributeError):
                return
            self.failure = f"{point.module}:{point.path}: {type(error).__name__}: {error}"
            _log.warning("%s is not instrumented at %s:%s", self.name, point.module, point.path, exc_info=error)

    def _replacer(self, point: PatchPoint, method: Callable[..., Any]) -> Callable[..., Any]:
        if point.replaces:
            return lambda function, bound: method(function)
        after = None if point.after is None else getattr(self, point.after.__name__)
        site = self.site(method, f"{point.module}:{point.path}", point.carrier, point.incoming, after)
        return lambda function, bound: wrap(function, site, method=bound)


class _Patch:
    """One patch point in its imported module: what stood there before, and what stands there for it."""

    __slots__ = ("before", "method", "module", "placed", "point", "raw", "replace", "replacement")

    def __init__(self, module: ModuleType, point: PatchPoint, method: str, replace: Callable[..., Any]) -> None:
        self.module = module
        self.point = point
        self.method = method
        self.replace = replace
        self.placed = False
        self.before: Any = None
        self.raw: Any = _ABSENT
        self.replacement: Any = None

    def _owner(self) -> tuple[Any, str]:
        *parents, attribute = self.point.path.split(".")
        owner: Any = self.module
        for parent in parents:
            owner = getattr(owner, parent)
        return owner, attribute

    def put(self, patches: Iterable[_Patch] = ()) -> None:
        """Patch what stands there now; nothing where ours is still there, under somebody else's wrapper.

        :param patches: the instrumentation's others. Where one of them is seen here (inherited, or imported from its
            module by name) the call is traced already.
        """
        if self.placed:
            return
        owner, attribute = self._owner()
        raw = inspect.getattr_static(owner, attribute)
        for twin in patches:
            if twin.placed and twin.replacement is raw and twin.method == self.method:
                if attribute in vars(owner):
                    self.raw = self.before = twin.raw
                    self.replacement = raw
                    self.placed = True
                return
        if raw is not self.raw:
            self.replacement = self._make(owner, attribute, raw)
            self.raw = raw
        # Inherited attributes leave nothing behind.
        self.before = vars(owner).get(attribute, _ABSENT)
        setattr(owner, attribute, self.replacement)
        self.placed = True

    def _make(self, owner: Any, attribute: str, raw: Any) -> Any:
        # `type`, not `isinstance`: others' wrappers (wrapt's) pass for what they wrap.
        kind = type(raw) if issubclass(type(raw), (staticmethod, classmethod)) else None
        if kind is not None:
            function = raw.__func__
        elif isinstance(raw, (staticmethod, classmethod)):
            raise TypeError("a static or class method that somebody else has wrapped already")
        else:
            # Such a wrapper is asked by name: called as it stands in the class it wouldn't know its instance.
            function = raw if type(raw) is FunctionType else getattr(owner, attribute)
        if not callable(function):
            raise TypeError(f"{type(function).__name__} is not callable")
        replacement = self.replace(function, inspect.isclass(owner) and kind is not staticmethod)
        if replacement is function:
            return raw  # It wants nothing of it now.
        if type(replacement) is FunctionType and not hasattr(replacement, "__wrapped__"):
            functools.update_wrapper(replacement, function)  # for `inspect.signature` and pickling by name
        return replacement if kind is None else kind(replacement)

    def restore(self) -> None:
        """Put back what stood there, unless somebody has wrapped ours since: theirs would go with it."""
        if not self.placed:
            return
        owner, attribute = self._owner()
        if vars(owner).get(attribute) is not self.replacement:
            return
        self.placed = False
        if self.before is _ABSENT:
            delattr(owner, attribute)
        else:
            setattr(owner, attribute, self.before)
