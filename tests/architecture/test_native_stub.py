"""The stub of the native engine is its documentation: it says of everything public what it is."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

STUB = Path(__file__).parents[2] / "native/python/otelagent_native/_otelagent_native.pyi"

Documented = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def public(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, Documented]]:
    for node in body:
        if isinstance(node, Documented) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, f"{node.name}.")


def test_every_public_class_function_and_method_has_a_docstring() -> None:
    found = dict(public(ast.parse(STUB.read_text()).body))
    assert {"Span", "Span.set_attribute", "Recorder.drain"} <= found.keys()
    assert [name for name, node in found.items() if not ast.get_docstring(node)] == []
