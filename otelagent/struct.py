"""Frozen dataclasses that are cheap to define.

`dataclasses.dataclass(frozen=True)` compiles five functions for every class, 0.6 ms a class, and its module imports
`inspect`, 5 ms: paid by every process at start. Here nothing is compiled and nothing imported: the methods below serve
every class. A type checker sees the standard decorator, and `dataclasses.replace` and its like work.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing's own costs an import
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from dataclasses import dataclass as struct
    from typing import Any, TypeVar

    _Class = TypeVar("_Class", bound=type)
else:

    def struct(*, frozen: bool, kw_only: bool = False) -> Callable[[_Class], _Class]:
        """The decorator of a frozen class whose annotations are its fields, compared and shown by value.

        Subclasses don't inherit fields. A default is shared by all instances.

        :param frozen: true; said for the type checker.
        :param kw_only: an instance is made from keywords only.
        """
        assert frozen, "every struct is"

        def decorate(cls: _Class) -> _Class:
            names = tuple(cls.__annotations__)
            cls._fields = names
            cls._positional = () if kw_only else names
            cls._defaults = {name: cls.__dict__[name] for name in names if name in cls.__dict__}
            cls.__dataclass_fields__ = _DataclassFields()
            cls.__match_args__ = cls._positional
            for method in (__init__, __setattr__, __delattr__, __eq__, __hash__, __repr__):
                if method.__name__ == "__repr__" and "__repr__" in cls.__dict__:
                    continue
                setattr(cls, method.__name__, method)
            return cls

        return decorate


__all__ = ["struct"]


def __init__(self: Any, *args: object, **values: object) -> None:
    if args:
        if len(args) > len(self._positional):
            raise TypeError(f"{type(self).__name__}: at most {len(self._positional)} positional values")
        given = dict(zip(self._positional, args))  # noqa: B905 - checked
        if twice := given.keys() & values.keys():
            raise TypeError(f"{type(self).__name__}: fields {sorted(twice)} given twice")
        values.update(given)
    fields: dict[str, object] = {**self._defaults, **values}
    if len(fields) != len(self._fields) or fields.keys() != set(self._fields):
        raise TypeError(f"{type(self).__name__}: fields {sorted(fields.keys() ^ set(self._fields))} missing or unknown")
    self.__dict__.update((name, fields[name]) for name in self._fields)


def __setattr__(self: Any, name: str, value: object) -> None:
    raise _frozen()(f"cannot assign to field {name!r}")


def __delattr__(self: Any, name: str) -> None:
    raise _frozen()(f"cannot delete field {name!r}")


def __eq__(self: Any, other: object) -> bool:
    return bool(self.__dict__ == other.__dict__) if type(self) is type(other) else NotImplemented


def __hash__(self: Any) -> int:
    return hash(tuple(self.__dict__.values()))


def __repr__(self: Any) -> str:
    return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__dict__.items())})"


def _frozen() -> type[AttributeError]:
    from dataclasses import FrozenInstanceError

    return FrozenInstanceError


class _DataclassFields:
    """What the functions of `dataclasses` look for in a class, made when one of them does; without defaults."""

    def __get__(self, instance: object, owner: Any) -> Mapping[str, Any]:
        import dataclasses

        fields: Any = [(name, owner.__annotations__[name], dataclasses.field(kw_only=True)) for name in owner._fields]
        made: Mapping[str, Any] = dataclasses.make_dataclass(owner.__name__, fields).__dataclass_fields__  # type: ignore[attr-defined]
        owner.__dataclass_fields__ = made
        return made
