"""Text for a terminal: nothing in it is a command to it, and it is as wide as it looks."""

from __future__ import annotations

import unicodedata

__all__ = ["clip", "duration_text", "pad", "printable", "width"]


def printable(text: str) -> str:
    """The text on one line, with everything escaped that a terminal could take for a command or that hides in it.

    Runs of white space become one space. What Unicode has as control, format (which turns the direction of text),
    surrogate, unassigned or separator becomes an escape as in Python's source.
    """
    joined = " ".join(text.split())
    if joined.isprintable():
        return joined
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in joined)


def width(text: str) -> int:
    """How many columns a terminal takes for printable text: two for what is wide, none for what combines.

    Source: Unicode Standard Annex 11, "East Asian Width".
    """
    if text.isascii():
        return len(text)
    return sum(_width(one) for one in text)


def _width(one: str) -> int:
    if unicodedata.combining(one) or unicodedata.category(one) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(one) in "WF" else 1


def clip(text: str, columns: int, ellipsis: str = "…") -> str:
    """The text in so many columns at most, with an ellipsis where something is left out."""
    if width(text) <= columns:
        return text
    room = columns - len(ellipsis)
    if room < 0:
        return ""
    kept = []
    for one in text:
        room -= _width(one)
        if room < 0:
            break
        kept.append(one)
    return "".join(kept) + ellipsis


def pad(text: str, columns: int) -> str:
    """The text with spaces behind it up to so many columns."""
    return text + " " * max(columns - width(text), 0)


def duration_text(nanoseconds: int) -> str:
    """A duration in a unit that a person reads, with about three digits."""
    milliseconds = nanoseconds / 1e6
    for below, text in ((0.995, f"{milliseconds:.2f} ms"), (9.95, f"{milliseconds:.1f} ms")):
        if milliseconds < below:
            return text
    if milliseconds < 999.5:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    for below, text in ((9.995, f"{seconds:.2f} s"), (59.95, f"{seconds:.1f} s")):
        if seconds < below:
            return text
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} m {rest:02} s"
