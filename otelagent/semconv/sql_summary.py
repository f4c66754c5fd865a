"""The operations and targets of SQL statements, gathered token by token into ``db.query.summary``.

Operations are given in upper case, so that one query has one name however it is typed; targets as written.
"""

from __future__ import annotations

__all__ = ["MAX_SUMMARY_LENGTH", "Summary"]

#: Source: semantic conventions, "Generating a summary of the query".
MAX_SUMMARY_LENGTH = 255

_QUERIES = frozenset(("SELECT", "INSERT", "UPDATE", "DELETE", "MERGE"))
_PREFIXES = frozenset(("WITH", "EXPLAIN"))
_DDL = frozenset(("CREATE", "ALTER", "DROP"))
_DDL_KINDS = frozenset(
    (
        "TABLE",
        "VIEW",
        "INDEX",
        "TRIGGER",
        "SEQUENCE",
        "SCHEMA",
        "DATABASE",
        "FUNCTION",
        "PROCEDURE",
        "TYPE",
        "EXTENSION",
        "ROLE",
        "USER",
    )
)
# Statements whose first name is their target.
_TARGETED = frozenset(
    (
        "TRUNCATE",
        "CALL",
        "EXEC",
        "EXECUTE",
        "COPY",
        "PRAGMA",
        "ANALYZE",
        "VACUUM",
        "REINDEX",
        "USE",
    )
)
_ON_TABLES = frozenset(
    (
        "TRUNCATE",
        "COPY",
        "ANALYZE",
        "VACUUM",
    )
)
# Between an operation and its target.
_FILLERS = frozenset(
    (
        "ONLY",
        "LATERAL",
        "TABLE",
        "IF",
        "NOT",
        "EXISTS",
        "IGNORE",
        "LOW_PRIORITY",
        "HIGH_PRIORITY",
        "DELAYED",
        "QUICK",
        "OR",
        "REPLACE",
        "ROLLBACK",
        "ABORT",
        "FAIL",
        "CONCURRENTLY",
        "INTO",
        "OVERWRITE",
        "VERBOSE",
        "FULL",
    )
)
_CLAUSES = frozenset(
    (
        "WHERE",
        "GROUP",
        "ORDER",
        "HAVING",
        "LIMIT",
        "OFFSET",
        "FETCH",
        "WINDOW",
        "UNION",
        "INTERSECT",
        "EXCEPT",
        "SET",
        "VALUES",
        "RETURNING",
        "FOR",
        "WHEN",
        "DEFAULT",
    )
)


class _Level:
    """What is known inside one pair of parentheses.

    :ivar operation: of the query it holds; only a query's FROM names tables.
    :ivar tables: a list of tables is under way, in which a comma announces another.
    """

    __slots__ = ("operation", "tables")

    def __init__(self, operation: str, tables: bool) -> None:
        self.operation = operation
        self.tables = tables


