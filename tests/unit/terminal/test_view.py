"""What requests look like on a terminal."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelagent.terminal import LocalTraces, Style, draw_json, draw_line, draw_tree, show
from otelagent.terminal.text import clip, duration_text, printable, width
from tests.unit.terminal.requests import TRACE, Request, spans_of

WIDE = Style(unicode=True, columns=100)
MINUS_CLOCK = slice(12, None)  # a line begins with the local time


def order() -> Request:
    """An order that fails after ten queries, over two services."""
    request = Request()
    for number in range(10):
        request.span(
            "SELECT prices",
            10 + number,
            3,
            at_ms=40 + 4 * number,
            took_ms=3,
            service="inventory",
            kind="CLIENT",
            db__query__text="SELECT price\n  FROM prices WHERE sku = ?",
        )
    request.span("render", 30, 3, at_ms=85, took_ms=2, service="inventory", exception=("ValueError", "'ask us'"))
    request.span(
        "GET /prices",
        3,
        2,
        at_ms=30,
        took_ms=60,
        service="inventory",
        kind="SERVER",
        remote=True,
        failed=True,
        http__response__status_code=500,
    )
    request.span(
        "GET", 2, 1, at_ms=10, took_ms=90, kind="CLIENT", url__full="http://inventory:8001/prices", failed=True
    )
    return request.span(
        "POST /orders", 1, at_ms=0, took_ms=812.4, kind="SERVER", failed=True, http__response__status_code=502
    )


def drawn(text: str) -> str:
    """A picture, as it is written in a test."""
    return textwrap.dedent(text).strip("\n") + "\n"


def test_a_tree_over_two_services() -> None:
    assert draw_tree(order().spans(), WIDE) == drawn("""
        shop: POST /orders [server] 502                                          ━━━━━━━━━━━━━━━━     812 ms
        └─ GET [client]  http://inventory:8001/prices                            ━━                    90 ms
           └─ inventory: GET /prices [server] 500                                ━━                    60 ms
              ├─ SELECT prices \u00d710 [client]  SELECT price FROM prices WHERE sku… ━━                    30 ms
              └─ render                                                           ━                   2.0 ms
                      ValueError: 'ask us'
    """)


def test_in_ascii_and_narrow_without_bars() -> None:
    assert draw_tree(order().spans(), Style(columns=60)) == drawn("""
        shop: POST /orders [server] 502                       812 ms
        `- GET [client]  http://inventory:8001/prices          90 ms
           `- inventory: GET /prices [server] 500              60 ms
              |- SELECT prices x10 [client]  SELECT pri...     30 ms
              `- render                                       2.0 ms
                      ValueError: 'ask us'
    """)


def test_what_is_repeated_with_what_is_below_it_is_folded_with_it() -> None:
    request = Request()
    for number in range(4):
        request.span("SELECT prices", 20 + number, 10 + number, at_ms=number)
        request.span("price of one", 10 + number, 1, at_ms=number, took_ms=2)
    assert draw_tree(request.span("list", 1, took_ms=6).spans(), Style(columns=40)) == drawn("""
        shop: list                        6.0 ms
        `- price of one x4                8.0 ms
           `- SELECT prices x4            4.0 ms
    """)


def test_ids_that_make_no_tree_hide_nothing() -> None:
    request = Request()
    request.span("one", 1, 2).span("other", 2, 1).span("itself", 3, 3).span("orphan", 4, 99).span("twice", 4, 99)
    text = draw_tree(request.spans(), Style(columns=60))
    assert len(text.splitlines()) == 5
    for name in ("one", "other", "itself", "orphan", "twice"):
        assert name in text


def test_a_very_deep_and_a_very_long_trace() -> None:
    deep = Request()
    for number in range(2, 5000):
        deep.span("deeper", number, number - 1)
    text = draw_tree(deep.span("root", 1).spans(), Style(columns=80))
    assert text.splitlines()[-1] == "... 4,939 more spans"
    assert max(map(len, text.splitlines())) <= 80
    long = draw_tree(spans_of(*(f"step {number}" for number in range(100))), Style(columns=80))
    assert len(long.splitlines()) == 61


def lines(request: Request, mode: str = "lines", style: Style = Style()) -> list[str]:  # noqa: B008
    return show(mode, LocalTraces().take(request.spans()), style)


def test_a_line() -> None:
    request = Request().span("SELECT prices", 2, 1, took_ms=0.2, failed=True)
    request.span("GET /prices", 1, kind="SERVER", at_ms=7, took_ms=12.34, http__response__status_code=200)
    (line,) = lines(request)
    assert line[MINUS_CLOCK] == "      12 ms  shop  GET /prices  ok 200  2 spans, 1 error  4f3a9c21\n"
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.007", line[:12])


def test_a_request_without_a_route_is_told_by_its_path() -> None:
    (line,) = lines(Request().span("GET", 1, kind="SERVER", url__path="/nowhere", http__response__status_code=404))
    assert line[MINUS_CLOCK] == "     1.0 ms  shop  GET /nowhere  ok 404  1 span  4f3a9c21\n"


def test_trees_are_for_what_failed_and_what_was_slow() -> None:
    request = Request()
    request.span("quick", 1, took_ms=499.9, trace=b"a" * 16).span("slow", 2, took_ms=500, trace=b"b" * 16)
    request.span("below", 4, 3, took_ms=0.5, failed=True, trace=b"c" * 16).span("parent", 3, trace=b"c" * 16)
    texts = {len(text.splitlines()) for text in lines(request, "tree")}
    assert sorted(len(text.splitlines()) for text in lines(request, "tree")) == [1, 2, 3], texts
    assert [len(text.splitlines()) for text in lines(request, "lines")] == [1, 1, 1]


def test_on_a_terminal_a_line_is_one_line() -> None:
    style = Style(colour=True, unicode=True, columns=80, clipped=True)
    (line,) = lines(Request().span("a name that is far too long for a terminal " * 5, 1), style=style)
    plain = re.sub(r"\x1b\[[\d;]*m", "", line)
    assert len(plain) <= 81
    assert "…  ok  1 span  4f3a9c21" in plain


def test_json() -> None:
    (trace,) = LocalTraces().take(order().span("late", 99, 98).spans())[1:]
    assert json.loads(draw_json(trace)) == {
        "time": "2023-11-14T22:13:20.000Z",
        "trace_id": TRACE.hex(),
        "span_id": "0000000000000001",
        "service": "shop",
        "name": "POST /orders",
        "title": "POST /orders",
        "kind": "server",
        "status": "error",
        "http_status": 502,
        "duration_ms": 812.4,
        "spans": 2,
        "errors": 2,
        "error": None,
        "late": False,
    }


def test_the_fields_of_json_are_in_the_document() -> None:
    document = (Path(__file__).parents[3] / "docs" / "terminal.md").read_text()
    rows = re.findall(r"^\| (`.*?) \|", document.partition("| field | is |")[2], re.MULTILINE)
    (encoded,) = lines(Request().span("GET /", 1), "json")
    assert re.findall(r"`(\w+)`", " ".join(rows)) == list(json.loads(encoded))


