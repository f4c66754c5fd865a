"""What is recorded of an exception's text: its message and stack trace, without credentials and literals."""

from __future__ import annotations

import re
import traceback

from otelagent.semconv.call import CallDescription
from otelagent.semconv.redaction import MAX_MESSAGE_LENGTH, MAX_STACKTRACE_LENGTH, cut, redact_text

__all__ = ["event_attributes", "message"]

# More of a chain's links are not looked at.
_MAX_LINKS = 100
_MAX_REMEMBERED = 256
# What a message quotes, to be looked for in the source lines of the stack trace; shorter ones stand in any line.
_QUOTED = re.compile(r"\"[^\"]*\"?|'[^']*'?|`[^`]*`?")
_MAX_QUOTED = 20
_MIN_LITERAL_LENGTH = 4

# What a description said of an exception, for the spans around its own: only the database's layer knows which words of
# "near 'secret'" are a literal. The text is part of the key, as an exception's id may be another's later; neither the
# exception nor its text is kept.
_remembered: dict[tuple[int, int], str] = {}


def message(error: BaseException, description: CallDescription | None) -> str:
    """What may be recorded of an exception's message."""
    return _replaced(_safe(error, description), _changed(error, description))


def event_attributes(error: BaseException, description: CallDescription | None) -> dict[str, str]:
    """The attributes of the event that records an exception.

    Source: semantic conventions, "Exceptions". Those and the escaped flag are as the SDK's `record_exception` has them.
    """
    changed = _changed(error, description)
    stacktrace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    stacktrace = cut(_replaced(stacktrace, changed), MAX_STACKTRACE_LENGTH, MAX_STACKTRACE_LENGTH // 2)
    module, name = type(error).__module__, type(error).__qualname__
    return {
        "exception.type": name if not module or module == "builtins" else f"{module}.{name}",
        "exception.message": _replaced(_safe(error, description), changed),
        "exception.stacktrace": redact_text(_without_lines(stacktrace, changed)),
        "exception.escaped": "False",
    }


def _safe(error: BaseException, description: CallDescription | None) -> str:
    raw = str(error)
    key = (id(error), hash(raw))
    if (known := _remembered.get(key)) is not None:
        return known
    described = raw if description is None else description.error_message(error)
    safe = redact_text(cut(described, MAX_MESSAGE_LENGTH))
    if described != raw:
        _remember(key, safe)
    return safe


def _remember(key: tuple[int, int], safe: str) -> None:
    _remembered[key] = safe
    while len(_remembered) > _MAX_REMEMBERED:
        try:
            _remembered.pop(next(iter(_remembered)), None)
        except (RuntimeError, StopIteration):
            pass  # Another thread does the same.


def _changed(error: BaseException, description: CallDescription | None) -> list[tuple[str, str]]:
    """The messages of the whole chain that aren't recorded as they are, and what is instead; the longest first."""
    changed: dict[str, str] = {}
    seen: set[int] = set()
    links: list[BaseException | None] = [error]
    while links and len(seen) < _MAX_LINKS:
        link = links.pop(0)
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        links += (link.__cause__, link.__context__)
        members = getattr(link, "exceptions", None)  # of a group
        if isinstance(members, tuple):
            links += [member for member in members[:_MAX_LINKS] if isinstance(member, BaseException)]
        try:
            raw, safe = str(link), _safe(link, description)
        except Exception:
            continue  # Python's own text for it is "<exception str() failed>".
        if raw and raw != safe:
            changed[raw] = safe
    return sorted(changed.items(), key=lambda pair: len(pair[0]), reverse=True)


def _replaced(text: str, changed: list[tuple[str, str]]) -> str:
    for raw, safe in changed:
        text = text.replace(raw, safe)
    return text


def _without_lines(stacktrace: str, changed: list[tuple[str, str]]) -> str:
    """The stack trace without what else of changed messages is in it: a group's are indented, so that none is found
    whole, and the application's own lines may hold the literal that a message quotes.
    """
    quoted = {
        value
        for raw, safe in changed
        for found in _QUOTED.findall(raw[:MAX_MESSAGE_LENGTH])[:_MAX_QUOTED]
        if len(value := found.strip("\"'`")) >= _MIN_LITERAL_LENGTH and value not in safe
    }
    gone = {line.strip() for raw, _ in changed for line in raw.splitlines()[1:]}
    gone |= {raw.partition("\n")[0].strip() for raw, _ in changed if "\n" in raw}
    gone -= {line.strip() for _, safe in changed for line in safe.splitlines()}
    gone.discard("")
    if not quoted and (not gone or "| " not in stacktrace):
        return stacktrace
    lines = []
    for line in stacktrace.splitlines(keepends=True):
        text = line.strip(" |+\n")
        first = text.partition(": ")[2]
        found = text if text in gone else first if first in gone else ""
        if found:
            line = line.replace(found, "?")
        if not text.startswith('File "'):
            for value in quoted:
                line = line.replace(value, "?")
        lines.append(line)
    return "".join(lines)
