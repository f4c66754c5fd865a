"""What a Python interpreter was told to run, read from its command line."""

from __future__ import annotations

import os

TYPE_CHECKING = False  # typing and collections are more than a process that is left alone has to import
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Program", "read_program"]

# Every other option letter of the interpreter takes no value.
_WITH_VALUE = "cmWX"

_INSTALLERS = frozenset(("pip", "ensurepip", "venv", "virtualenv", "__pip-runner__.py"))
_OWN_COMMANDS = frozenset(("otelagent", "otelagent-run"))


class Program:
    """What the interpreter runs.

    :param kind: ``module`` (``-m``), ``code`` (``-c``), ``script`` (a path) or ``stdin`` (that, or a prompt, or
        embedded).
    :param target: the module's name, the code, the path; empty for ``stdin``.
    :param flags: the interpreter's option letters that take no value, in order.
    """

    __slots__ = ("flags", "kind", "target")

    def __init__(self, kind: str, target: str, flags: str) -> None:
        self.kind = kind
        self.target = target
        self.flags = flags

    @property
    def is_installer(self) -> bool:
        """Whether it installs packages or makes an environment: neither it nor what it starts is an application."""
        if self.kind == "module":
            return self.target.partition(".")[0] in _INSTALLERS
        # pip, pip3, pip3.11
        return self.kind == "script" and os.path.basename(self.target).rstrip("0123456789.") in _INSTALLERS

    @property
    def is_helper(self) -> bool:
        """Whether it does another process's housekeeping and runs no code of the application.

        The fork server of multiprocessing runs none either, but what it forks does: started once there, the agent is in
        each of its children for nothing.
        """
        if self.kind == "code":
            statement = self.target.partition(";")[0]
            return statement.startswith("from ") and statement.endswith("resource_tracker import main")
        if self.kind == "module":
            return self.target.partition(".")[0] == "otelagent"
        return self.kind == "script" and os.path.basename(self.target) in _OWN_COMMANDS


def read_program(words: Sequence[str]) -> Program:
    """The program in an interpreter's command line.

    :param words: what follows the interpreter's name, as in ``sys.orig_argv[1:]``.
    """
    flags = ""
    rest = iter(words)
    for word in rest:
        if word == "--check-hash-based-pycs":
            next(rest, None)
        elif word == "-":
            return Program("stdin", "", flags)
        elif word == "--":
            target = next(rest, None)
            return Program("stdin", "", flags) if target is None else Program("script", target, flags)
        elif word.startswith("-"):
            for position, letter in enumerate("" if word.startswith("--") else word[1:], 2):
                if letter not in _WITH_VALUE:
                    flags += letter
                    continue
                value = word[position:] or next(rest, "")
                if letter in "cm":
                    return Program("code" if letter == "c" else "module", value, flags)
                break
        else:
            return Program("script", word, flags)
    return Program("stdin", "", flags)