def test_json_has_the_title_of_the_line_and_a_status_that_is_a_number() -> None:
    request = Request().span("GET", 1, kind="SERVER", url__path="/nowhere", http__response__status_code="nonsense")
    (line,), (encoded,) = lines(request), lines(request, "json")
    about = json.loads(encoded)
    assert (about["name"], about["title"], about["http_status"]) == ("GET", "GET /nowhere", None)
    assert about["title"] in line
    (encoded,) = lines(Request().span("GET /", 1, kind="SERVER", http__response__status_code="404"), "json")
    assert json.loads(encoded)["http_status"] == 404


@given(
    name=st.text(max_size=400),
    service=st.text(max_size=50),
    text=st.text(max_size=400),
    columns=st.integers(40, 200),
    unicode=st.booleans(),
)
def test_no_text_of_the_application_commands_the_terminal(
    name: str, service: str, text: str, columns: int, unicode: bool
) -> None:
    request = Request()
    request.span(name, 2, 1, service=service, kind="CLIENT", db__query__text=text, exception=(text, name))
    request.span(name, 1, service=service, http__response__status_code=text)
    style = Style(unicode=unicode, columns=columns, clipped=True)
    (trace,) = LocalTraces().take(request.spans())
    for drawing, most in ((draw_line(trace, style), 10_000), (draw_tree(trace.spans, style), columns)):
        assert drawing.endswith("\n")
        for line in drawing[:-1].split("\n"):
            assert line.isprintable()
            assert width(line) <= most
    assert draw_line(trace, style).count("\n") == 1
    encoded = draw_json(trace)
    assert encoded.isascii()
    assert encoded[:-1].isprintable()
    assert json.loads(encoded)["service"] == service


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("a\u202eb\u2066c", r"a\u202eb\u2066c"),
        ("SELECT 1\r\n   FROM x\t;", "SELECT 1 FROM x ;"),
        ("\x9b31m", r"\x9b31m"),
        ("東京", "東京"),
        ("\ud800", r"\ud800"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_wide_and_combining_characters_have_their_width() -> None:
    assert [width(text) for text in ("abc", "東京", "e\u0301", "🚀")] == [3, 4, 1, 2]
    assert clip("東京都庁", 5) == "東京…"
    assert clip("東京", 4) == "東京"


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0.00 ms"),
        (994_999, "0.99 ms"),
        (995_000, "1.0 ms"),
        (9_960_000, "10 ms"),
        (999_400_000, "999 ms"),
        (999_600_000, "1.00 s"),
        (12_340_000_000, "12.3 s"),
        (59_960_000_000, "1 m 00 s"),
        (3_725_000_000_000, "62 m 05 s"),
    ],
)
def test_durations(nanoseconds: int, text: str) -> None:
    assert duration_text(nanoseconds) == text
