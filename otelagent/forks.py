"""What the agent does around a fork, also around one that Python isn't told of.

`os.fork` runs the functions of `os.register_at_fork`. uWSGI forks its workers past Python, which then runs none of
them: the worker would go on with its master's identity, its waiting spans, its sequence of random ids, and locks and
threads that only the master has. Whoever notices such a fork calls `catch_up` in the child.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # typing's own costs an import
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["at_fork", "catch_up", "choose_heir", "inherits"]

_in_child: list[Callable[[], object]] = []
_pid = os.getpid()
_is_heir: Callable[[], bool] | None = None


def at_fork(
    *,
    before: Callable[[], object] | None = None,
    in_parent: Callable[[], object] | None = None,
    in_child: Callable[[], object] | None = None,
) -> None:
    """Registers functions for the life of the process, as `os.register_at_fork` does.

    :param before: called before the fork; what was registered last is called first.
    :param in_parent: called after it in the parent, in the order of registration.
    :param in_child: called after it in the child, in the order of registration.
    """
    if not hasattr(os, "register_at_fork"):
        return
    given = {"before": before, "after_in_parent": in_parent, "after_in_child": in_child}
    os.register_at_fork(**{when: function for when, function in given.items() if function is not None})
    if in_child is not None:
        _in_child.append(in_child)


def catch_up() -> None:
    """Runs what was to be run in this child, if it hasn't been."""
    if os.getpid() != _pid:
        for function in tuple(_in_child):
            function()


def choose_heir(chosen: Callable[[], bool]) -> None:
    """Has one child deliver what waits in its parent, which will do nothing more.

    :param chosen: whether it is this child; asked when the child starts over.
    """
    global _is_heir
    _is_heir = chosen


def inherits() -> bool:
    """Whether this child, while it starts over, takes over what waits in its parent."""
    return _is_heir is not None and _is_heir()


def _note() -> None:
    global _pid
    _pid = os.getpid()


at_fork(in_child=_note)
