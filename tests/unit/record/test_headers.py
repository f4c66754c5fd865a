"""The text of propagation headers: the same table for the codec in Python and the native engine's."""

from __future__ import annotations

import time
from importlib import import_module
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from otelagent.record import headers
from otelagent.record.headers import Codec
from tests.support import native_or_skip

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"
IDS = (int(TRACE, 16), int(SPAN, 16))
B3 = f"{TRACE}-{SPAN}-1"


def native_codec() -> Codec:
    native_or_skip()
    return cast("Codec", import_module("otelagent_native"))


@pytest.fixture(params=["python", "native"])
def codec(request: pytest.FixtureRequest) -> Codec:
    return headers if request.param == "python" else native_codec()


def briefly(value: object) -> str:
    return repr(value)[:40]


@pytest.mark.parametrize(
    ("header", "flags"),
    [
        (PARENT, 1),
        (f" \t{PARENT}\t ", 1),
        (f"01-{TRACE}-{SPAN}-01", 1),
        (f"01-{TRACE}-{SPAN}-01-", 1),
        (f"01-{TRACE}-{SPAN}-01-later,\tmore", 1),
        (f"cc-{TRACE}-{SPAN}-01-" + "x" * 456, 1),
        (f"00-{TRACE}-{SPAN}-00", 0),
        (f"00-{TRACE}-{SPAN}-02", 2),
        (f"00-{TRACE}-{SPAN}-ff", 3),
        (f"00-{TRACE}-{SPAN}-80", 0),
    ],
    ids=briefly,
)
def test_a_traceparent(codec: Codec, header: str, flags: int) -> None:
    assert codec.parse_traceparent(header) == (*IDS, flags)


HOSTILE_PARENTS: list[Any] = [
    "",
    "garbage",
    PARENT.upper(),
    f"ff-{TRACE}-{SPAN}-01",
    f"0-{TRACE}-{SPAN}-01",
    f"00-{'0' * 32}-{SPAN}-01",
    f"00-{TRACE}-{'0' * 16}-01",
    f"00-{TRACE}-{SPAN}-1",
    f"00-{TRACE}-{SPAN}",
    f"00-{TRACE}-{SPAN}-01-extra",
    f"00-{TRACE}-{SPAN}-01-",
    f"00-{TRACE}-{SPAN}-01.extra",
    f"01-{TRACE}-{SPAN}-01.extra",
    f"01-{TRACE}-{SPAN}-01-\0",
    f"01-{TRACE}-{SPAN}-01-ü",
    f"cc-{TRACE}-{SPAN}-01-" + "x" * 457,
    f"{PARENT}\n",
    f"{PARENT}\0",
    f"\xa0{PARENT}",
    f"{PARENT},{PARENT}",
    PARENT + " " * 1_000_000,
    PARENT + "x" * 1_000_000,
    "ü" * 1_000_000,
    f"01-{TRACE}-{SPAN}-01-" + "x" * 1_000_000,
    "0" * 1_000_000,
    "\u0660\u0660-" + PARENT[3:],
    "\ud800",
    None,
    7,
    PARENT.encode(),
]


