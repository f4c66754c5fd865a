"""``otelagent``: the commands for people, each in a module of its own that is imported when it is asked for."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from otelagent.standard_streams import open_missing

__all__ = ["main"]

# name -> (module with `main(arguments) -> exit code`, what it is for)
_COMMANDS = {
    "demo": ("otelagent.cli.demo", "a small shop, traced into the viewer and shown here"),
    "ui": ("otelagent.cli.ui", "the viewer: takes telemetry, shows traces in the browser"),
    "doctor": ("otelagent.cli.doctor", "why there are no traces: settings, destinations, an application's own run"),
    "spool": ("otelagent.cli.spool", "what waits on disk: list, replay, verify, purge"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command.

    :param arguments: without the program's name; the process's own by default.
    :returns: the exit code; 2 for a wrong command line.
    """
    open_missing()
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["--version"]:
        from otelagent.version import VERSION

        print(f"otelagent {VERSION}")
        return 0
    if words and words[0] in _COMMANDS:
        code: int = import_module(_COMMANDS[words[0]][0]).main(words[1:])
        return code
    lines = ["usage: otelagent command [arguments…]", ""]
    lines += [f"  {name:10}{purpose}" for name, (_, purpose) in _COMMANDS.items()]
    lines += ["", "otelagent-run runs an application with tracing in it."]
    asked = words[:1] in (["--help"], ["-h"])
    print("\n".join(lines), file=sys.stdout if asked else sys.stderr)
    return 0 if asked else 2


if __name__ == "__main__":
    sys.exit(main())