class Summary:
    """Is told of every significant token of a text, in order."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._operations: list[str] = []
        self._targets: list[str] = []
        self._tables_only = True
        self._defined: set[str] = set()  # names of common table expressions
        self._begin()

    def _begin(self) -> None:
        self._levels = [_Level("", False)]
        self._first = ""  # the statement's first keyword
        self._main = False  # its operation is known
        self._expect = False  # a target comes next
        self._dotted = False  # the last name goes on after a dot
        self._last = ""
        self._captured = False  # the last token ended a target
        self._ddl = False

    def text(self) -> str:
        """The summary, cut between words."""
        kept: list[str] = []
        length = -1
        for part in self._parts:
            length += len(part) + 1
            if length > MAX_SUMMARY_LENGTH:
                break
            kept.append(part)
        return " ".join(kept)

    def operation(self) -> str | None:
        """The operation of all statements, if it is the same."""
        return self._operations[0] if len(set(self._operations)) == 1 else None

    def collection(self) -> str | None:
        """The table of all statements, if it is one."""
        one = self._tables_only and len(set(self._targets)) == 1 and not self._defined
        return self._targets[0] if one and self.operation() is not None else None

    @property
    def expects(self) -> bool:
        """Whether a target's name comes next."""
        return self._expect

    @property
    def lists_columns(self) -> bool:
        """Whether a parenthesis that opens here is the columns of the statement's target."""
        return self._captured and self._levels[-1].operation in ("INSERT", "REPLACE", "CREATE")

    def literal(self) -> None:
        """A literal or parameter stood here."""
        if self._expect:
            self._tables_only = False  # a table that isn't named
        self._expect = self._captured = self._dotted = False
        self._last = "?"

    def punctuation(self, mark: str) -> None:
        """An operator or mark, mostly of one character."""
        levels = self._levels
        if mark == "." and self._captured:
            self._dotted = True
            return
        if mark == ";":
            self._begin()
            return
        if mark == "(":
            if self._captured and levels[-1].tables:
                self._tables_only = False  # a function that gives rows
            self._expect = self._expect and self._last != "USING"  # USING (column) of a join
            levels.append(_Level("", self._expect))
        elif mark == ")":
            self._expect = False
            if len(levels) > 1:
                levels.pop()
        else:
            self._expect = mark == "," and levels[-1].tables
        self._captured = self._dotted = False
        self._last = mark

    def word(self, value: str, upper: str) -> None:
        """A keyword or name, quoted or not; `upper` is a quoted one's own text."""
        last, self._last = self._last, upper
        if self._dotted:
            if len(self._parts[-1]) < MAX_SUMMARY_LENGTH:
                self._parts[-1] += "." + value
                self._targets[-1] += "." + value
            self._dotted = False
            return
        self._captured = False
        if last == ".":
            return
        if not self._first:
            self._start(upper)
        elif upper in _QUERIES and self._is_operation(upper, last):
            self._operate(upper)
        elif self._expect:
            if upper in _CLAUSES:
                self._expect = self._levels[-1].tables = False  # FROM (VALUES ...
            elif upper not in _FILLERS:
                self._target(value)
        else:
            self._keyword(upper, last)

    def _start(self, upper: str) -> None:
        self._first = upper
        if upper == "WITH":
            return
        self._operate(upper, main=True)
        self._main = upper not in _PREFIXES
        self._ddl = upper in _DDL
        if upper in _TARGETED:
            self._expect = True
            self._levels[-1].tables = upper == "TRUNCATE"
            self._tables_only = self._tables_only and upper in _ON_TABLES

    def _is_operation(self, upper: str, last: str) -> bool:
        if upper == "SELECT" or last == "(":
            return True
        return len(self._levels) == 1 and not self._main

    def _operate(self, upper: str, *, main: bool = False) -> None:
        if main or (len(self._levels) == 1 and not self._main):
            self._main = True
            if self._first != "EXPLAIN" or main:
                self._operations.append(upper)
        self._parts.append(upper)
        level = self._levels[-1]
        level.operation, level.tables = upper, upper == "UPDATE"
        self._expect = upper in ("UPDATE", "REPLACE", "MERGE", "INSERT")
        self._ddl = False

    def _kind(self, upper: str) -> None:
        self._parts[-1] += f" {upper}"
        self._expect = True
        self._levels[-1].tables = self._first == "DROP"
        if upper not in ("TABLE", "VIEW"):
            self._tables_only = False

    def _target(self, value: str) -> None:
        self._expect = False
        if value.upper() in self._defined:
            return
        self._parts.append(value)
        self._targets.append(value)
        self._captured = True

    def _keyword(self, upper: str, last: str) -> None:
        level = self._levels[-1]
        if upper == "FROM":
            if level.operation and last != "DISTINCT":
                self._expect = level.tables = True
        elif upper in ("JOIN", "STRAIGHT_JOIN"):
            self._expect = level.tables = True
        elif upper == "INTO":
            self._expect, level.tables = True, False
        elif upper == "USING" and level.operation in ("MERGE", "DELETE"):
            self._expect = level.tables = True
        elif upper in _CLAUSES:
            level.tables = False
        elif self._ddl and upper in _DDL_KINDS and self._parts[-1] == self._first:
            self._kind(upper)
        elif self._first == "WITH" and not self._main and self._defines(upper, last):
            self._defined.add(upper)

    def _defines(self, upper: str, last: str) -> bool:
        return len(self._levels) == 1 and last in ("WITH", "RECURSIVE", ",") and upper != "RECURSIVE"
