"""Applying and undoing: by identity, twice, in either order, and with other people's wrappers above and below."""

from __future__ import annotations

import importlib
import inspect
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
import wrapt

from otelagent.patching import Call, Instrumentation, hook, replace
from otelagent.semconv.call import Internal
from tests.instrumentation.capture import Spans
from tests.unit.patching.conftest import Library

M = "target_library"
PATHS = ("function", "coroutine", "generator", "async_generator", "sqrt", "CType")
METHODS = ("method", "async_method", "static", "cls")


class Library_(Instrumentation):
    name = M

    @hook(M, "function")
    @hook(M, "coroutine")
    @hook(M, "generator")
    @hook(M, "async_generator")
    @hook(M, "sqrt")
    @hook(M, "Parent.method")
    @hook(M, "Parent.async_method")
    @hook(M, "Parent.static")
    @hook(M, "Parent.cls")
    @hook(M, "Child.method")
    @hook(M, "Child.static")
    def call(self, call: Call) -> Internal:
        return Internal("call")

    @replace(M, "CType")
    def factory(self, original: Any) -> Any:
        return lambda *args: original(*args)


def snapshot(module: Any) -> dict[str, Any]:
    """Everything that is patched, as it stands in its own namespace."""
    return {
        **{path: getattr(module, path) for path in PATHS},
        **{f"Parent.{name}": inspect.getattr_static(module.Parent, name) for name in METHODS},
        **{f"Child.{name}": vars(module.Child).get(name) for name in METHODS},
    }


def test_undo_restores_identity(library: Library, spans: Spans) -> None:
    module = library()
    before = snapshot(module)
    instrumentation = Library_("0")
    for _ in range(3):
        instrumentation.apply()
        instrumentation.apply()
        applied = snapshot(module)
        assert {name for name in before if applied[name] is before[name]} == {"Child.async_method", "Child.cls"}
        instrumentation.undo()
        instrumentation.undo()
        assert snapshot(module) == before
    module.function(1)
    assert spans.names() == []


def test_undone_before_the_import(library: Library, spans: Spans) -> None:
    instrumentation = Library_("0")
    instrumentation.apply()
    instrumentation.undo()
    module = library()
    module.function(1)
    assert not hasattr(module.function, "__wrapped__")
    instrumentation.apply()
    module.function(1)
    assert spans.names() == ["call"]
    instrumentation.undo()
    assert not hasattr(module.function, "__wrapped__")


def test_a_wrapper_put_over_ours_stays(library: Library, spans: Spans) -> None:
    module = library()
    original = module.function
    instrumentation = Library_("0")
    instrumentation.apply()
    ours = module.function
    calls = []

    def theirs(*args: Any) -> Any:
        calls.append(args)
        return ours(*args)

    module.function = theirs
    instrumentation.undo()
    assert module.function is theirs
    assert module.function(1) == (1, 0)
    assert (calls, spans.names()) == ([(1,)], [])

    instrumentation.apply()
    assert module.function is theirs
    module.function(2)
    assert (len(calls), spans.names()) == (2, ["call"])

    module.function = ours
    instrumentation.undo()
    assert module.function is original


def test_a_wrapper_put_there_while_off_is_wrapped(library: Library, spans: Spans) -> None:
    module = library()
    instrumentation = Library_("0")
    instrumentation.apply()
    instrumentation.undo()
    calls = []
    original = module.function

    def theirs(*args: Any) -> Any:
        calls.append(args)
        return original(*args)

    module.function = theirs
    instrumentation.apply()
    module.function(1)
    assert (calls, spans.names()) == ([(1,)], ["call"])
    instrumentation.undo()
    assert module.function is theirs


