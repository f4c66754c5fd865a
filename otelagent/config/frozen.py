"""Frozen dataclasses that are cheap to define.

`dataclasses.dataclass(frozen=True)` compiles five functions for every class, 0.6 ms a class: 6 ms for the
configuration, paid by every process at start. Here nothing is compiled: the methods below serve every class. A type
checker sees the standard decorator, and `dataclasses.replace` and its like work.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from dataclasses import dataclass as section
else:
    _Class = TypeVar("_Class", bound=type)

    def section(*, frozen: bool, kw_only: bool) -> Any:
        """The decorator of one section of the configuration: frozen, made from keywords, compared by value."""
        assert (frozen, kw_only) == (True, True), "every section is"

        def decorate(cls: _Class) -> _Class:
            cls = dataclasses.dataclass(init=False, eq=False, repr=False, match_args=False)(cls)
            for method in (__init__, __setattr__, __delattr__, __eq__):
                setattr(cls, method.__name__, method)
            cls.__hash__ = None
            if "__repr__" not in cls.__dict__:
                cls.__repr__ = __repr__
            return cls

        return decorate


__all__ = ["section"]


def __init__(self: Any, **fields: object) -> None:
    expected = self.__dataclass_fields__
    if fields.keys() != expected.keys():
        raise TypeError(f"{type(self).__name__}: fields {sorted(fields.keys() ^ expected.keys())} missing or unknown")
    self.__dict__.update((name, fields[name]) for name in expected)


def __setattr__(self: Any, name: str, value: object) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def __delattr__(self: Any, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


def __eq__(self: Any, other: object) -> bool:
    return bool(self.__dict__ == other.__dict__) if type(self) is type(other) else NotImplemented


def __repr__(self: Any) -> str:
    return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__dict__.items())})"
