"""What the list can be asked for, and as SQL: conditions on a trace's times, and on an attribute of its spans."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from otelagent.viewer.rows import RUNNING
from otelagent.viewer.store.members import zones_with
from otelagent.viewer.store.summaries import ZONE_BITS
from otelagent.viewer.store.words import lower

__all__ = ["AttributeFilter", "AttributePlaces", "Bounds", "TraceFilter", "attribute_filter", "id_list"]

_OPERATORS = ("!=", ">=", "<=", "=", ">", "<", "~")


@dataclass(frozen=True)
class AttributeFilter:
    """One condition on an attribute of any span of the trace, or of its resource.

    :param operator: ``=``, ``!=`` (it is there and another), ``>``, ``>=``, ``<``, ``<=``, ``~`` (contains), or empty
        for that it is there.
    """

    key: str
    operator: str
    value: str


def attribute_filter(text: str) -> AttributeFilter:
    """A condition as a person writes it: ``http.route=/items``, ``retries>2``, ``db.query.text~cart``, ``error.type``.

    :raises ValueError: it has no key.
    """
    found = re.match(r"\s*([^\s=!<>~]+)\s*(?:(!=|>=|<=|=|>|<|~)\s*(.*))?$", text, re.DOTALL)
    if found is None:
        raise ValueError(f"{text[:80]!r} is no condition: write key=value, key>number, key~part or key")
    return AttributeFilter(found[1], found[2] or "", (found[3] or "").strip())


@dataclass(frozen=True)
class TraceFilter:
    """What is asked; None and empty ask nothing. Times in nanoseconds since the epoch, durations in nanoseconds."""

    service: str = ""
    operation: str = ""
    error: bool = False
    min_ns: int | None = None
    max_ns: int | None = None
    from_ns: int | None = None
    to_ns: int | None = None
    text: str = ""
    attributes: tuple[AttributeFilter, ...] = ()

    @property
    def by_name(self) -> bool:
        """Whether candidates are found by names or words, not by going through all."""
        return bool(self.text or self.service or self.operation)


class Bounds:
    """What is asked of a trace's times and errors, as SQL; one that runs has taken the time until now.

    :param slowest: whether durations matter though none is asked for.
    :ivar took: a trace's duration.
    :ivar longest: of a zone: no trace in it has taken longer.
    :ivar of_trace: conditions on a trace.
    :ivar of_zone: what a zone has to be to hold such a trace.
    :ivar values: of both.
    """

    def __init__(self, connection: sqlite3.Connection, asked: TraceFilter, *, slowest: bool = False) -> None:
        self.took, self.longest = "end_ns - start_ns", "longest_ns"
        durations = slowest or asked.min_ns is not None or asked.max_ns is not None
        # Nothing runs, mostly, and then nothing has to be looked up for each trace.
        if durations and connection.execute(f"SELECT EXISTS ({_RUNS})").fetchone()[0]:
            self.took = (
                f"iif(EXISTS ({_RUNS} AND span.trace = trace.id), max(end_ns, {time.time_ns()}), end_ns) - start_ns"
            )
            here = f"span.trace BETWEEN zone.id << {ZONE_BITS} AND (zone.id << {ZONE_BITS}) + {2**ZONE_BITS - 1}"
            self.longest = f"iif(EXISTS ({_RUNS} AND {here}), {2**63 - 1}, longest_ns)"
        known = [
            (f"{self.took} >= ?", f"{self.longest} >= ?", asked.min_ns),
            (f"{self.took} <= ?", "shortest_ns <= ?", asked.max_ns),
            ("start_ns >= ?", "latest_ns >= ?", asked.from_ns),
            ("start_ns <= ?", "earliest_ns <= ?", asked.to_ns),
        ]
        errors = ["errors > 0"] * asked.error
        self.of_trace = [one for one, _, value in known if value is not None] + errors
        self.of_zone = [one for _, one, value in known if value is not None] + errors
        self.values: list[object] = [value for _, _, value in known if value is not None]


_RUNS = f"SELECT 1 FROM span INDEXED BY span_running WHERE span.duration_ns < 0 AND span.duration_ns = {RUNNING}"


class AttributePlaces:
    """A condition on an attribute, and where it may be fulfilled.

    :param until_s: of the monotonic clock, see `zones_with`.
    :ivar condition: on a span, with `values`.
    """

    def __init__(self, connection: sqlite3.Connection, asked: AttributeFilter, until_s: float) -> None:
        condition, self.values = _condition(asked)
        sql = f"SELECT id FROM resource WHERE {condition.format('resource')}"
        resources = [row[0] for row in connection.execute(sql, self.values)]
        self.condition = f"({condition.format('span')} OR resource IN ({id_list(resources)}))"
        self._zones: Callable[[int], bool] | None = None
        if not resources:
            value = asked.value if asked.operator == "=" else None
            self._zones = zones_with(connection, asked.key, value, until_s)

    def possible(self, zone: int) -> bool:
        """Whether a span in the zone may fulfil it."""
        return self._zones is None or self._zones(zone)


def _condition(asked: AttributeFilter) -> tuple[str, list[object]]:
    """SQL with ``{0}`` for the table. The key is looked for as text first, which is ten times faster than JSON."""
    path = "$." + json.dumps(asked.key, ensure_ascii=False)
    key = json.dumps(asked.key, ensure_ascii=False) + ":"
    there = "instr({0}.attributes, ?) > 0 AND json_type({0}.attributes, ?) IS NOT NULL"
    values: list[object] = [key, path]
    if not asked.operator:
        return there, values
    value = "json_extract({0}.attributes, ?)"
    if asked.operator == "~":
        return f"{there} AND instr(lower({value}), ?) > 0", [*values, path, lower(asked.value)]
    if asked.operator in ("=", "!="):
        # As text, so that 200 finds the number and the text, and true finds JSON's true, which SQL has as 1.
        text = "CASE json_type({0}.attributes, ?) WHEN 'true' THEN 'true' WHEN 'false' THEN 'false'"
        text += f" ELSE CAST({value} AS TEXT) END {asked.operator} ?"
        values += [path, path, asked.value]
        if asked.operator == "!=":
            return f"{there} AND {text}", values
        # Such a member is in the text as it is or in quotes, or nothing has to be read.
        here = "(instr({0}.attributes, ?) > 0 OR instr({0}.attributes, ?) > 0)"
        quoted = key + json.dumps(asked.value, ensure_ascii=False)
        return f"{here} AND {there} AND {text}", [key + asked.value, quoted, *values]
    try:
        number = float(asked.value)
    except ValueError:
        return "0", []
    return f"{there} AND typeof({value}) != 'text' AND {value} {asked.operator} ?", [*values, path, path, number]


def id_list(numbers: Sequence[int]) -> str:
    """As SQL has it in ``IN (…)``."""
    return ", ".join(map(str, numbers))
