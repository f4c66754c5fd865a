"""Starts otelagent in every Python interpreter that finds this directory first on PYTHONPATH (`otelagent-run` does
that).

Python imports ``sitecustomize`` before the application. This one starts otelagent, takes its directory off this
process's ``sys.path`` (the environment keeps it, so that child interpreters are traced as well) and makes room for the
``sitecustomize`` that would have been found without it. It stands alone in its directory, so that nothing else becomes
importable by it.

Any interpreter may meet this file, of another environment or as old as 2.7: only syntax that all of them know.
"""

import os
import sys

_UNTRACED = "OTELAGENT_INTERNAL_UNTRACED"


def _report(problem):
    # type: (str) -> None
    # One line on stderr that says why this interpreter runs untraced; its children do not repeat the same line.
    quiet = os.environ.get("OTELAGENT_QUIET", "").strip().lower() in ("1", "true", "yes", "on")
    line = "otelagent: " + " ".join(problem.split())
    if quiet or os.environ.get(_UNTRACED) == line:
        return
    os.environ[_UNTRACED] = line
    try:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
    except Exception:  # no stderr, or a closed one: there is nobody to tell
        pass


def _start():
    # type: () -> None
    where = "%s (Python %d.%d) runs untraced" % (sys.executable, sys.version_info[0], sys.version_info[1])  # noqa: UP031
    if sys.version_info < (3, 10):  # noqa: UP036
        _report("needs Python 3.10 or newer; " + where)
        return
    try:
        from otelagent.bootstrap.start import start
    except ImportError as error:
        if error.name == "otelagent":
            python = os.environ.get("OTELAGENT_INTERNAL_PYTHON", "")
            other = python and ", or run the application with %s, which has it" % python  # noqa: UP031
            _report("not installed for this interpreter; %s; install it there%s" % (where, other))  # noqa: UP031
        else:
            _report("cannot be loaded (%s); %s" % (error, where))  # noqa: UP031
        return
    start(_report)


_here = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [_entry for _entry in sys.path if os.path.abspath(_entry) != _here]
try:
    _start()
except (Exception, SystemExit) as _error:  # an extension may call sys.exit; Ctrl-C stays the user's
    _report("failed to start (%s: %s); the application runs untraced" % (type(_error).__name__, _error))  # noqa: UP031

# With this module gone, the import finds the next one. Whatever that raises, "there is none" included, goes to Python's
# site module, which treats it as if the import had been its own.
_self = sys.modules.pop(__name__, None)  # the name keeps Python 2 from clearing the module while it runs
__import__("sitecustomize")
