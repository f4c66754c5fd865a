"""Starts the agent in a Python interpreter on behalf of ``sitecustomize``, before the application's first line.

Imports next to nothing by itself: helper processes that are left alone pay for this module.
"""

from __future__ import annotations

import os
import sys

from otelagent.bootstrap import interpreter

TYPE_CHECKING = False  # see otelagent.bootstrap.interpreter
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ANNOUNCED", "DIRECTORY", "PYTHON", "UNTRACED", "start", "with_bootstrap", "without_bootstrap"]

DIRECTORY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pythonpath")
"""The directory whose ``sitecustomize`` starts otelagent."""

ANNOUNCED = "OTELAGENT_INTERNAL_ANNOUNCED"
"""The environment variable by which a process's children know that the start line has been printed."""

PYTHON = "OTELAGENT_INTERNAL_PYTHON"
"""The environment variable with the interpreter of `otelagent-run`, which has otelagent, see `sitecustomize`."""

UNTRACED = "OTELAGENT_INTERNAL_UNTRACED"
"""The environment variable with the line that told why a process runs untraced, see `sitecustomize`."""


def start(report: Callable[[str], None]) -> None:
    """Starts the agent where an application runs, and prints the start line in the first process of a tree.

    :param report: tells the user in one line why this interpreter runs untraced.
    """
    program = interpreter.read_program(sys.orig_argv[1:])
    if program.is_installer:
        os.environ["PYTHONPATH"] = without_bootstrap(os.environ.get("PYTHONPATH", ""))
        return
    if program.is_helper:
        return

    from otelagent import lifecycle
    from otelagent.config.settings import REFUSED_VARIABLE
    from otelagent.errors import ConfigError

    os.environ.pop(REFUSED_VARIABLE, None)  # the environment's of a parent: this one's may be right
    try:
        lifecycle.init()
    except ConfigError as error:
        os.environ[REFUSED_VARIABLE] = str(error)
        report(f"{error}; the application runs without telemetry")
        return
    _hand_on_name()
    if ANNOUNCED not in os.environ:
        os.environ[ANNOUNCED] = "1"
        line = lifecycle.startup_line()
        if line and sys.stderr is not None:
            try:
                sys.stderr.write(line + "\n")
                sys.stderr.flush()
            except OSError:  # a full disk: what it runs without is this line
                pass


def _hand_on_name() -> None:
    """Has the workers that this process spawns called as it is; other programs that it starts have their own names."""
    from otelagent.record.program import PARENT_VARIABLE, program_name

    name = program_name(sys.orig_argv, sys.argv, os.environ.get(PARENT_VARIABLE))
    if name:
        os.environ[PARENT_VARIABLE] = name
    else:
        os.environ.pop(PARENT_VARIABLE, None)


def with_bootstrap(pythonpath: str) -> str:
    """PYTHONPATH with otelagent's directory in front, once. Empty entries stay: each means the working directory."""
    rest = without_bootstrap(pythonpath)
    # An empty PYTHONPATH is none at all, but a separator before nothing would be the working directory.
    return DIRECTORY + os.pathsep + rest if rest or pythonpath.startswith(DIRECTORY + os.pathsep) else DIRECTORY


def without_bootstrap(pythonpath: str) -> str:
    """PYTHONPATH without otelagent's directory."""
    return os.pathsep.join(entry for entry in pythonpath.split(os.pathsep) if entry != DIRECTORY)
