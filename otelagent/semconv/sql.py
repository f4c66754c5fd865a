"""SQL text: what may be recorded of it, and what it does to what.

Not a parser: one pass over tokens, linear in the length of the text, which never fails. Where the text is malformed or
ambiguous it gives less, never a literal.

Source: https://opentelemetry.io/docs/specs/semconv/db/database-spans/ ("Sanitization of db.query.text", "Generating a
summary of the query")
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from otelagent.semconv.sql_summary import Summary

__all__ = ["MAX_QUERY_LENGTH", "Statement", "analyse"]

#: Characters of a statement that are looked at; what comes after is replaced by ``...``.
MAX_QUERY_LENGTH = 8192
# Longer statements are analysed each time, so the cache holds at most twice this many characters for each entry.
_CACHED_LENGTH = 2048
_CACHED_STATEMENTS = 512

# Every quoted form ends at its quote or at the end of the text, so that no alternative fails after a long run and the
# engine never backtracks. E'' and the backslash dialects escape with a backslash as well as by doubling.
_DOUBLED = r"[^{0}]*(?:{0}{0}[^{0}]*)*{0}?"
_BACKSLASH = r"[^{0}\\]*(?:(?:\\.?|{0}{0})[^{0}\\]*)*{0}?"
_PLAIN_STRING = "(?:[bBxXnN]|[uU]&)?'" + _DOUBLED.format("'")
_ESCAPE_STRING = "[eE]'" + _BACKSLASH.format("'")

_TOKENS = r"""
  (?P<space>\s+)
