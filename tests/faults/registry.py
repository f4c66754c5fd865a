"""The faults, as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import Any, TypeAlias

from tests.faults.bench import Bench

__all__ = ["Case", "Fault", "fault", "load"]

MODULES = ("answers", "outages", "disk", "restarts", "input", "extension", "processes", "servers")
"""Where the faults are."""

Run: TypeAlias = Callable[..., None]


@dataclass(frozen=True)
class Case:
    """One way in which the fault happens.

    :param name: empty if it is the only one.
    :param idle: it mostly waits, so that it may run beside any number of others.
    """

    name: str
    run: Callable[[Bench], None]
    idle: bool


@dataclass
class Fault:
    """:param stock: why it doesn't apply to the stock SDK; empty if it does."""

    number: int
    title: str = ""
    stock: str = ""
    cases: list[Case] = field(default_factory=list)


_faults: dict[int, Fault] = {}


def fault(
    number: int, title: str = "", *, cases: Mapping[str, Any] | None = None, stock: str = "", idle: bool = False
) -> Callable[[Run], Run]:
    """Adds the decorated function to the faults, see the package's documentation."""

    def add(run: Run) -> Run:
        one = _faults.setdefault(number, Fault(number))
        one.title, one.stock = title or one.title, stock or one.stock
        if cases is None:
            one.cases.append(Case("", run, idle))
        else:
            one.cases += [Case(name, partial(_with, run, value), idle) for name, value in cases.items()]
        return run

    return add


def _with(run: Run, value: object, bench: Bench) -> None:
    run(bench, value)


def load() -> list[Fault]:
    """All of them by number."""
    for module in MODULES:
        import_module(f"tests.faults.{module}")
    return [_faults[number] for number in sorted(_faults)]
