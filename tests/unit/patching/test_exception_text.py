"""No credential and no literal reaches a span through an exception's text."""

from __future__ import annotations

import builtins
import gc
import sys
import time
import weakref
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan

import otelagent
from otelagent.patching import Operation, exception_text
from otelagent.semconv.call import CallDescription, Internal
from otelagent.semconv.db import Peer, Query
from tests.instrumentation.capture import Spans

URL = "Max retries exceeded with url: /p?token=SECRET123&x=1 (Caused by http://me:SECRET@shop/)"


def recorded(span: ReadableSpan) -> str:
    """All text of a span that an exception may have given."""
    return f"{span.status.description} {[dict(event.attributes or {}) for event in span.events]}"


def raised(spans: Spans, error: BaseException, *descriptions: CallDescription) -> list[ReadableSpan]:
    """The spans of these calls, the inner first, that `error` left one after the other."""
    for description in descriptions:
        operation = Operation().begin(spans.tracer, description)
        operation.raised(error)
        operation.end()
    return spans.all()


def caught(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as raised_:
        return raised_


def query(text: str = "SELECT a FROM t WHERE b = ?") -> Query:
    return Query(Peer("sqlite"), text)


def test_a_credential_in_a_url_is_redacted_in_message_stack_trace_and_status(spans: Spans) -> None:
    (span,) = raised(spans, caught(ConnectionError(URL)), Internal("call"))
    text = recorded(span)
    assert "SECRET" not in text
    assert text.count("/p?token=REDACTED&x=1") == 3
    assert dict(span.events[0].attributes or {})["exception.type"] == "ConnectionError"


def test_a_span_of_the_application_redacts_as_well(spans: Spans) -> None:
    @otelagent.instrument
    def decorated() -> None:
        with otelagent.span("block"):
            raise ValueError(URL)

    with pytest.raises(ValueError):
        decorated()
    assert len(spans.all()) == 2
    for span in spans.all():
        # The source line names the variable, not its value.
        assert "SECRET" not in recorded(span)
        assert "REDACTED" in recorded(span)


def test_a_cause_is_redacted_too(spans: Spans) -> None:
    try:
        raise RuntimeError("outer") from ValueError(URL)
    except RuntimeError as error:
        (span,) = raised(spans, error, Internal("call"))
    assert "SECRET" not in recorded(span)


def test_a_literal_that_the_database_span_redacts_stays_away_from_the_spans_around_it(spans: Spans) -> None:
    error = caught(LookupError('unrecognized token: "\'topsecretliteral"'))
    inner, outer = raised(spans, error, query(), Internal("request"))
    for span in (inner, outer):
        assert "topsecret" not in recorded(span)
        assert span.status.description == 'unrecognized token: "?"'


def test_an_exception_that_wraps_the_databases_repeats_nothing(spans: Spans) -> None:
    error = caught(LookupError('unrecognized token: "\'topsecretliteral"'))
    try:
        raise RuntimeError(f"(driver) {error} [see docs]") from error
    except RuntimeError as wrapped:
        raised(spans, error, query())
        outer = raised(spans, wrapped, Internal("request"))[-1]
    assert outer.status.description == '(driver) unrecognized token: "?" [see docs]'
    assert "topsecret" not in recorded(outer)


def test_another_exception_with_the_same_text_is_not_the_databases(spans: Spans) -> None:
    first, second = caught(LookupError("near 'mine'")), caught(LookupError("near 'mine'"))
    _, outer = [*raised(spans, first, query()), *raised(spans, second, Internal("request"))][-2:]
    assert outer.status.description == "near 'mine'"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="there are no groups")
def test_a_group_shows_no_literal_of_its_members(spans: Spans) -> None:
    member = caught(LookupError("duplicate key\nDETAIL: Key (email)=(topsecret@b.c) already exists."))
    raised(spans, member, query())
    group: Any = getattr(builtins, "ExceptionGroup")  # noqa: B009
    outer = raised(spans, caught(group("several", [member])), Internal("request"))[-1]
    assert "topsecret" not in recorded(outer)


def test_what_is_remembered_keeps_no_exception_and_has_a_bound(spans: Spans) -> None:
    class Error(Exception):
        pass

    error = Error("near 'topsecret'")
    gone = weakref.ref(error)
    raised(spans, error, query())
    del error
    gc.collect()
    assert gone() is None
    assert not any("topsecret" in text for text in exception_text._remembered.values())
    raised(spans, Error("near 'x'"), *[query() for _ in range(3)])
    for number in range(400):
        exception_text.message(Error(f"near '{number}'"), query())
    assert len(exception_text._remembered) <= 256


def test_an_exception_with_slots_or_a_text_that_fails_in_its_chain_is_recorded(spans: Spans) -> None:
    class Mute(Exception):
        __slots__ = ()

        def __str__(self) -> str:
            raise RuntimeError("no text")

    try:
        raise ValueError(URL) from Mute()
    except ValueError as error:
        (span,) = raised(spans, error, Internal("call"))
    assert "SECRET" not in recorded(span)
    assert "REDACTED" in recorded(span)


@pytest.mark.parametrize("piece", ["?token=x ", "'a'", "//a:b@", "contains (", "x", '"', "\n"])
@pytest.mark.parametrize("description", [Internal("call"), query()])
def test_a_huge_message_is_bounded_in_time_and_size(spans: Spans, piece: str, description: CallDescription) -> None:
    error = caught(ValueError(piece * (2_000_000 // len(piece))))
    start = time.thread_time()
    (span,) = raised(spans, error, description)
    assert time.thread_time() - start < 3
    assert len(span.status.description or "") < 20_000
    assert len(str(dict(span.events[0].attributes or {})["exception.stacktrace"])) < 150_000