| (?P<comment>{comment})
| (?P<block>/\*)
| (?P<string>{string})
| (?P<quoted>{quoted}|`{backtick}|\[[^\W\d][\w\ ]*\])
| (?P<dollar>\$(?:[^\W\d]\w*)?\$)
| (?P<param>\?\d*|%\([^()'"]{{1,64}}\)[sbt]|%[sbt](?!\w)|:\w+|\$\w+|@@?\w+)
| (?P<number>(?:\d\w*(?:\.\w*)?|\.\d\w*)(?:(?<=[eE])[+-]\d+)?)
| (?P<word>[^\W\d][\w$]*)
| (?P<op>::|.)
"""


def _compile(comment: str, string: str, quoted: str) -> re.Pattern[str]:
    pattern = _TOKENS.format(comment=comment, string=string, quoted=quoted, backtick=_DOUBLED.format("`"))
    return re.compile(pattern, re.VERBOSE | re.DOTALL)


@dataclass(frozen=True)
class _Dialect:
    """What of the syntax depends on the database.

    :ivar tokens: the token pattern.
    :ivar nested_comments: block comments nest.
    :ivar lenient_quotes: a double-quoted name that is no name is taken as a string, or which of the two isn't known:
        it stays only where nothing but a name may stand.
    :ivar doubtful_backslash: whether a backslash escapes the quote after it isn't known.
    """

    tokens: re.Pattern[str]
    nested_comments: bool = True
    lenient_quotes: bool = False
    doubtful_backslash: bool = False


_STANDARD = _compile(r"--[^\n]*", f"{_ESCAPE_STRING}|{_PLAIN_STRING}", '"' + _DOUBLED.format('"'))
_MYSQL = _compile(
    r"--(?=\s|\Z)[^\n]*|\#[^\n]*",
    "(?:[bBxXnN])?'" + _BACKSLASH.format("'") + '|"' + _BACKSLASH.format('"'),
    r"(?!)",
)
_DIALECTS = {
    "mysql": _Dialect(_MYSQL, nested_comments=False),
    "mariadb": _Dialect(_MYSQL, nested_comments=False),
    "sqlite": _Dialect(_STANDARD, nested_comments=False, lenient_quotes=True),
    "postgresql": _Dialect(_STANDARD),
    "microsoft.sql_server": _Dialect(_STANDARD),
    "oracle.db": _Dialect(_STANDARD, nested_comments=False),
}
_UNKNOWN = _Dialect(_STANDARD, lenient_quotes=True, doubtful_backslash=True)

_COMMENT_EDGE = re.compile(r"/\*|\*/")
# What only a name may follow. FROM, JOIN, INTO, UPDATE and TABLE are the summary's, which tells a query's FROM from
# the one in `TRIM(x FROM y)`.
_NAME_BEFORE = frozenset((".", "AS", "REFERENCES", "CONSTRAINT", "COLUMN"))
_ASSIGNED = re.compile(r"\s*=")
_AFTER_SET = frozenset(("WHERE", "FROM", "RETURNING", "SELECT", "VALUES", "ORDER", "LIMIT"))
_BOOLEANS = frozenset(("TRUE", "FALSE"))
# SQLite's encryption extensions take their key in these, quoted or not.
_KEY_PRAGMAS = frozenset(("KEY", "REKEY", "HEXKEY", "HEXREKEY", "TEXTKEY", "TEXTREKEY"))


@dataclass(frozen=True, slots=True)
class Statement:
    """What is known of a statement.

    :ivar text: the statement without literals and comments, white space collapsed; ends in ``...`` where it was cut.
    :ivar summary: ``db.query.summary``, at most 255 characters; empty when nothing was understood.
    :ivar operation: upper-case keyword of the one operation; of ``WITH``, the main statement's. ``None`` when there are
        several statements of different kinds.
    :ivar collection: the one table, as written, when there is exactly one.
    """

    text: str
    summary: str
    operation: str | None
    collection: str | None


def analyse(text: str, system: str = "") -> Statement:
    """What is known of the SQL `text`.

    :param text: one or more statements; parameters in any of the DB-API's styles.
    :param system: ``db.system.name``, for the syntax that depends on it. Unknown ones get the cautious reading.
    """
    if len(text) <= _CACHED_LENGTH:
        return _cached(text, system)
    return _analyse(text, system)


def _analyse(text: str, system: str) -> Statement:
    dialect = _DIALECTS.get(system, _UNKNOWN)
    cut = len(text) > MAX_QUERY_LENGTH
    scan = _Scan(text[:MAX_QUERY_LENGTH], dialect, cut)
    if scan.rewind is not None:
        # A quote that never closes: any quote before it may be the wrong one, so nothing after the first counts.
        scan = _Scan(text[: scan.rewind], dialect, cut, tail="?")
    summary = scan.summary
    return Statement("".join(scan.out).strip(), summary.text(), summary.operation(), summary.collection())


_cached = functools.lru_cache(_CACHED_STATEMENTS)(_analyse)


class _Scan:
    """One pass over a statement.

    :ivar out: pieces of the sanitised text.
    :ivar rewind: where the first quoted token began, when one of them never ends.
    """

    def __init__(self, text: str, dialect: _Dialect, cut: bool, tail: str = "") -> None:
        self.out: list[str] = []
        self.summary = Summary()
        self.rewind: int | None = None
        self._run(text, dialect, cut)
        if tail:
            self.out.append(f" {tail}")
        if cut:
            self.out.append("...")

    def _run(self, text: str, dialect: _Dialect, cut: bool) -> None:
        out, summary, match = self.out, self.summary, dialect.tokens.match
        position, end = 0, len(text)
        first_quote: int | None = None
        space = False
        before = ""  # the significant token before, upper-case
        parens: list[_Paren] = []
        assigning = -1  # how many parentheses are open around the SET clause that is under way
        while position < end:
            token = match(text, position)
            assert token is not None  # the last alternative takes any character
            kind, value, start = token.lastgroup, token.group(), position
            position = token.end()
            if kind in ("space", "comment", "block"):
                space = True
                if kind == "block":
                    position = _comment_end(text, position, dialect.nested_comments)
                continue
            if space and out:
                out.append(" ")
            space = False
            if kind in ("string", "quoted", "dollar"):
                first_quote = start if first_quote is None else first_quote
                if kind == "dollar":
                    closing = text.find(value, position)
                    position = end if closing < 0 else closing + len(value)
                    open_ended = closing < 0
                else:
                    open_ended = position == end and not _closed(value, dialect)
                if open_ended:
                    if not cut:
                        self.rewind = first_quote
                    out.append("?")
                    return
                if kind == "quoted" and dialect.lenient_quotes and value[0] == '"':
                    named = summary.expects or before in _NAME_BEFORE or text[position : position + 1] == "."
                    listed = bool(parens) and parens[-1].columns and before in ("(", ",")
                    assigned = before == "SET" or (before == "," and assigning == len(parens))
                    if not (named or listed or (assigned and _ASSIGNED.match(text, position))):
                        kind = "string"
                if kind != "quoted":
                    out.append("?")
                    doubtful = dialect.doubtful_backslash and "\\" in value
                    if doubtful or (position < end and _is_word(text[position])):
                        return  # a quote within a string that wasn't escaped: the rest can't be told apart
                    before = "?"
                    summary.literal()
                    continue
            if kind == "number":
                out.append("?")
                before = "?"
                summary.literal()
            elif kind == "param":
                out.append(value)
                before = "?"
                summary.literal()
            elif kind == "op":
                out.append(value)
                if value == "(":
                    if parens:
                        parens[-1].plain = False
                    parens.append(_Paren(len(out), before == "IN", summary.lists_columns))
                elif value == ")" and parens:
                    paren = parens.pop()
                    if paren.plain and len(out) > paren.start + 1:
                        del out[paren.start :]
                        out.append("?)")
                elif parens and value not in ",+-":
                    parens[-1].plain = False
                if value == ";":
                    assigning = -1
                before = value
                summary.punctuation(value)
            else:
                if parens:
                    parens[-1].plain = False
                upper = value.upper() if kind == "word" else value
                if upper in _BOOLEANS:
                    out.append("?")
                    before = "?"
                    summary.literal()
                    continue
                out.append(value)
                summary.word(value, upper)
                if before == "PRAGMA" and upper in _KEY_PRAGMAS:
                    out.append(" ?")
                    return
                if upper == "SET":
                    assigning = len(parens)
                elif upper in _AFTER_SET:
                    assigning = -1
                before = upper


class _Paren:
    """An open parenthesis.

    :ivar start: the index of the first piece inside.
    :ivar plain: it is an IN list, so far of values only.
    :ivar columns: it is a statement's list of columns.
    """

    __slots__ = ("columns", "plain", "start")

    def __init__(self, start: int, plain: bool, columns: bool) -> None:
        self.start = start
        self.plain = plain
        self.columns = columns


def _closed(token: str, dialect: _Dialect) -> bool:
    """Whether a quoted token that reaches the end of the text ends with its quote."""
    if token[0] == "[":
        return True
    quote = token[0] if token[0] in '"`' else "'"
    opening = token.index(quote)
    if token[-1] != quote or opening == len(token) - 1:
        return False
    body = token[opening + 1 : -1]
    if token[0] in "eE" or (dialect.tokens is _MYSQL and quote != "`"):
        body = re.sub(r"\\.", "", body, flags=re.DOTALL)
        if body.endswith("\\"):
            return False
    # An even number of quotes inside are escapes; with an odd one the last belongs to them.
    return body.count(quote) % 2 == 0


def _comment_end(text: str, position: int, nested: bool) -> int:
    """Where a block comment ends whose opening is before `position`; the end of the text when it doesn't."""
    if not nested:
        closing = text.find("*/", position)
        return len(text) if closing < 0 else closing + 2
    depth = 1
    for edge in _COMMENT_EDGE.finditer(text, position):
        depth += 1 if edge.group() == "/*" else -1
        if depth == 0:
            return edge.end()
    return len(text)


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"