def test_a_wrapper_that_was_there_before(library: Library, spans: Spans) -> None:
    module = library()
    seen = []

    def wrapper(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        seen.append((instance, args))
        return wrapped(*args, **kwargs)

    wrapt.wrap_function_wrapper(module, "Parent.method", wrapper)
    theirs = inspect.getattr_static(module.Parent, "method")
    instrumentation = Library_("0")
    instrumentation.apply()
    parent, child = module.Parent(), module.Child()
    parent.method(1)
    child.method(2)
    # `Child.method` is hooked as well, over whatever it inherits.
    assert seen == [(parent, (1,)), (child, (2,))]
    assert set(spans.names()) == {"call"}
    instrumentation.undo()
    assert inspect.getattr_static(module.Parent, "method") is theirs


def test_two_on_one_point_undone_in_either_order(library: Library, spans: Spans) -> None:
    for reverse in (True, False):
        module = library()
        original = module.function
        both = [Library_("0"), Library_("0")]
        for instrumentation in both:
            instrumentation.apply()
        spans.clear()
        module.function(1)
        assert spans.names() == ["call", "call"]
        for instrumentation in both[::-1] if reverse else both:
            instrumentation.undo()
        spans.clear()
        module.function(1)
        assert spans.names() == []
        if reverse:
            assert module.function is original


def test_on_says_whether_it_is_applied(library: Library) -> None:
    instrumentation = Library_("0")
    states = [instrumentation.on]
    for change in (instrumentation.apply, instrumentation.undo):
        change()
        states.append(instrumentation.on)
    assert states == [False, True, False]


class Impossible(Instrumentation):
    name = M

    @hook("datetime", "datetime.now")
    def immutable(self, call: Call) -> None:
        """An extension type takes no attribute."""

    @hook(M, "Parent.missing")
    def missing(self, call: Call) -> None:
        """Not there."""

    @hook(M, "Parent.__doc__")
    def no_function(self, call: Call) -> None:
        """Not callable."""

    @hook(M, "function")
    def possible(self, call: Call) -> Internal:
        """The others go on."""
        return Internal("call")

    @replace(M, "coroutine")
    def raising(self, original: Any) -> Any:
        """A replacement that can't be made."""
        raise RuntimeError("no replacement")


def test_what_cannot_be_patched_is_said_and_breaks_no_import(
    library: Library, spans: Spans, caplog: pytest.LogCaptureFixture
) -> None:
    instrumentation = Impossible("0")
    with caplog.at_level(logging.WARNING):
        instrumentation.apply()
        module = library()
        module.function(1)
    assert spans.names() == ["call"]
    assert instrumentation.failure is not None
    assert [record.getMessage() for record in caplog.records] == [
        "target_library is not instrumented at datetime:datetime.now",
        "target_library is not instrumented at target_library:Parent.missing",
        "target_library is not instrumented at target_library:Parent.__doc__",
        "target_library is not instrumented at target_library:coroutine",
    ]
    instrumentation.undo()
    assert not hasattr(module.function, "__wrapped__")


class Optional_(Instrumentation):
    name = M

    @hook(M, "Gone.method", optional=True)
    @hook(M, "gone", optional=True)
    def call(self, call: Call) -> None:
        """Absent in some versions."""


def test_what_is_optional_may_be_absent(library: Library, caplog: pytest.LogCaptureFixture) -> None:
    instrumentation = Optional_("0")
    instrumentation.apply()
    library()
    assert instrumentation.failure is None
    assert caplog.records == []
    instrumentation.undo()


def test_points_are_data() -> None:
    assert {(point.module, point.path, method) for point, method in Optional_.points()} == {
        (M, "Gone.method", "call"),
        (M, "gone", "call"),
    }


def test_a_replacement_passes_for_the_original(library: Library) -> None:
    class Replacing(Instrumentation):
        name = M

        @replace(M, "function")
        def function(self, original: Any) -> Any:
            def other(*args: Any, **kwargs: Any) -> Any:
                return original(*args, **kwargs)

            return other

    module = library()
    signature = inspect.signature(module.function)
    instrumentation = Replacing("0")
    instrumentation.apply()
    assert inspect.signature(module.function) == signature
    assert module.function.__qualname__ == "function"
    instrumentation.undo()


class Twice(Instrumentation):
    name = M

    @hook("copying_library", "sqrt")
    @hook(M, "Child.method")
    @hook(M, "sqrt")
    @hook(M, "Parent.method")
    def call(self, call: Call) -> Internal:
        return Internal("call")


@pytest.mark.parametrize("when", ["copied before", "copied after"])
def test_what_is_inherited_or_imported_by_name_is_traced_once(
    when: str, library: Library, spans: Spans, tmp_path: Path
) -> None:
    (tmp_path / "copying_library.py").write_text("from target_library import sqrt\n")
    module = library()
    original = module.sqrt, module.Parent.method
    instrumentation = Twice("0")
    try:
        if when == "copied before":
            importlib.import_module("copying_library")
        instrumentation.apply()
        copying: Any = importlib.import_module("copying_library")
        for _ in range(2):
            for call in (copying.sqrt, module.sqrt, module.Child().method, module.Parent().method):
                spans.clear()
                call(1)
                assert spans.names() == ["call"]
            instrumentation.undo()
            assert copying.sqrt is module.sqrt is original[0]
            assert (module.Parent.method, "method" in vars(module.Child)) == (original[1], False)
            instrumentation.apply()
    finally:
        instrumentation.undo()
        sys.modules.pop("copying_library", None)
