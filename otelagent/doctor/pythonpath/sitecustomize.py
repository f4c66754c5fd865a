"""Puts the doctor's probe into every Python interpreter of a command, before otelagent's own ``sitecustomize``.

Any interpreter may meet this file, of another environment or as old as 2.7: only syntax that all of them know.
"""

import json
import os
import sys

_DIRECTORY = "OTELAGENT_INTERNAL_DOCTOR"


def _tell(problem):
    # type: (str) -> None
    # As `otelagent.doctor.journal` writes it, which isn't there.
    fact = {"fact": "without_agent", "pid": os.getpid(), "executable": sys.executable, "problem": problem}
    path = os.path.join(os.environ[_DIRECTORY], "%d-none.jsonl" % os.getpid())  # noqa: UP031
    with open(path, "w") as file:
        file.write(json.dumps(fact) + "\n")


def _start():
    # type: () -> None
    if sys.version_info < (3, 10):  # noqa: UP036
        _tell("otelagent needs Python 3.10 or newer")
        return
    try:
        from otelagent.doctor.probe import install
    except ImportError as error:
        _tell("otelagent is not installed for this interpreter (%s)" % error)  # noqa: UP031
        return
    install(os.environ[_DIRECTORY])


_here = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [_entry for _entry in sys.path if os.path.abspath(_entry) != _here]
try:
    if os.environ.get(_DIRECTORY):
        _start()
except Exception:  # whatever it is, it is no trouble of the application's
    pass
_self = sys.modules.pop(__name__, None)  # the name keeps Python 2 from clearing the module while it runs
__import__("sitecustomize")
