"""The settings as a Markdown table: ``python -m otelagent.config.table [--check FILE | --write FILE]``.

Without an option it prints the table. With one it compares or replaces what is in FILE between the lines
``<!-- settings:begin -->`` and ``<!-- settings:end -->``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from otelagent.config.mask import display
from otelagent.config.settings import SETTINGS, Setting

__all__ = ["main", "markdown", "replaced"]

BEGIN, END = "<!-- settings:begin -->", "<!-- settings:end -->"


def markdown() -> str:
    """The table, one line a setting, with a line break at the end."""
    rows = [
        "| Keyword | Environment variables, the strongest first | Default | What it says |",
        "|---|---|---|---|",
        *(_row(setting) for setting in SETTINGS),
    ]
    return "\n".join(rows) + "\n"


def replaced(document: str) -> str:
    """A document with the current table between its markers. Raises ValueError when it has none."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no {BEGIN} followed by {END}")
    return f"{before}{BEGIN}\n\n{markdown()}\n{END}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns 1 when a checked file holds another table, 2 when it has no place for one."""
    parser = argparse.ArgumentParser(prog="python -m otelagent.config.table", description="The table of settings.")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", metavar="FILE", type=Path, help="fail unless FILE holds the current table")
    what.add_argument("--write", metavar="FILE", type=Path, help="put the current table into FILE")
    options = parser.parse_args(arguments)
    file: Path | None = options.check or options.write
    if file is None:
        sys.stdout.write(markdown())
        return 0
    document = file.read_text(encoding="utf-8")
    try:
        current = replaced(document)
    except ValueError as error:
        print(f"{file}: {error}", file=sys.stderr)
        return 2
    if options.write:
        file.write_text(current, encoding="utf-8")
    elif current != document:
        print(f"{file}: the table of settings is out of date; --write {file} renews it", file=sys.stderr)
        return 1
    return 0


def _row(setting: Setting) -> str:
    variables = "<br>".join(f"`{name}`" for name in (setting.variable, *setting.otel))
    if setting.inverted:
        variables += " (the opposite)"
    meaning = setting.help
    if setting.choices:
        meaning += f" One of {', '.join(f'`{choice}`' for choice in setting.choices)}."
    return f"| `{setting.name}` | {variables} | {_default(setting)} | {meaning} |".replace("\n", " ")


def _default(setting: Setting) -> str:
    if setting.default_text:
        return setting.default_text
    if setting.default is None or setting.default in ((), {}):
        return ""
    shown = f"`{display(setting.kind, setting.default).replace(', ', ',')}`"
    return f"{shown} {setting.unit}" if setting.unit in ("ms", "bytes", "bytes/s") else shown


if __name__ == "__main__":
    sys.exit(main())
