"""A trace as one HTML file: the page itself, with the trace in it in place of the viewer behind it.

The page's modules become `data:` URLs, which an import map names; what they import relative to themselves is renamed to
match, because a `data:` URL has no place that something could be relative to.
"""

from __future__ import annotations

import base64
import hashlib
import json
import posixpath
import re
import sqlite3
from pathlib import Path
from typing import Any

from otelagent.viewer.store import detail

__all__ = ["MAX_SPANS", "page_of", "whole_trace"]

MAX_SPANS = 10_000
"""Spans whose details are in the file; those behind them are in the picture alone."""

_MAX_SIZE = 16 * 2**20
"""Characters of those details."""

_IMPORT = re.compile(r"""(\bfrom\s*|\bimport\s*)(["'])(\.{1,2}/[^"']+)\2""")
_ENTRY = "main.js"
_STYLE = re.compile(r"""<link rel="stylesheet" href="([^"]+)">""")


def whole_trace(connection: sqlite3.Connection, trace_id: bytes) -> dict[str, Any] | None:
    """Everything of a trace: what the page asks for it and for each of its spans; None if there is none."""
    trace = detail.trace(connection, trace_id)
    if trace is None:
        return None
    spans: dict[str, Any] = {}
    size = 0
    for span in trace["spans"]["id"][:MAX_SPANS]:
        found = detail.span(connection, trace_id, bytes.fromhex(span))
        size += len(json.dumps(found, ensure_ascii=False))
        if size > _MAX_SIZE:
            break
        spans[span] = found
    return {"trace": trace, "spans": spans}


def page_of(embedded: dict[str, Any], page: Path) -> str:
    """The file's text.

    :param embedded: see `whole_trace`.
    :param page: folder of the page's files.
    """
    modules = {name: _renamed(text, name) for name, text in _modules(page).items()}
    imports = {f"page/{name}": _data("text/javascript", text) for name, text in modules.items()}
    styles = "\n".join((page / name).read_text() for name in _STYLE.findall((page / "index.html").read_text()))
    # In a script element only "</" could end it early; "<!--" would begin something old.
    data = json.dumps(embedded, ensure_ascii=False).replace("<", "\\u003c")
    icon = _data("image/svg+xml", (page / "icon.svg").read_text())
    trace = embedded["trace"]["id"]
    names = json.dumps({"imports": imports})
    start = f'import "page/{_ENTRY}";'
    # What is in the file as it was made, and nothing from anywhere else.
    policy = (
        f"default-src 'none'; script-src {_hash(names)} {_hash(start)} data:; style-src {_hash(styles)}; img-src data:;"
        " base-uri 'none'; form-action 'none'"
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>Trace {trace}</title><link rel="icon" href="{icon}"><style>{styles}</style>
<script type="application/json" id="embedded">{data}</script>
<script type="importmap">{names}</script>
</head><body><div id="app"></div><script type="module">{start}</script></body></html>
"""


def _modules(page: Path) -> dict[str, str]:
    """The text of every module that the page needs, by its path in the page's folder."""
    found: dict[str, str] = {}
    wanted = [_ENTRY]
    while wanted:
        name = wanted.pop()
        if name in found:
            continue
        found[name] = (page / name).read_text()
        wanted += [_resolved(name, match[3]) for match in _IMPORT.finditer(found[name])]
    return found


def _renamed(text: str, name: str) -> str:
    return _IMPORT.sub(lambda match: f"{match[1]}{match[2]}page/{_resolved(name, match[3])}{match[2]}", text)


def _resolved(name: str, relative: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), relative))


def _hash(text: str) -> str:
    """Of an inline script or style, as a content security policy names it (CSP 3, "script-src")."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _data(media: str, text: str) -> str:
    return f"data:{media};base64,{base64.b64encode(text.encode()).decode()}"