@pytest.mark.parametrize("header", HOSTILE_PARENTS, ids=briefly)
def test_what_is_no_traceparent(codec: Codec, header: Any) -> None:
    started_s = time.perf_counter()
    assert codec.parse_traceparent(header) is None
    assert time.perf_counter() - started_s < 0.1


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], {}),
        (["a=1,b=2"], {"a": "1", "b": "2"}),
        (["a=1", "b=2"], {"a": "1", "b": "2"}),
        (["a=1 ,\t b=2", "", ",,"], {"a": "1", "b": "2"}),
        (["a= 1"], {"a": " 1"}),
        # Level 2: digits first, @ anywhere but first, 256 characters.
        (["1a=1"], {"1a": "1"}),
        (["foo@=1,foo@bar=2,a@b@c=3"], {"foo@": "1", "foo@bar": "2", "a@b@c": "3"}),
        ([f"{'a' * 256}=1"], {"a" * 256: "1"}),
        ([f"{'t' * 241}@{'v' * 14}=1"], {f"{'t' * 241}@{'v' * 14}": "1"}),
        # Duplicates: one stays.
        (["a=1,b=2,a=3"], {"a": "1", "b": "2"}),
        (["a=1", "a=2"], {"a": "1"}),
        ([f"a={'v' * 256}"], {"a": "v" * 256}),
        ([",".join(f"k{number}=1" for number in range(32))], {f"k{number}": "1" for number in range(32)}),
        ([",".join(f"k{number % 32}=1" for number in range(99))], {f"k{number}": "1" for number in range(32)}),
        (["," * 8189 + "a=1"], {"a": "1"}),
        (["," * 4000, "," * 4188 + "a=1"], {"a": "1"}),
        # Malformed: none of it.
        (["," * 8190 + "a=1"], {}),
        (["," * 4000, "," * 4189 + "a=1"], {}),
        ([",".join(f"k{number}=1" for number in range(33))], {}),
        (["@a=1"], {}),
        ([f"{'a' * 257}=1"], {}),
        ([f"a={'v' * 257}"], {}),
        (["A=1"], {}),
        (["a=1,b"], {}),
        (["a=1,=2"], {}),
        (["a=1,="], {}),
        (["a=1=2"], {}),
        (["a="], {}),
        (["a= "], {}),
        (["a=\0"], {}),
        (["a=ü"], {}),
        (["a=\ud800"], {}),
        (["a b=1"], {}),
        (["a=1\n"], {}),
        (["a=1", None], {}),
        (["a=1", b"b=1"], {}),
        ([f"a=1,b={'v' * 9000}"], {}),
        (["a=1"] * 10_000, {}),
        (["," * 1_000_000], {}),
        (["ü" * 1_000_000], {}),
    ],
    ids=briefly,
)
def test_tracestate(codec: Codec, values: list[str], expected: dict[str, str]) -> None:
    started_s = time.perf_counter()
    assert list(codec.parse_tracestate(values).items()) == list(expected.items())
    assert time.perf_counter() - started_s < 0.1


@pytest.mark.parametrize(
    ("header", "flags"),
    [
        (B3, 1),
        (f"{TRACE}-{SPAN}-0", 0),
        (f"{TRACE}-{SPAN}-d", 1),
        (f"{TRACE}-{SPAN}-true", 1),
        (f"{TRACE}-{SPAN}-x", 0),
        (f"{TRACE}-{SPAN}-", 0),
        (f"{TRACE}-{SPAN}", 1),
        (f"{TRACE}-{SPAN}-1-{SPAN}", 1),
        (f"{TRACE}-{SPAN}-0-{SPAN}".upper(), 0),
        (f"{TRACE}-{SPAN}-1-" + "x" * 460, 1),
    ],
    ids=briefly,
)
def test_b3(codec: Codec, header: str, flags: int) -> None:
    assert codec.parse_b3(header) == (*IDS, flags)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "0",
        "1",
        "d",
        "-",
        "--",
        f"-{B3}",
        f" {B3}",
        f"{B3},{B3}",
        f"{TRACE}-{SPAN}-1-{SPAN}-",
        f"{TRACE[1:]}-{SPAN}-1",
        f"{TRACE}-{SPAN[1:]}-1",
        f"{'0' * 32}-{SPAN}-1",
        f"{'0' * 16}-{SPAN}-1",
        f"{TRACE}-{'0' * 16}-1",
        f"{TRACE[:-1]}g-{SPAN}-1",
        f"{TRACE[:-1]}\0-{SPAN}-1",
        f"{TRACE[:-1]}\n-{SPAN}-1",
        f"{TRACE[:-1]}\u0660-{SPAN}-1",
        f"{TRACE}-{SPAN}-1-" + "x" * 461,
        "-" * 1_000_000,
        "f" * 1_000_000,
        "\ud800",
        None,
        B3.encode(),
    ],
    ids=briefly,
)
def test_what_is_no_b3(codec: Codec, header: Any) -> None:
    started_s = time.perf_counter()
    assert codec.parse_b3(header) is None
    assert time.perf_counter() - started_s < 0.1


