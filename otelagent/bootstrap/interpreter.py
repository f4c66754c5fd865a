"""What a Python interpreter was told to run, read from its command line."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

__all__ = ["Program", "read_program"]

# Every other option letter of the interpreter takes no value.
_WITH_VALUE = "cmWX"

_INSTALLERS = frozenset(("pip", "ensurepip", "venv", "virtualenv"))
_INSTALLER_SCRIPT = re.compile(r"(pip(\d+(\.\d+)?)?|virtualenv|__pip-runner__\.py)")
_RESOURCE_TRACKER = re.compile(r"from \S*\bresource_tracker import ")
_OWN_COMMAND = re.compile(r"otelagent(-run)?")


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
        return self.kind == "script" and _INSTALLER_SCRIPT.fullmatch(os.path.basename(self.target)) is not None

    @property
    def is_helper(self) -> bool:
        """Whether it does another process's housekeeping and runs no code of the application.

        The fork server of multiprocessing runs none either, but what it forks does: started once there, the agent is in
        each of its children for nothing.
        """
        if self.kind == "code":
            return _RESOURCE_TRACKER.match(self.target) is not None
        if self.kind == "module":
            return self.target.partition(".")[0] == "otelagent"
        return self.kind == "script" and _OWN_COMMAND.fullmatch(os.path.basename(self.target)) is not None


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