@pytest.mark.parametrize(
    ("values", "flags"),
    [
        ((TRACE, SPAN, "1", ""), 1),
        ((TRACE, SPAN, "", ""), 0),
        ((TRACE, SPAN, "", "1"), 1),
        ((TRACE, SPAN, "0", "1"), 1),
        ((TRACE.upper(), SPAN.upper(), "True", "0"), 1),
        ((TRACE, SPAN, "\ud800", "\ud800"), 0),
        ((TRACE, SPAN, None, None), 0),
        ((TRACE, "", "1", ""), None),
        (("", SPAN, "1", ""), None),
        (("0" * 32, SPAN, "1", ""), None),
        (("f" * 1_000_000, SPAN, "1", ""), None),
        ((TRACE + "\n", SPAN, "1", ""), None),
        ((None, SPAN, "1", ""), None),
    ],
    ids=briefly,
)
def test_b3_of_several_headers(codec: Codec, values: tuple[str, str, str, str], flags: int | None) -> None:
    assert codec.parse_b3_multi(*values) == (None if flags is None else (*IDS, flags))
    if flags is not None:
        short = (values[0][16:], *values[1:])
        assert codec.parse_b3_multi(*short) == (int(TRACE[16:], 16), IDS[1], flags)


@pytest.mark.parametrize("flags", [0, 1, 2, 3, 255])
def test_what_is_written_can_be_read(codec: Codec, flags: int) -> None:
    for trace_id, span_id in (IDS, (1, 1), (2**128 - 1, 2**64 - 1)):
        header = codec.format_traceparent(trace_id, span_id, flags)
        assert header == f"00-{trace_id:032x}-{span_id:016x}-{flags:02x}"
        assert codec.parse_traceparent(header) == (trace_id, span_id, flags & 3)
        header = codec.format_b3(trace_id, span_id, flags)
        assert header == f"{trace_id:032x}-{span_id:016x}-{flags & 1}"
        assert codec.parse_b3(header) == (trace_id, span_id, flags & 1)


def near(*whole: str) -> st.SearchStrategy[str]:
    """Texts that are nearly right: whole ones of which pieces were taken out, doubled, or replaced by anything."""

    def changed(text: str, edits: list[tuple[int, int, str]]) -> str:
        for at, length, instead in edits:
            at %= len(text) + 1
            text = text[:at] + instead + text[at + length :]
        return text

    piece = st.one_of(st.sampled_from([*"-,= \t@0fg", "00-", "\0", "ü", "\u0660", "\ud800"]), st.text(max_size=3))
    edits = st.lists(st.tuples(st.integers(0, 80), st.integers(0, 40), piece), max_size=3)
    return st.one_of(st.builds(changed, st.sampled_from(whole), edits), st.text())


@settings(database=None, suppress_health_check=[HealthCheck.too_slow])
@given(near(PARENT, f"01-{TRACE}-{SPAN}-01-later"), near(B3, f"{TRACE}-{SPAN}", f"{TRACE}-{SPAN}-0-{SPAN}"))
@example(PARENT + "\x85", B3 + "\u2028")
@example(PARENT, f"{TRACE}-{SPAN}-\ud8001")
def test_both_read_the_same_ids(traceparent: str, b3: str) -> None:
    native = native_codec()
    assert native.parse_traceparent(traceparent) == headers.parse_traceparent(traceparent)
    assert native.parse_b3(b3) == headers.parse_b3(b3)
    multi = [*b3.split("-"), "", "", "", ""][:4]
    assert native.parse_b3_multi(*multi) == headers.parse_b3_multi(*multi)


@settings(database=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(near("a=1,b=2", "foo@=1 ,\t1a= 2", ",".join(f"k{number}=1" for number in range(32))), max_size=5))
def test_both_read_the_same_tracestate(values: list[str]) -> None:
    assert list(native_codec().parse_tracestate(values).items()) == list(headers.parse_tracestate(values).items())
